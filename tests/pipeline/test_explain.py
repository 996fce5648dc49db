"""Explain shows where a row came from and its outcome, with its text and that of its twin."""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from corpus import inspect
from corpus.contract import FORMAT
from pipeline.explain import _difference, main

pytestmark = pytest.mark.slow  # builds datasets


@pytest.fixture(scope="module")
def ledger(dataset: Path) -> pl.DataFrame:
    return pl.read_parquet(dataset / "ledger/rows-*.parquet")


def explained(capsys: pytest.CaptureFixture[str], dataset: Path, row_id: str) -> str:
    assert main([str(dataset), row_id]) == 0
    return capsys.readouterr().out


def test_kept_row_shows_its_text_and_sample(
    dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    for sample in (0, 411, ledger["sample"].max()):
        line = ledger.filter(pl.col("sample") == sample).row(0, named=True)
        record = pl.read_parquet(dataset / "curated").row(int(str(sample)), named=True)
        text = explained(capsys, dataset, line["row_id"])
        for part in (line["file"], "kept", f"sample       {sample:,}", record["instruction"], record["response"]):
            assert part in text


def test_duplicate_shows_the_twin_and_its_text(
    dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ledger.filter((pl.col("outcome") == "exact_duplicate") & (pl.col("source") == "second")).row(0, named=True)
    text = explained(capsys, dataset, line["row_id"])
    assert f"lost to      {line['twin']}" in text
    assert "instruction  Question 1-" in text


def test_row_that_was_never_a_pair_shows_the_reason_and_place(
    dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ledger.filter(pl.col("outcome") == "invalid_syntax").row(0, named=True)
    text = explained(capsys, dataset, line["row_id"][:12].upper())
    assert "invalid_syntax" in text
    assert "line 308" in text


def test_eval_row_shows_its_text(dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    line = ledger.filter((pl.col("source") == "held") & (pl.col("outcome") == "kept")).row(0, named=True)
    assert "instruction  Question 5-" in explained(capsys, dataset, line["row_id"])


@pytest.mark.parametrize(
    ("row_id", "message", "code"),
    [("f" * 32, "no row id begins", 1), ("xyz", "is not a row id", 2), ("", "is not a row id", 2)],
)
def test_unknown_row_is_a_clear_error(
    dataset: Path, row_id: str, message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dataset), row_id]) == code
    assert message in capsys.readouterr().err


def test_ambiguous_prefix_lists_the_candidates(
    dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dataset), "a"]) == 1
    error = capsys.readouterr().err
    assert "give more digits" in error
    assert sum(line.strip().startswith("a") for line in error.splitlines()) == 10


def test_folder_without_a_dataset_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "a"]) == 1
    assert "build the dataset first" in capsys.readouterr().err


@pytest.mark.parametrize("record", ["{}", "[1]", '{"format": "millrace-dataset/1"}', '{"format": "' + FORMAT + '"}'])
def test_dataset_json_with_other_content_is_a_clear_error(
    tmp_path: Path, record: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dataset.json").write_text(record)
    assert main([str(tmp_path), "ab"]) == 1
    error = capsys.readouterr().err
    assert "dataset.json: " in error
    assert "build the dataset again" in error


def test_command_exits_with_the_documented_code(dataset: Path, ledger: pl.DataFrame) -> None:
    # Threads of pyarrow that outlive main would abort the interpreter, in about one run of three.
    for row_id in ledger["row_id"][:6]:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.explain", str(dataset), row_id],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_text_of_a_dropped_row_is_read_again_and_compared_with_the_row_kept_instead(
    mix: Path, dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ledger.filter((pl.col("outcome") == "exact_duplicate") & (pl.col("source") == "second")).row(0, named=True)
    assert main([str(dataset), line["row_id"], "--base", str(mix.parent)]) == 0
    text = capsys.readouterr().out
    assert "instruction  Question  1-" in text
    assert "instruction  Question 1-" in text
    assert "differences: " in text
    marked = _difference("Say a new word", "Say an old word, please").plain
    assert marked == "Say [-a new word-] [+an old word, please+] "


def test_row_is_found_by_its_file_and_number(
    mix: Path, dataset: Path, ledger: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ledger.filter(pl.col("outcome") == "repetitive").row(0, named=True)
    place = ["--file", line["file"], "--row", str(line["row"])]
    assert main([str(dataset), *place, "--base", str(mix.parent)]) == 0
    assert "again and again" in capsys.readouterr().out
    assert main([str(dataset), "--file", "a.jsonl", "--row", "100000"]) == 1
    assert "no source has a row 100,000" in capsys.readouterr().err
    assert main([str(dataset), "--file", "a.jsonl"]) == 2


def test_changed_or_missing_input_is_named_instead_of_showing_another_text(
    mix: Path, dataset: Path, ledger: pl.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ledger.filter(pl.col("outcome") == "repetitive").row(0, named=True)
    assert main([str(dataset), line["row_id"], "--base", str(tmp_path)]) == 0
    assert "its input cannot be read" in capsys.readouterr().out
    moved = shutil.copytree(mix.parent, tmp_path / "inputs")
    file = moved / "first/a.jsonl"
    file.write_bytes(file.read_bytes().replace(b"again and again", b"never and never"))
    assert main([str(dataset), line["row_id"], "--base", str(moved)]) == 0
    text = capsys.readouterr().out
    assert "is not the file that the dataset was built from" in text
    assert "never and never" not in text


def test_search_of_dropped_rows_reads_them_again(mix: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = [str(dataset), "--search", "AGAIN AND again", "--dropped"]
    assert inspect.main([*search, "--base", str(mix.parent)]) == 0
    text = capsys.readouterr().out
    assert "first / a.jsonl row 304: repetitive" in text
    assert "1 dropped row contains" in text
    assert inspect.main([*search, "--base", str(mix.parent / "second")]) == 0
    assert "not searched: source 'first'" in capsys.readouterr().out
    assert inspect.main([str(dataset), "--dropped"]) == 2
