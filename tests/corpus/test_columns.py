"""Columns that no pair used: their fill rates, and which of them are context by their names."""

import math
from pathlib import Path
from typing import Any

import pytest

from corpus.columns import MAX_COLUMNS, OTHERS, ColumnCounter, context_columns, merged
from corpus.discover import discover
from corpus.pairs import read_pairs
from corpus.record import Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w


def counted(*rows: dict[str, Any], used: frozenset[str] = frozenset({"q", "a"})) -> ColumnCounter:
    counter = ColumnCounter()
    for row in rows:
        counter.add(row, used)
    return counter


def test_rows_in_which_a_column_is_filled_and_unused_are_counted() -> None:
    row = {"q": "Why?", "a": "So.", "history": []}
    counter = counted(
        row, row | {"history": [["Hi", "Hello"]], "source": "web"}, row | {"source": "book", "n": math.nan}
    )
    assert counter.rows == 3
    found = [(use.name, use.unused, use.example) for use in counter.columns]
    assert found == [("history", 1, "[['Hi', 'Hello']]"), ("source", 2, "'web'")]


def test_column_that_only_some_rows_use_counts_as_both() -> None:
    counter = counted({"q": "Why?", "input": "x"})
    counter.add({"q": "Why?", "input": "y"}, frozenset({"q", "input"}))
    (use,) = counter.columns
    assert (use.name, use.unused, use.used) == ("input", 1, 1)
    (total,) = merged([use, use])
    assert (total.unused, total.used, total.example) == (2, 2, "'x'")


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_keys_of_turns_that_nothing_reads_are_counted_by_rows(column: str, tmp_path: Path) -> None:
    role, text = ("role", "content") if column == "messages" else ("from", "value")
    question = {role: "user", text: "q", "name": "Ann", "timestamp": None}
    answer = {role: "assistant", text: "a", "reasoning_content": "hm", "weight": 1, "tool_calls": None}
    call = {role: "assistant", text: None, "tool_calls": [{"name": "f"}], "id": 7}
    result = {role: "tool", text: "r", "tool_call_id": "c1", "name": "f"}
    rows = [{column: [question, answer]}, {column: [question, call, result, answer]}, {column: [question, answer][:2]}]
    w.write(tmp_path / "set.jsonl", w.jsonl(rows))
    spec = SourceSpec(name="s", path="set.jsonl")
    (file,) = discover(spec, tmp_path)
    counter = ColumnCounter()
    assert not any(isinstance(item, Rejected) for item in read_pairs(spec, file, columns=counter))
    found = {use.name: (use.unused, use.example) for use in counter.columns}
    assert found == {
        f"{column}.*.name": (3, "'Ann'"),
        f"{column}.*.reasoning_content": (3, "'hm'"),
        f"{column}.*.tool_call_id": (1, "'c1'"),
    }


def test_number_of_columns_in_memory_is_bounded() -> None:
    counter = counted(*({f"key{number}": 1} for number in range(MAX_COLUMNS + 50)))
    assert len(counter.columns) == MAX_COLUMNS + 1
    assert [use.unused for use in counter.columns if use.name == OTHERS] == [50]


@pytest.mark.parametrize("value", [None, "", " \n", [], {}, [None, ""], {"a": None}, "[]", math.nan])
def test_empty_values_are_not_filled(value: object) -> None:
    assert counted({"q": "Why?", "note": value}).columns == ()


@pytest.mark.parametrize("value", [0, False, "x", [0], {"a": {"b": "x"}}])
def test_other_values_are_filled(value: object) -> None:
    assert counted({"q": "Why?", "note": value}).columns


@pytest.mark.parametrize(
    "names",
    [
        ["system"], ["System Prompt"], ["chat_history"], ["Passage"], ["paragraphs"], ["story"], ["options"], ["tools"],
        ["functions"], ["A", "B", "C", "D"], ["option_a", "option_b"], ["opa", "opb"], ["choice1", "choice2"],
        ["ending0", "ending1"],
    ],
)  # fmt: skip
def test_names_of_context(names: list[str]) -> None:
    assert context_columns(["id", *names, "source"]) == names


def test_other_names_are_no_context() -> None:
    assert (
        context_columns(["id", "source", "category", "A", "text", "answer", "score", "0", "1", "topic", "label"]) == []
    )


def test_columns_of_the_manifest_are_used_and_rows_without_a_pair_are_not_counted(tmp_path: Path) -> None:
    row = {"ask": "Why?", "say": "So.", "kind": "why", "from": {"page": 3}, "url": "x", "note": "n"}
    w.write(tmp_path / "rows.jsonl", w.jsonl([row, {"ask": None, "say": "So.", "note": "n"}]))
    template = {"instruction": "{ask} ({from.page})", "response": "{say}"}
    spec = SourceSpec.model_validate({"name": "s", "path": "rows.jsonl", "map": template, "task": "column:kind"})
    counter = ColumnCounter()
    for file in discover(spec, tmp_path):
        list(read_pairs(spec, file, columns=counter))
    assert counter.rows == 1
    assert [use.name for use in counter.columns] == ["url", "note"]
