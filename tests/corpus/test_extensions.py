"""A file format and an adapter are added from outside of the package, in one file each, and used in a real build."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]

FORMAT = """
import xml.etree.ElementTree as ET

def rows(file):
    for _, element in ET.iterparse(file):
        if element.tag == "sum":
            yield {"left": element.get("left"), "right": element.text}
            element.clear()
"""

ADAPTER = """
def sums(row):
    if row["left"] is None:
        raise ValueError("a sum without its left side")
    return [(f"What is {row['left']}?", f"It is {row['right']}.")]
"""

XML = "<sums>" + "".join(f'<sum left="{n} + {n}">{2 * n}</sum>' for n in range(40)) + "<sum>7</sum></sums>"

MIX: dict[str, Any] = {
    "name": "sums",
    "sources": [{"name": "sums", "path": "data", "format": "xml_sums:rows", "adapter": "ask:sums"}],
    "tokenizer": {"vocab_size": 300, "sample_bytes": "10kB"},
    "near_dedup": {"enabled": False},
}


def write(folder: Path, *, adapter: str = ADAPTER) -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/sums.xml").write_text(XML)
    (folder / "xml_sums.py").write_text(FORMAT)
    (folder / "ask.py").write_text(adapter)
    (folder / "mix.yaml").write_text(yaml.safe_dump(MIX))


def build(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline.build", str(folder / "mix.yaml"), "--out", str(folder / "out")]
    return subprocess.run([*command, "--workers", "2"], cwd=REPOSITORY, capture_output=True, text=True)


def responses(folder: Path) -> list[str]:
    return sorted(pl.read_parquet(folder / "out/curated/*.parquet")["response"].to_list())


@pytest.mark.slow  # runs three builds
def test_format_and_adapter_from_outside_are_used_in_a_build_and_part_of_its_identity(tmp_path: Path) -> None:
    write(tmp_path)
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert responses(tmp_path) == sorted(f"It is {2 * n}." for n in range(40))
    ledger = pl.read_parquet(tmp_path / "out/ledger/rows*.parquet").filter(pl.col("outcome") != "kept")
    assert ledger["detail"].to_list() == ["row 41: ask:sums raised ValueError: 'a sum without its left side'"]
    lock = yaml.safe_load((tmp_path / "out/mix.lock.yaml").read_text())
    (source,) = lock["manifest"]["sources"]
    assert source["adapter"]["reference"] == "ask:sums"
    assert len(source["adapter"]["sha256"]) == 64

    assert "nothing to do" in build(tmp_path).stdout

    write(tmp_path, adapter=ADAPTER.replace("It is", "That is"))
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert responses(tmp_path) == sorted(f"That is {2 * n}." for n in range(40))


def test_reference_that_leads_nowhere_is_an_error_of_the_manifest(tmp_path: Path) -> None:
    write(tmp_path, adapter="def other(row): ...")
    done = build(tmp_path)
    assert done.returncode == 2
    assert "mix.yaml: sources.0.adapter: " in done.stderr
    assert "ask.py does not define 'sums'" in done.stderr
