"""Real sources of many formats and schemas: every folder is read, every row accounted for."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from pipeline.verify import verify
from tests.pipeline.conftest import run_build

DATA = Path(__file__).parents[3] / "shared/data"

GUARD = {
    "t0_selfinstruct": {"empty_response": 1.0},
    "self_instruct_misc": {"repetitive": 0.95},
    "gsm8k_alpaca_style": {"near_duplicate": 1.0},
}
"""Losses that are right: templates without an answer, model outputs that repeat themselves, and the twin of another
source, which differs from it in calculator marks."""

pytestmark = [
    pytest.mark.skipif(not (DATA / "train_sources").is_dir(), reason=f"needs {DATA}/train_sources, which is not here"),
    pytest.mark.slow,  # builds 170,000 rows of real data
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    folders = sorted((DATA / "train_sources").iterdir())
    sources = [{"name": path.name, "path": str(path), "guard": GUARD.get(path.name, {})} for path in folders]
    tokenizer = {"vocab_size": 8192, "sample_bytes": "4MB"}
    (folder / "mix.yaml").write_text(yaml.safe_dump({"name": "real", "sources": sources, "tokenizer": tokenizer}))
    run_build(folder / "mix.yaml", folder / "out", workers=2)
    return folder / "out"


def test_dataset_is_sound(real: Path) -> None:
    assert [problem for check in verify(str(real)) for problem in check.problems] == []


def test_every_file_has_as_many_rows_as_its_manifest_says(real: Path) -> None:
    with (DATA / "MANIFEST.tsv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file, delimiter="\t") if line["path"].startswith("train_sources/")]
    expected = {line["path"].removeprefix("train_sources/"): int(line["rows"]) for line in lines if line["rows"]}
    files = pl.read_parquet(real / "ledger/files.parquet")
    found = {f"{line['source']}/{line['file']}": line["rows"] for line in files.iter_rows(named=True)}
    assert {path: found.get(path) for path in expected} == expected


def test_every_file_on_disk_is_listed_with_what_became_of_it(real: Path) -> None:
    files = pl.read_parquet(real / "ledger/files.parquet")
    top = DATA / "train_sources"
    on_disk = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    assert {f"{line['source']}/{line['file']}" for line in files.iter_rows(named=True)} == on_disk
    odd = files.filter(~pl.col("outcome").is_in(["read", "empty"]))
    assert odd["detail"].null_count() == 0
    assert files.filter(pl.col("outcome") == "read")["rows"].min() > 0


def test_every_source_conserves_its_rows_and_reaches_the_dataset(real: Path) -> None:
    counts = json.loads((real / "dataset.json").read_text())["counts"]
    ledger = pl.read_parquet(real / "ledger/rows-*.parquet")
    for source, count in counts.items():
        lines = ledger.filter(pl.col("source") == source)
        without = len(lines.filter(pl.col("stage") == "read"))
        assert count["pairs"] + without == len(lines) == count["kept"] + sum(count["dropped"].values())
        assert lines.filter(pl.col("part") == 0).height == count["rows"]
    assert sum(count["kept"] for count in counts.values()) > 100_000
