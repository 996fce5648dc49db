"""The tags of a sample have one order, and unknown conditions are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.contract import CONDITION_TAGS, END_OF_PREFIX, SPECIAL_TOKENS, START, order_conditions, prefix_ids

NAMES = st.lists(st.sampled_from(list(CONDITION_TAGS)))


@given(NAMES)
def test_conditions_are_ordered_without_repeats_whatever_order_they_come_in(names: list[str]) -> None:
    ordered = order_conditions(names)
    assert set(ordered) == set(names)
    assert ordered == order_conditions(reversed(names)) == order_conditions(ordered)
    assert [name for name in CONDITION_TAGS if name in ordered] == list(ordered)


def test_unknown_condition_is_an_error_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown condition 'cott': expected some of synth, noisy, cot, direct"):
        order_conditions(["cot", "cott"])


def test_tags_have_the_order_of_the_published_model() -> None:
    special = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    ids = prefix_ids(special, ["direct", "cot", "noisy", "synth"], [])
    tokens = [SPECIAL_TOKENS[number] for number in ids]
    assert tokens[1:-1] == ["<|quad_end|>", "<|quad_start|>", "<|object_ref_end|>", "<|object_ref_start|>"]


def test_special_tokens_are_distinct() -> None:
    assert len(set(SPECIAL_TOKENS)) == len(SPECIAL_TOKENS) == 8


@given(NAMES, st.lists(st.integers(100, 200)))
def test_prefix_is_start_conditions_instruction_end(names: list[str], instruction: list[int]) -> None:
    special = {token: index for index, token in enumerate(SPECIAL_TOKENS)}
    tags = [special[CONDITION_TAGS[name]] for name in order_conditions(names)]
    assert prefix_ids(special, names, instruction) == [special[START], *tags, *instruction, special[END_OF_PREFIX]]
