"""The dry run names what it does not read, in a line for each reason."""

from pathlib import Path

import pytest

from pipeline.manifest import load
from pipeline.report.preview import preview
from tests.corpus import write as w


def test_dry_run_names_many_files_of_another_kind_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(300):
        w.write(tmp_path / "set" / f"{number:03d}.xml", b"<row><q>a</q></row>\n")
        w.write(tmp_path / "set" / f"{number:03d}.{'ab'[number % 2]}{number}", b"some words\n")
    for name in ("rows.jsonl.part", "_SUCCESS", "rows.jsonl"):
        w.write(tmp_path / "set" / name, w.jsonl(w.pairs(2)))
    manifest = tmp_path / "mix.yaml"
    manifest.write_text("{name: m, sources: [{name: s, path: set}]}")
    preview(load(manifest), tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert len(lines) == 3
    (xml,) = (line for line in lines if ".xml" in line)
    assert "600 files (300 .xml, 1 .a0, 1 .b1, …; 000.a0, 000.xml, 001.b1, …) skipped: plain text" in xml
    assert any(line.startswith("  rows.jsonl.part skipped: a partial download") for line in lines)
    assert any(line.startswith("  _SUCCESS skipped: hidden by its name") for line in lines)
