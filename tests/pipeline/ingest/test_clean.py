"""Cleaning: each rule drops what it names and nothing else; clean text is unchanged."""

import unicodedata
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corpus.outcome import Outcome
from pipeline.ingest.clean import clean
from pipeline.ingest.spec import CleanSpec

SPEC = CleanSpec()
MARKUP = st.sampled_from(
    ["<think>", "</think>", "<|endoftext|>", "</s>", "\r\n", "\x00", "\ufeff", " ", "e\u0301", "\u0301"]
)
TEXT = st.lists(st.text(max_size=8) | MARKUP, max_size=8).map("".join).filter(lambda text: _encodable(text))


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


def cleaned(instruction: str, response: str, spec: CleanSpec = SPEC) -> dict[str, object]:
    frame = pl.DataFrame({"instruction": [instruction], "response": [response]})
    return clean(frame, spec).row(0, named=True)


@pytest.mark.parametrize(
    ("response", "left"),
    [
        ("<think>hm\nhm</think>\n\nYes", "Yes"),
        ("No <think>hm</think>, yes", "No , yes"),
        ("hm, hm</think>Yes", "Yes"),
        ("<think>a<think>b</think>c</think>Yes", "Yes"),
        ("<Think>hm</THINK>Yes", "Yes"),
        ("Yes<|endoftext|>", "Yes"),
        ("Yes</s>\n <|im_end|> ", "Yes"),
        ("<|endoftext|> is a tag", "<|endoftext|> is a tag"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("a\x00b\x07c\ufeff\td", "abc\td"),
        ("\u00a0 Cafe\u0301 \n", "Caf\u00e9"),
        ("\U0001f468\u200d\U0001f469 stays", "\U0001f468\u200d\U0001f469 stays"),
    ],
)
def test_response_is_cleaned(response: str, left: str) -> None:
    row = cleaned("Is it?", response)
    assert (row["response"], row["outcome"]) == (left, None)


@pytest.mark.parametrize(
    ("instruction", "response", "outcome"),
    [
        ("\n\t ", "Yes", Outcome.EMPTY_INSTRUCTION),
        ("Is it?", "\x00 \n", Outcome.EMPTY_RESPONSE),
        ("Is it?", "<think>hm</think>", Outcome.EMPTY_RESPONSE),
        ("Is it?", "Yes <think> but", Outcome.UNCLOSED_THINK),
        ("Is it?", "x" * (SPEC.max_response_chars + 1), Outcome.TOO_LONG),
        ("é" * (SPEC.max_instruction_chars + 1), "Yes", Outcome.TOO_LONG),
        ("é" * SPEC.max_instruction_chars, "Yes", None),
        ("<think> is a tag", "Yes", None),
        ("Is it?", "It is so. " * 50, None),
    ],
)
def test_pair_is_dropped_for_the_reason(instruction: str, response: str, outcome: Outcome | None) -> None:
    assert cleaned(instruction, response)["outcome"] == outcome


def test_rules_can_be_turned_off() -> None:
    spec = CleanSpec(remove_think=False, end_markers=())
    row = cleaned("Is it?", "<think>hm" + "It is so. " * 50 + "</s>", spec)
    assert row["outcome"] is None
    assert str(row["response"]).startswith("<think>")
    assert str(row["response"]).endswith("</s>")


@settings(deadline=None)
@given(instruction=TEXT, response=TEXT)
def test_cleaning_clean_text_changes_nothing(instruction: str, response: str) -> None:
    once = cleaned(instruction, response)
    twice = cleaned(str(once["instruction"]), str(once["response"]))
    assert twice == once
    for text in (str(once["instruction"]), str(once["response"])):
        assert unicodedata.is_normalized("NFC", text)
        assert text == text.strip()
        assert not [char for char in text if unicodedata.category(char) == "Cc" and char not in "\n\t"]


def replacing(*rules: dict[str, object]) -> CleanSpec:
    return CleanSpec.model_validate({"replace": rules})


@pytest.mark.parametrize(
    ("rules", "text", "left"),
    [
        ([{"pattern": "a.c", "with": "$1"}], "a.c abc a.c", "$1 abc $1"),
        ([{"pattern": r"(\d+) ?EUR", "with": "€${1}", "regex": True}], "5 EUR or 6EUR", "€5 or €6"),
        ([{"pattern": "### Answer:", "with": ""}], "### Answer: yes", "yes"),
        ([{"pattern": "\r\n", "with": " "}], "one\r\ntwo", "one two"),
        ([{"pattern": "[T]", "with": "<think>"}, {"pattern": "[/T]", "with": "</think>"}], "[T]hm[/T]Yes", "Yes"),
        ([{"pattern": "a", "with": "b"}, {"pattern": "b", "with": "c"}], "ab", "cc"),
        ([{"pattern": "(a+)+$", "with": "x", "regex": True}], "a" * 5000 + "b", "a" * 5000 + "b"),
    ],
)
def test_replacements_are_made_in_order_before_other_cleaning(rules: list[Any], text: str, left: str) -> None:
    assert cleaned("Why?", text, replacing(*rules))["response"] == left


def test_replacements_are_made_in_instructions_too() -> None:
    assert cleaned("[Q] Why? [Q]", "x", replacing({"pattern": "[Q]", "with": ""}))["instruction"] == "Why?"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            {"pattern": "(a", "with": "", "regex": True},
            r"pattern is '\(a', which is not a regular expression: unclosed gr",
        ),
        ({"pattern": "(?=a)", "with": "", "regex": True}, "look-ahead and look-behind, is not supported"),
        ({"pattern": "a*", "with": "", "regex": True}, "matches the empty text"),
        ({"pattern": "", "with": ""}, "at least 1 character"),
        ({"pattern": "a"}, "Field required"),
    ],
)
def test_replacement_that_cannot_be_made_is_refused(rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        replacing(rule)


def test_dump_of_replacements_is_the_manifest_s() -> None:
    rule = {"pattern": "a", "with": "b", "regex": True}
    assert replacing(rule).model_dump(mode="json")["replace"] == [rule]
