"""Each usual schema is detected from its rows and yields the pairs that its adapter documents."""

from collections.abc import Mapping
from typing import Any

import pytest

from corpus.adapters import ADAPTERS, guess
from corpus.adapters.base import as_text
from corpus.adapters.templates import fill, mapped, template_columns
from corpus.formats.base import LIST_KEY, RowError
from corpus.outcome import Outcome

TASK_FILE = {LIST_KEY: "Instances", "Definition": ["Add the numbers."], "URL": ["x"]}


def adapt(row: dict[str, Any], context: Mapping[str, Any] | None = None) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the detected adapter's name, and its pairs."""
    context = context or {}
    name = guess([row], context)
    return name, [tuple(draft) for draft in ADAPTERS[name or "pairs"].adapt(row, context).drafts]


def rejection(row: dict[str, Any], name: str | None = None) -> RowError:
    with pytest.raises(RowError) as caught:
        ADAPTERS[name or guess([row], {}) or "pairs"].adapt(row, {})
    return caught.value


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "a", "response": "b"}, ("a", "b")),
        ({"question": "a", "answer": "b"}, ("a", "b")),
        ({"Question": "a", "Answer": 2.0}, ("a", "2")),
        ({"problem": "a", "solution": "b", "answer": "4"}, ("a", "b")),
        ({"input": "a", "target": "b"}, ("a", "b")),
        ({"inputs": "a", "targets": "b", "task": "t"}, ("a", "b")),
        ({"prompt": "a", "canonical_solution": "b", "test": "c"}, ("a", "b")),
        ({"context": "a", "continuation": "b"}, ("a", "b")),
        ({"original_text": "How many ?", "equation": "X = 1", "ans": 3.5}, ("How many ?", "3.5")),
        # Alpaca and its relatives: the input follows the instruction after a blank line, if there is any.
        ({"instruction": "a", "input": "c", "output": "b"}, ("a\n\nc", "b")),
        ({"instruction": "a", "input": "", "output": "b"}, ("a", "b")),
        ({"instruction": "a", "input": None, "output": "b"}, ("a", "b")),
        ({"instruction": "a", "context": "c", "response": "b", "category": "d"}, ("a\n\nc", "b")),
        ({"definition": "a", "inputs": "c", "targets": "b"}, ("a\n\nc", "b")),
        # A passage precedes its question.
        ({"body": "c", "question": "a", "answer": "b"}, ("c\n\na", "b")),
        ({"context": "c", "question": "a", "answers": {"text": ["b"], "answer_start": [0]}}, ("c\n\na", "b")),
        # Predictions have the model's response and the gold target.
        ({"prompt": "p", "instruction": "a", "input": "c", "response": "b", "target": "g"}, ("a\n\nc", "b")),
    ],
)
def test_pairs_are_found_under_all_usual_names(row: dict[str, Any], expected: tuple[str, str]) -> None:
    assert adapt(row) == ("pairs", [expected])


def test_list_of_responses_gives_a_pair_for_each_distinct_one() -> None:
    assert adapt({"question": "a", "final_answer": "x", "answer": ["b", "c", "b"]})[1] == [("a", "b"), ("a", "c")]


def test_completion_loses_its_closing_end_of_text_and_nothing_else() -> None:
    assert adapt({"prompt": "a", "completion": " b<|endoftext|>"}) == ("prompt_completion", [("a", " b")])
    assert adapt({"prompt": "a<|endoftext|>", "completion": "b\n"})[1] == [("a<|endoftext|>", "b")]


def test_task_file_joins_its_definition_and_each_distinct_output() -> None:
    assert adapt({"id": "1", "input": "1 2", "output": ["3", "three", "3"]}, TASK_FILE) == (
        "superni",
        [("Add the numbers.\n\n1 2", "3"), ("Add the numbers.\n\n1 2", "three")],
    )
    assert adapt({"input": "1 2", "output": "3"}, TASK_FILE)[1] == [("Add the numbers.\n\n1 2", "3")]


def test_nested_instances_share_the_instruction() -> None:
    instances = [{"input": "x", "output": "1"}, {"input": "", "output": "2"}, {"output": ["3"]}]
    assert adapt({"instruction": "a", "instances": instances}) == (
        "nested_instances",
        [("a\n\nx", "1"), ("a", "2"), ("a", "3")],
    )
    assert rejection({"instruction": "a", "instances": []}).reason == Outcome.NO_PAIR
    assert "instances.0" in rejection({"instruction": "a", "instances": ["x"]}).detail


@pytest.mark.parametrize(
    "row",
    [
        {"query": "a", "choices": ["x", "y"], "gold": 1},
        {"question": "a", "choice0": "x", "choice1": "y", "answer": "1"},
        {"question": "a", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
    ],
)
def test_multiple_choice_asks_with_lettered_options_and_answers_with_the_text(row: dict[str, Any]) -> None:
    assert adapt(row) == ("choices", [("a\n\nA. x\nB. y", "y")])


def test_multiple_choice_without_a_valid_answer_is_rejected() -> None:
    error = rejection({"query": "a", "choices": ["x", "y"], "gold": 3})
    assert (error.reason, "one of 2 options" in error.detail) == (Outcome.WRONG_TYPE, True)


# Conversations


def roles(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def shares(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": role, "value": value} for role, value in turns]


def test_single_turn_conversation_is_the_bare_pair_in_both_spellings() -> None:
    assert adapt({"messages": roles(("user", "a"), ("assistant", "b"))}) == ("chat", [("a", "b")])
    assert adapt({"conversations": shares(("human", "a"), ("gpt", "b"))}) == ("chat", [("a", "b")])
    assert adapt({"conversations": shares(("user", "a"), ("assistant", "b"))}) == ("chat", [("a", "b")])


def test_each_assistant_turn_answers_the_whole_conversation_before_it() -> None:
    turns = (("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert adapt({"messages": roles(*turns)})[1] == [
        ("s\n\na", "b"),
        ("s\n\nUser: a\n\nAssistant: b\n\nUser: c", "d"),
    ]


def test_tools_are_system_text_and_calls_are_responses() -> None:
    turns = shares(("human", "a"), ("function_call", "f(1)"), ("observation", "2"), ("gpt", "It is 2."))
    assert adapt({"conversations": turns, "tools": '[{"name": "f"}]'})[1] == [
        ('[{"name": "f"}]\n\na', "f(1)"),
        ('[{"name": "f"}]\n\nUser: a\n\nTool call: f(1)\n\nTool result: 2', "It is 2."),
    ]


def test_message_without_text_but_with_tool_calls_is_the_call() -> None:
    messages = roles(("user", "a"), ("assistant", None))
    messages[1]["tool_calls"] = [{"name": "f"}]
    assert adapt({"messages": messages})[1] == [("a", '[{"name": "f"}]')]


def test_content_may_be_a_list_of_text_parts_and_nothing_else() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert adapt({"messages": roles(("user", parts), ("assistant", "c"))})[1] == [("ab", "c")]
    image = [{"type": "image_url", "image_url": "x"}]
    error = rejection({"messages": roles(("user", image), ("assistant", "c"))})
    assert (error.reason, error.detail.startswith("messages.0.content.0")) == (Outcome.MEDIA, True)


def test_greeting_before_the_first_question_is_not_an_answer() -> None:
    turns = shares(("gpt", "Hello!"), ("human", "a"), ("gpt", "b"))
    assert adapt({"conversations": turns})[1] == [("Assistant: Hello!\n\nUser: a", "b")]
    assert rejection({"messages": roles(("user", "a"))}).reason == Outcome.NO_PAIR


# Preferences


def test_dpo_row_gives_the_chosen_response_only() -> None:
    history = shares(("human", "a"), ("gpt", "b"), ("human", "c"))
    row = {"conversations": history, "chosen": shares(("gpt", "good"))[0], "rejected": shares(("gpt", "bad"))[0]}
    assert adapt(row) == ("dpo", [("User: a\n\nAssistant: b\n\nUser: c", "good")])
    assert adapt({"prompt": "a", "chosen": "good", "rejected": "bad"})[1] == [("a", "good")]
    chosen = roles(("user", "a"), ("assistant", "good"))
    assert adapt({"prompt": "a", "chosen": chosen, "rejected": []})[1] == [("a", "good")]
    assert adapt({"prompt": roles(("user", "a")), "chosen": chosen[1:], "rejected": []})[1] == [("a", "good")]
    assert adapt({"system": "s", "question": "a", "chosen": "good", "rejected": "bad"})[1] == [("s\n\na", "good")]


def test_kto_row_counts_only_when_its_label_is_true() -> None:
    messages = roles(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert adapt({"messages": messages, "label": True}) == ("kto", [("User: a\n\nAssistant: b\n\nUser: c", "d")])
    assert adapt({"prompt": "a", "completion": "b", "label": "true"}) == ("kto", [("a", "b")])
    assert rejection({"messages": messages, "label": False}).reason == Outcome.REJECTED_LABEL


def test_label_of_unknown_meaning_is_refused_with_the_key_that_ignores_it() -> None:
    error = rejection({"prompt": "a", "completion": "b", "label": 3})
    assert (error.reason, "`adapter: prompt_completion`" in error.detail) == (Outcome.WRONG_TYPE, True)
    assert guess([{"instruction": "a", "output": "b", "label": 3}], {}) == "pairs"


# Values and templates


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (3, "3"), (2.0, "2"), (2.5, "2.5"), (True, "true"), (-0.1, "-0.1"), (1e300, "1e+300")],
)
def test_plain_values_become_their_usual_text(value: Any, text: str) -> None:
    assert as_text(value, "c") == text


@pytest.mark.parametrize("value", [None, [], {}, b"x", float("nan"), float("inf")])
def test_values_without_a_text_are_errors_that_name_the_column(value: Any) -> None:
    with pytest.raises(RowError, match=r"^the column"):
        as_text(value, "the column")


def test_message_for_unknown_columns_lists_them_and_names_the_remedy() -> None:
    error = rejection({"left": 1, "right": 2})
    assert error.reason == Outcome.MISSING_FIELD
    assert "'left', 'right'" in error.detail
    assert "map:" in error.detail


def test_template_takes_columns_inner_fields_items_and_literal_braces() -> None:
    row = {"a": 1, "b": {"c": "x", "d": ["y", "z"]}, "e.f": "dotted", "n": None}
    assert fill("{{{a}}} {b.c} {b.d.1} {e.f} [{n?}{zz?}]", row) == "{1} x z dotted []"
    assert template_columns("{{{a}}} {b.c} {n?}") == ("a", "b.c", "n")
    with pytest.raises(RowError, match=r"there is no b\.d\.2"):
        fill("{b.d.2}", row)
    with pytest.raises(RowError, match="n is null"):
        fill("{n}", row)
    with pytest.raises(ValueError, match="single '}' at character 1"):
        template_columns("a}")


def test_mapped_list_gives_a_pair_for_each_distinct_text() -> None:
    adapted = mapped("{q}?", "{a}")({"q": "x", "a": ["1", "2", "1"], "z": 0}, {})
    assert [tuple(draft) for draft in adapted.drafts] == [("x?", "1"), ("x?", "2")]
    assert adapted.used == {"q", "a"}


def test_gold_label_is_looked_up_among_the_labels_of_the_options() -> None:
    options = {"text": ["red", "green", "blue"], "label": ["1", "2", "3"]}
    name, pairs = adapt({"question": "Grass?", "choices": options, "answerKey": "2"})
    assert name == "choices"
    assert pairs == [("Grass?\n\nA. red\nB. green\nC. blue", "green")]


def test_conversation_whose_pairs_would_not_fit_in_memory_is_too_large() -> None:
    turns = [{"role": role, "content": "x" * 20_000} for _ in range(200) for role in ("user", "assistant")]
    assert rejection({"messages": turns}).reason == Outcome.TOO_LARGE
    instances = [{"input": str(number), "output": "y"} for number in range(2000)]
    assert rejection({"instruction": "x" * 100_000, "instances": instances}).reason == Outcome.TOO_LARGE
    assert len(adapt({"messages": turns[:20]})[1]) == 10
