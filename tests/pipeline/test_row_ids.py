"""Row ids are compared, sorted and counted as a table in memory would, whatever their number and order."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.id_parts import IdParts
from pipeline.verification import row_ids
from pipeline.verification.row_ids import SampleIds

few_ids = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)


@given(few_ids, st.integers(1, 7))
@settings(deadline=None)
def test_samples_have_the_same_ids_in_any_order_and_others_are_found(ids: list[tuple[int, int]], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_ids, "RANGE", size)
        rows = np.array(ids, np.uint64).reshape(-1, 2)
        numbers = np.arange(len(rows))
        whole, shuffled = SampleIds(len(rows)), SampleIds(len(rows))
        whole.add(numbers, rows)
        order = np.random.default_rng(len(ids)).permutation(len(rows))
        for part in np.array_split(order, 3):
            shuffled.add(part, rows[part])
        assert list(whole.differences(shuffled)) == []
        if len(rows) > 1:
            moved = SampleIds(len(rows))
            moved.add(numbers, np.roll(rows, 1, axis=0))
            changed = np.flatnonzero((rows != np.roll(rows, 1, axis=0)).any(axis=1))
            ranges = sorted({int(place) // size for place in changed})
            assert [first // size for first, _ in whole.differences(moved)] == ranges


@given(few_ids, st.integers(1, 100_000_000), st.integers(1, 5))
@settings(deadline=None)
def test_ids_are_sorted_and_counted_whatever_the_number_of_files(
    ids: list[tuple[int, int]], expected: int, count: int
) -> None:
    wide = [(high << 62, low) for high, low in ids]
    rows = np.array(wide, np.uint64).reshape(-1, 2)
    with TemporaryDirectory() as folder:
        parts = IdParts(Path(folder), expected)
        for part in np.array_split(rows, 3):
            parts.add(part)
        assert [tuple(row) for part in parts.sorted() for row in part.tolist()] == sorted(wide)
        assert parts.repeated() == len(ids) - len(set(ids))
        counted = sorted(Counter(wide).items(), key=lambda item: (-item[1], item[0]))
        expected_ids = [(high.to_bytes(8, "big") + low.to_bytes(8, "big"), size) for (high, low), size in counted]
        assert parts.most_frequent(count) == expected_ids[:count]
