"""Row ids are compared and counted as a table in memory would, whatever their number and order."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.verification import row_ids
from pipeline.verification.row_ids import RepeatedIds, SampleIds

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


@given(few_ids, st.integers(1, 10_000_000))
@settings(deadline=None)
def test_repeated_ids_are_counted_whatever_the_number_of_files(ids: list[tuple[int, int]], expected: int) -> None:
    rows = np.array([(high << 62, low) for high, low in ids], np.uint64).reshape(-1, 2)
    with TemporaryDirectory() as folder:
        repeated = RepeatedIds(Path(folder), expected)
        for part in np.array_split(rows, 3):
            repeated.add(part)
        assert repeated.count() == len(ids) - len(set(ids))
