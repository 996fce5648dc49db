"""Exact duplicates: one of each kind survives, always the same one."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.exact import find_losers
from pipeline.ingest import KEYS, pair_key

entries = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 3), st.integers(1, 3)), max_size=60)
"""(key high, key low, source, response length) of records; their row id is their place."""


def table(rows: list[tuple[int, int, int, int]]) -> tuple[Any, Any]:
    keys = np.zeros(len(rows), KEYS)
    for i, (high, low, _, length) in enumerate(rows):
        keys[i] = (high, low, i // 7, i, i, length, 10)
    return keys, np.array([row[2] for row in rows], np.uint32)


@given(rows=entries, seed=st.integers(0, 100))
@settings(deadline=None)
def test_best_of_each_group_survives_whatever_the_order(rows: list[tuple[int, int, int, int]], seed: int) -> None:
    keys, priority = table(rows)
    best: dict[tuple[int, int], tuple[int, int, int]] = {}
    for i, (high, low, source, length) in enumerate(rows):
        rank = (source, -length, i)
        best[high, low] = min(best.get((high, low), rank), rank)
    expected = {i: best[row[0], row[1]][2] for i, row in enumerate(rows) if best[row[0], row[1]][2] != i}
    for order in (np.arange(len(rows)), np.random.default_rng(seed).permutation(len(rows))):
        lost, survivor = find_losers(keys[order], priority[order])
        assert {int(order[a]): int(order[b]) for a, b in zip(lost, survivor, strict=True)} == expected


def test_pairs_differ_by_words_and_answers_but_not_by_spacing_and_case() -> None:
    key = pair_key("What is  Öl?", "An oil.")
    assert pair_key(" what IS\nöl? ", "An  oil.\n") == key
    assert pair_key("What is Öl?", "an oil.") != key
    assert pair_key("What is Öl", "? An oil.") != key
    assert pair_key("STRASSE", "x") == pair_key("straße", "x")
