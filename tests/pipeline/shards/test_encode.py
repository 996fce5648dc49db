"""Encoding: which pairs both engines encode, and what is written about each row."""

from itertools import pairwise

import pyarrow as pa
import pytest

from pipeline.shards.encode import FEWEST_GUARDED, MOST_GUARDED, guarded


@pytest.mark.parametrize(
    ("rows", "length", "size", "expected"),
    [
        (0, 0, 2**20, 0),
        (1, 100, 2**20, 1),
        (5, 10_000, 1, 5),  # all of a few
        (100_000, 20, 2**10, 18),
        (1_000, 100, 2**30, MOST_GUARDED),
        (200, 9_000, 2**10, FEWEST_GUARDED),  # each is larger than what is to be compared
        (10_000, 1_000, 32 * 2**10, 16),
    ],
)
def test_guarded_pairs_are_evenly_spread_and_bounded_in_size_and_number(
    rows: int, length: int, size: int, expected: int
) -> None:
    texts = [f"{number:0{length}}" for number in range(rows)]
    table = pa.table({name: pa.array(texts, pa.large_string()) for name in ("instruction", "response")})
    found = [int(text[-6:]) for text in guarded(table, size)["response"].to_pylist()]
    assert abs(len(found) - expected) <= expected // 4
    assert len(found) <= MOST_GUARDED
    if rows:
        assert (found[0], found[-1]) == (0, rows - 1)
        gaps = {after - before for before, after in pairwise(found)}
        assert not gaps or max(gaps) - min(gaps) <= 1
