"""Claims about arrays that are divided by number."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.arrays import by_number


@given(st.lists(st.integers(0, 5)), st.sampled_from([np.uint8, np.uint32, np.int64, np.uint64]))
def test_each_number_comes_once_with_the_places_of_its_entries(numbers: list[int], dtype: type[np.generic]) -> None:
    found = list(by_number(np.array(numbers, dtype)))
    assert [number for number, _ in found] == sorted(set(numbers))
    for number, places in found:
        assert places.tolist() == [place for place, entry in enumerate(numbers) if entry == number]
