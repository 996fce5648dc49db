"""`corpus.read` gives a frame of records, as its documentation shows."""

import doctest
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pytest

import corpus
import corpus.generators
import corpus.library
from corpus.record import SCHEMA
from tests.corpus import write as w


@pytest.mark.parametrize("module", [corpus.library, corpus.generators])
def test_documented_examples_run(module: Any) -> None:
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_corpus_is_imported_without_polars() -> None:
    code = "import sys, corpus; assert not {'polars', 'pyarrow', 'pydantic'} & set(sys.modules); corpus.read"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_records_of_all_files_have_the_schema_of_records(tmp_path: Path) -> None:
    w.write(tmp_path / "a.jsonl", w.jsonl(w.pairs(3)))
    w.write(tmp_path / "b/c.csv", w.delimited(w.pairs(2), ","))
    frame = corpus.read(tmp_path, source="sums")
    assert frame.schema == pl.from_arrow(SCHEMA.empty_table()).schema
    assert frame["task"].to_list() == ["a"] * 3 + ["b/c"] * 2
    assert frame["row_id"].n_unique() == 5
    assert frame["source"].unique().to_list() == ["sums"]
    w.write(tmp_path / "a.jsonl", b"")
    assert corpus.read(tmp_path / "a.jsonl").schema == frame.schema


def test_batches_of_a_large_file_are_its_records(tmp_path: Path) -> None:
    w.write(tmp_path / "a.jsonl", w.jsonl(w.pairs(20_000)))
    batches = list(corpus.read_batches(tmp_path / "a.jsonl"))
    assert len(batches) > 1
    assert pl.concat(batches).equals(corpus.read(tmp_path / "a.jsonl"))


def test_rows_without_a_pair_and_broken_files_are_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    w.write(tmp_path / "a.jsonl", w.jsonl(w.pairs(1)) + b"{\n{}\n")
    w.write(tmp_path / "b.json", w.json_array(w.pairs(9))[:-20])
    with caplog.at_level(logging.WARNING):
        assert len(corpus.read(tmp_path)) == 9
    lines, array = (record.getMessage() for record in caplog.records)
    assert "a.jsonl: rows without a pair: 1 invalid_syntax, 1 missing_field; line 2: " in lines
    assert "b.json: truncated: byte " in array


def test_format_and_adapter_may_be_functions(tmp_path: Path) -> None:
    def lines(file: BinaryIO) -> Iterator[dict[str, Any]]:
        for line in file:
            yield {"text": line.decode().strip()}

    w.write(tmp_path / "sums.txt", b"1 + 1 = 2\n2 + 2 = 4\n")
    frame = corpus.read(tmp_path, format=lines, adapter=lambda row: [tuple(row["text"].split(" = "))])
    assert frame.select("instruction", "response").rows() == [("1 + 1", "2"), ("2 + 2", "4")]


def test_column_templates_take_the_place_of_an_adapter(tmp_path: Path) -> None:
    w.write(tmp_path / "a.jsonl", b'{"left": "a", "right": "b"}\n')
    frame = corpus.read(tmp_path, map={"instruction": "{left}?", "response": "{right}"})
    assert frame.select("instruction", "response").row(0) == ("a?", "b")
