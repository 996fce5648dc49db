"""The order of entries in sorted runs."""

import numpy as np
import pytest

from pipeline.records.runs import stable_order


@pytest.mark.parametrize("distinct", [1, 2, 7, 3_000, 90_000, 2**63])
def test_equal_keys_keep_their_order(distinct: int) -> None:
    keys = np.random.default_rng(distinct).integers(0, distinct, 20_000, dtype=np.uint64)
    for some in (keys, keys[:1], keys[:0]):
        np.testing.assert_array_equal(stable_order(some), np.argsort(some, kind="stable"))
