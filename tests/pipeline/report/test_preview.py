"""The dry run: what it reads of each file, what it names, and whether a build would stop."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from corpus.discover import discover
from pipeline.build import main
from pipeline.guard import Guard
from pipeline.manifest import Mix, load
from pipeline.report import survey
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
    preview(load(manifest), tmp_path, verbose=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if " skipped: " in line]
    assert len(lines) == 3
    (xml,) = (line for line in lines if ".xml" in line)
    assert "600 files (300 .xml, 1 .a0, 1 .b1, …; 000.a0, 000.xml, 001.b1, …) skipped: plain text" in xml
    assert any(line.startswith("  rows.jsonl.part skipped: a partial download") for line in lines)
    assert any(line.startswith("  _SUCCESS skipped: hidden by its name") for line in lines)


def dry_run(folder: Path, **source: Any) -> list[str]:
    """Preview a mix of one source; return the problems that a build would stop for."""
    (folder / "mix.yaml").write_text(json.dumps({"name": "m", "sources": [{"name": "s", "path": "set", **source}]}))
    return preview(load(folder / "mix.yaml"), folder, verbose=True)


def test_dry_run_fails_where_the_build_would_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    w.write(tmp_path / "set/good.jsonl", w.jsonl(w.pairs(5)))
    w.write(tmp_path / "set/odd.jsonl", w.jsonl([{"colour": "red"}] * 4))
    (tmp_path / "mix.yaml").write_text("{name: m, sources: [{name: s, path: set}]}")
    assert main([str(tmp_path / "mix.yaml"), "--dry-run", "--verbose"]) == 1
    shown = capsys.readouterr().out
    assert "4 missing_field, as in odd.jsonl, line 1: " in shown
    assert "a build would stop: no pair was read from these sources or files" in shown
    assert "source s (train): 1 of 2 files" in shown
    assert main([str(tmp_path / "mix.yaml"), "--dry-run", "sources.s.exclude=[odd.jsonl]"]) == 0


def many_sources(folder: Path, count: int) -> Path:
    """Write a mix of many sources; one row of ten has no answer, and one column is unused."""
    rows = [{"instruction": f"Say {n}.", "response": f"{n}" if n % 10 else "", "note": "x"} for n in range(20)]
    sources = []
    for number in range(count):
        w.write(folder / f"data/{number}.jsonl", w.jsonl(rows))
        sources.append({"name": f"source-{number}", "path": f"data/{number}.jsonl"})
    manifest = folder / "mix.yaml"
    manifest.write_text(json.dumps({"name": "m", "out": str(folder / "out"), "sources": sources}))
    return manifest


def test_dry_run_is_one_page_with_a_verdict_at_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(many_sources(tmp_path, 60)), "--dry-run", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) < 45
    text = "\n".join(lines)
    assert re.search(r"source-0 +train +1 +- +\S+ kB +20 +20 +10.0 % +jsonl pairs", text)
    assert re.search(r"and 40 more +40 +- +\S+ kB +800 +800 +10.0 %", text)
    assert re.search(r"all +60 +- +\S+ kB +1,200 +1,200 +10.0 %", text)
    assert "rules keep 1,080 (90.0 %); empty response 120" in text
    assert "source-0: note (100 %)" in text
    assert "and 54 more" in text
    assert re.search(r"a build takes about 10 s with 1 worker .* of memory and about \S+ kB of disk", text)
    assert lines[-1].startswith("verdict: nothing in what was read would stop a build; nothing was written.")
    assert not (tmp_path / "out").exists()


def test_dry_run_shows_details_of_one_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = str(many_sources(tmp_path, 2))
    assert main([manifest, "--dry-run", "--source", "source-1"]) == 0
    text = capsys.readouterr().out
    assert "2 empty_response" in text
    assert "source-1 (train): 1 file, " in text
    assert "source-0 (train)" not in text
    assert main([manifest, "--dry-run", "--source", "source-9"]) == 2
    assert "--source source-9: the manifest has no such source" in capsys.readouterr().err
    assert main([manifest, "--verbose"]) == 2


def test_dry_run_fails_where_the_build_would_refuse_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = str(many_sources(tmp_path, 1))
    (tmp_path / "out/shards").mkdir(parents=True)
    (tmp_path / "out/shards/mine.txt").write_text("mine")
    assert main([manifest, "--dry-run"]) == 1
    text = capsys.readouterr().out
    assert "a build would stop: " in text
    assert "shards/mine.txt" in text
    assert text.rstrip().endswith("verdict: a build would stop (1 problem, above); nothing was written")
    assert main([manifest, "--dry-run", "--out", str(tmp_path / "other")]) == 0
    assert main([manifest, "--dry-run", "--out", str(tmp_path / "other"), "tokenizer.file=absent.json"]) == 1


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_of_a_file_that_is_read_in_part_are_estimated(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "SOURCE_BYTES", 40_000)
    monkeypatch.setattr(survey, "LEAST_BYTES", 40_000)
    text = w.jsonl([{"instruction": f"Say {n} {n**9}.", "response": f"{n}"} for n in range(20_000)])
    w.write(tmp_path / "set" / name, text if name == "rows.jsonl" else gzip.compress(text))
    preview(load_mix(tmp_path), tmp_path)
    about = re.search(r"about (\d+),(\d+)", capsys.readouterr().out)
    assert about is not None
    assert 10_000 < int("".join(about.groups())) < 40_000


def test_dry_run_reads_beyond_the_first_good_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = w.pairs(300) + [{"instruction": f"Say {n}.", "response": " "} for n in range(600)]
    w.write(
        tmp_path / "set/rows.jsonl", w.jsonl([*rows, {"instruction": "x", "response": "y", "passage": "It rained."}])
    )
    empty, context = dry_run(tmp_path, map={"instruction": "{instruction}", "response": "{response}"})
    assert "s       empty_response      901      600  66.6%    50.0%" in empty
    assert "passage: < 1 %, as 'It rained.'" in context
    assert "read: 901 pairs, 0 rows without a pair" in capsys.readouterr().out


def test_dry_run_applies_the_quality_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": f"Say {n} again.", "response": f"{n} and on " * 80} for n in range(600)]
    w.write(tmp_path / "set/rows.jsonl", w.jsonl(rows + w.pairs(20)))
    (problem,) = dry_run(tmp_path)
    assert "s       repetitive      620      600  96.8%    50.0%" in problem
    assert "600 repetitive, as in rows.jsonl, " in capsys.readouterr().out


def test_message_has_a_line_for_each_cause_and_not_for_each_file(tmp_path: Path) -> None:
    for number in range(60):
        w.write(tmp_path / f"set/{number:02d}.xml", b"<row/>" * number)
    (problem,) = dry_run(tmp_path)
    assert problem.count(".xml") == 5
    assert "00.xml: empty, 0 bytes" in problem
    assert "and 58 more for the same reason: 02.xml, 03.xml, 04.xml, …" in problem


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_sample_of_a_large_file_is_from_all_over_it(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "SOURCE_BYTES", 20_000)
    monkeypatch.setattr(survey, "LEAST_BYTES", 20_000)
    rows = [{"instruction": f"Say {n} {n**9}.", "response": f"{n}"} for n in range(20_000)]
    late = [{"instruction": f"Say {n} {n**9}.", "response": ""} for n in range(20_000, 40_000)]
    (tmp_path / "set").mkdir()
    frame = pl.DataFrame(rows + late)
    if suffix == "jsonl":
        frame.write_ndjson(tmp_path / "set/rows.jsonl")
    else:
        frame.write_parquet(tmp_path / "set/rows.parquet", row_group_size=1000)
    spec = load_mix(tmp_path).sources[0]
    found = survey.survey(load_mix(tmp_path), spec, discover(spec, tmp_path))
    result = found.files[0].found
    assert found.partial == 1
    assert 0 < result.pairs < 10_000
    assert result.rejected == 0
    assert 0.3 < result.dropped["empty_response"] / result.pairs < 0.7


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl.gz", "rows.csv"])
def test_other_formats_are_read_up_to_a_number_of_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SOURCE_BYTES", 20_000)
    monkeypatch.setattr(survey, "LEAST_BYTES", 20_000)
    rows = [{"instruction": f"Say {n} {n**9}.", "response": hashlib.sha256(b"%d" % n).hexdigest()} for n in range(3000)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = "".join(f"{row['instruction']},{row['response']}\n" for row in rows).encode()
    contents = {
        "rows.json": json.dumps(rows).encode(),
        "rows.jsonl.gz": gzip.compress(lines),
        "rows.csv": b"instruction,response\n" + table,
    }
    w.write(tmp_path / "set" / name, contents[name])
    mix = load_mix(tmp_path)
    found = survey.survey(mix, mix.sources[0], discover(mix.sources[0], tmp_path))
    result = found.files[0].found
    assert (found.partial, result.rejected, result.dropped) == (1, 0, {})
    assert 100 < result.pairs < 1000
    assert Guard(mix, found.files).file_problems() == []


def test_row_longer_than_the_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SOURCE_BYTES", 1000)
    monkeypatch.setattr(survey, "LEAST_BYTES", 1000)
    w.write(tmp_path / "set/rows.json", json.dumps([{"instruction": "x" * 50_000, "response": "y"}] * 9).encode())
    mix = load_mix(tmp_path)
    found = survey.survey(mix, mix.sources[0], discover(mix.sources[0], tmp_path))
    assert found.files[0].found.pairs > 0


def load_mix(folder: Path) -> Mix:
    """Load a mix of one source, the folder `set`."""
    (folder / "mix.yaml").write_text("{name: m, sources: [{name: s, path: set}]}")
    return load(folder / "mix.yaml")


def test_dry_run_says_what_is_uncertain_once_for_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, index in (("a", 1), ("b", 1)):
        w.write(tmp_path / f"set/{name}.jsonl", w.jsonl([{"question": "q", "options": ["w", "x"], "answer": index}]))
    dry_run(tmp_path)
    assert capsys.readouterr().out.count("uncertain: source 's', a.jsonl and 1 more files: the numbers in") == 1


@pytest.mark.parametrize(("margin", "share"), [(None, 1.0), (1.5, 0.3), (2, 0.4), (40, 1.0)])
def test_estimates_of_time_and_disk_count_what_draw_margin_leaves(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    margin: float | None,
    share: float,
) -> None:
    # Two strata, of 500 and of 1,500 rows; two epochs draw 200 of each.
    for name, rows in (("a", 500), ("b", 1500)):
        w.write(
            tmp_path / f"set/{name}.jsonl",
            w.jsonl([{"instruction": f"Say {n}.", "response": "x" * 900} for n in range(rows)]),
        )
    mix = {"name": "m", "epochs": 2, "sources": [{"name": "s", "path": "set", "task": "file", "max_per_epoch": 100}]}
    if margin is not None:
        mix["draw_margin"] = margin
    (tmp_path / "mix.yaml").write_text(json.dumps(mix))
    monkeypatch.setattr("pipeline.report.preview.CORE_RATE", 1e4)
    preview(load(tmp_path / "mix.yaml"), tmp_path)
    text = capsys.readouterr().out
    found = re.search(
        r"takes about (\d+) (s|min) .* about (\S+) MB of disk .* estimates from (\S+) MB of text(.*)", text
    )
    assert found
    size = float(found[4])
    assert float(found[3]) == pytest.approx(4 * size * (0.3 + 0.7 * share), rel=0.03)
    seconds = float(found[1]) * (60 if found[2] == "min" else 1)
    assert seconds == pytest.approx(10 + 100 * size * (0.3 + 0.7 * share), rel=0.15)
    assert ("curated (draw_margin)" in found[5]) == (share < 1)
