"""Rows that share a band key end in one group, at linear cost."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.dedup.near.candidates import ALL_PAIRS, ENTRIES, Groups, proposals


def entries_of(keys: list[list[int]]) -> NDArray[np.void]:
    """Entries of rows with these keys; in runs they are ordered by row number."""
    entries = [(key, row, row) for row, row_keys in enumerate(keys) for key in row_keys]
    return np.array(entries, ENTRIES)


rows = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True), max_size=60)


@given(rows, st.integers(0, 100))
@settings(deadline=None)
def test_rows_that_share_a_key_are_in_one_group_whatever_the_order(keys: list[list[int]], seed: int) -> None:
    entries = entries_of(keys)
    pairs = proposals(entries)
    assert np.array_equal(pairs, proposals(np.random.default_rng(seed).permutation(entries)))
    groups = Groups(np.unique(pairs))
    groups.join(pairs)
    number = dict(zip(groups.rows.tolist(), groups.numbers().tolist(), strict=True))
    reached = {row: {row} for row in range(len(keys))}
    for key in range(7):
        together = [row for row, row_keys in enumerate(keys) if key in row_keys]
        union = set().union(*(reached[row] for row in together))
        for row in union:
            reached[row] = union
    for row, others in reached.items():
        assert {other for other in number if number[other] == number.get(row)} == (others if len(others) > 1 else set())


def test_pairs_grow_with_the_rows_of_a_run_not_with_their_square() -> None:
    few, many = (len(proposals(entries_of([[1]] * count))) for count in (ALL_PAIRS, 10_000))
    assert few == ALL_PAIRS * (ALL_PAIRS - 1) // 2
    assert many < 2 * 10_000


def test_key_ranges_together_propose_what_one_range_proposes() -> None:
    draw = np.random.default_rng(0)
    entries = np.zeros(3000, ENTRIES)
    entries["key"] = draw.integers(0, 800, 3000, np.uint64) * np.uint64(2**54)
    entries["row"] = entries["order"] = draw.integers(0, 2**32, 3000, np.uint64)
    edges = [2**64 * edge // 5 for edge in range(6)]
    parts = [
        proposals(entries[(entries["key"] >= low) & (entries["key"] <= high - 1)]) for low, high in pairwise(edges)
    ]
    assert (np.unique(np.concatenate(parts), axis=0) == proposals(entries)).all()
