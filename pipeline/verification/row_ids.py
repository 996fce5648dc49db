"""Row ids of a whole dataset, compared in memory that does not grow with their number."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.records.id_parts import Halves, halves_of
from pipeline.text.hashing import GOLDEN, mix_array

if TYPE_CHECKING:
    import pyarrow as pa

RANGE = 2**16
"""Samples that have one sum."""


class SampleIds:
    """Which row id each sample has, as a sum of 64-bit hashes for each `RANGE` samples.

    Sums of the same samples and ids are equal in any order; those of others are equal with a probability of 2^-64.

    Parameters
    ----------
    samples
        Number of samples.
    """

    def __init__(self, samples: int) -> None:
        self.samples, self.count = samples, 0
        self._sums = np.zeros(-(-samples // RANGE), np.uint64)

    def add(self, numbers: NDArray[np.int64], ids: Halves) -> None:
        """Add samples: their numbers (n,), all below `samples`, and their ids."""
        self.count += len(numbers)
        hashes = mix_array(ids[:, 1] + mix_array(ids[:, 0] + mix_array(numbers.astype(np.uint64) * GOLDEN)))
        np.add.at(self._sums, numbers // RANGE, hashes)

    def differences(self, other: "SampleIds") -> Iterator[tuple[int, int]]:
        """Yield the first and last sample of each range in which the ids are not the same."""
        for number in np.flatnonzero(self._sums != other._sums).tolist():
            yield number * RANGE, min((number + 1) * RANGE, self.samples) - 1


def halves_of_column(lines: "pa.Table") -> Halves:
    """Return the column `row_id` of a table, of hexadecimal digits."""
    return halves_of(bytes.fromhex("".join(lines.column("row_id").to_pylist())))
