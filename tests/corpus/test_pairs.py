"""Strata, conditions, meta and the declarative map: how a manifest determines a source's pairs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corpus.discover import discover
from corpus.outcome import Outcome
from corpus.pairs import Limits, read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w


def read(folder: Path, rows: list[dict[str, Any]], limits: Limits | None = None, **spec: Any) -> list[Pair | Rejected]:
    w.write(folder / "sub" / "rows.jsonl", w.jsonl(rows))
    source = SourceSpec(name="s", path=".", **spec)
    (file,) = discover(source, folder)
    *found, end = read_pairs(source, file, limits=limits or Limits())
    assert isinstance(end, FileEnd)
    return [row for row in found if isinstance(row, Pair | Rejected)]


def one(folder: Path, row: dict[str, Any], **spec: Any) -> Pair:
    (found,) = read(folder, [row], **spec)
    assert isinstance(found, Pair), found
    return found


ROW = {"question": "a", "answer": "b", "topic": {"name": "sums"}, "level": 3}


def test_stratum_is_the_file_the_source_or_a_column(tmp_path: Path) -> None:
    assert one(tmp_path, ROW).task == "sub/rows"
    assert one(tmp_path, ROW, task="source").task == "s"
    assert one(tmp_path, ROW, task="column:level").task == "3"
    assert one(tmp_path, ROW, task="column:topic.name").task == "sums"
    (rejected,) = read(tmp_path, [{"question": "a", "answer": "b"}], task="column:level")
    assert isinstance(rejected, Rejected)
    assert rejected.reason == Outcome.MISSING_FIELD


def test_answer_that_only_a_late_row_marks_as_bad_is_no_pair(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"question": f"a{n}", "answer": "b"} for n in range(40)]
    found = read(
        tmp_path, [*rows, rows[0] | {"is_correct": False}, rows[1] | {"is_rejected": True}, rows[2] | {"label": 0}]
    )
    assert [row.reason for row in found if isinstance(row, Rejected)] == [Outcome.REJECTED_LABEL] * 2
    assert len(read(tmp_path, [*rows, rows[0] | {"is_correct": False}], adapter="pairs")) == 41


def test_pairs_of_one_row_are_numbered(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "answer": ["x", "y"]},
        {"question": "a", "answer": None},
        {"question": "a", "answer": "z"},
    ]
    found = read(tmp_path, rows)
    assert [(type(row), row.row, row.part) for row in found] == [
        (Pair, 0, 0),
        (Pair, 0, 1),
        (Rejected, 1, 0),
        (Pair, 2, 0),
    ]


def test_excluded_answers_are_numbered_with_the_pairs_of_their_row(tmp_path: Path) -> None:
    weights = (0, 1, 0, 1)
    answers = [{"role": "assistant", "content": str(number), "weight": weight} for number, weight in enumerate(weights)]
    turns = [turn for answer in answers for turn in ({"role": "user", "content": "a"}, answer)]
    found = read(tmp_path, [{"messages": turns}, {"question": "a", "answer": "b"}], adapter="chat")
    assert [(type(row), row.row, row.part) for row in found] == [
        (Rejected, 0, 0),
        (Pair, 0, 1),
        (Rejected, 0, 2),
        (Pair, 0, 3),
        (Rejected, 1, 0),
    ]


def test_other_columns_are_kept_as_meta(tmp_path: Path) -> None:
    assert json.loads(one(tmp_path, ROW).meta or "") == {"topic": {"name": "sums"}, "level": 3}
    assert one(tmp_path, {"question": "a", "answer": "b", "note": None}).meta is None


def test_meta_keeps_the_columns_that_fit(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b", "first": 1, "long": "x" * 200, "last": "é" * 10}
    (found,) = read(tmp_path, [row], Limits(max_meta_bytes=100))
    assert isinstance(found, Pair)
    assert json.loads(found.meta or "") == {"first": 1, "last": "é" * 10}


def test_conditions_of_source_and_row_are_joined_in_template_order(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b"}
    assert one(tmp_path, row, condition=["cot"]).condition == ("cot",)
    assert one(tmp_path, row | {"condition": ["synth", "direct"]}, condition=["cot"]).condition == (
        "synth",
        "cot",
        "direct",
    )
    assert one(tmp_path, row | {"condition": "synth, cot"}).condition == ("synth", "cot")
    assert one(tmp_path, row | {"condition": "synth, cot"}).meta is None


def test_column_named_condition_with_other_values_is_kept_as_meta(tmp_path: Path) -> None:
    found = one(tmp_path, {"question": "a", "answer": "b", "condition": "diabetes"})
    assert found.condition == ()
    assert json.loads(found.meta or "") == {"condition": "diabetes"}


def test_map_makes_pairs_of_rows_that_no_adapter_fits(tmp_path: Path) -> None:
    row = {"left": "a", "right": 2, "kind": "cot", "topic": {"name": "sums"}, "more": "m"}
    template = {"instruction": "{left}\n{right}", "response": "={right}", "condition": "{kind}", "task": "{topic.name}"}
    assert one(tmp_path, row, map=template) == Pair(
        0, 0, "sums", "a\n2", "=2", ("cot",), '{"kind": "cot", "topic": {"name": "sums"}, "more": "m"}'
    )
    (rejected,) = read(tmp_path, [row | {"kind": "loud"}], map=template)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, "loud" in rejected.detail) == (Outcome.WRONG_TYPE, True)


def test_map_condition_may_be_a_list_of_names(tmp_path: Path) -> None:
    template = {"instruction": "{question}", "response": "{answer}", "condition": ["noisy"]}
    assert one(tmp_path, ROW, map=template, condition=["direct"]).condition == ("noisy", "direct")


def test_nan_of_a_parquet_column_is_null_and_inside_a_list_readable_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    w.write(path, w.parquet([{"question": "a", "input": math.nan, "answer": "b", "all": [math.nan]}]))
    spec = SourceSpec(name="s", path=str(path))
    pair = next(read_pairs(spec, discover(spec, tmp_path)[0]))
    assert isinstance(pair, Pair)
    assert (pair.instruction, pair.response) == ("a", "b")
    assert json.loads(pair.meta or "") == {"all": ["NaN"]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "exactly one of path and generator, found neither"),
        ({"path": "x", "generator": "y", "rows": 1}, "exactly one of path and generator, found both"),
        ({"path": []}, "path is empty"),
        ({"generator": "y"}, "a generator needs rows"),
        ({"path": "x", "rows": 1}, "rows belongs to a generator"),
        ({"path": "x", "adapter": "pair"}, "unknown adapter 'pair'; did you mean 'pairs'"),
        ({"path": "x", "condition": ["cott"]}, "unknown condition 'cott'"),
        ({"path": "x", "map": {"instruction": "x", "response": "{y}"}}, "names no column"),
        ({"path": "x", "map": {"instruction": "{x", "response": "{y}"}}, "single '{'"),
        ({"path": "x", "map": {"instruction": "{x}", "response": "{y}"}, "adapter": "pairs"}, "at most one of adapter"),
        ({"path": "x", "name": "a/b"}, "pattern"),
        ({"path": "x", "task": "colum:x"}, "pattern"),
        ({"path": "x", "format": "xml"}, "jsonl"),
    ],
)
def test_contradictory_source_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceSpec(**({"name": "s"} | spec))
