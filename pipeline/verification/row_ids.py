"""Row ids of a whole dataset, compared and found unique in memory that does not grow with their number."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.budget import pieces
from pipeline.records.arrays import by_number
from pipeline.text.hashing import GOLDEN, mix_array

if TYPE_CHECKING:
    import pyarrow as pa

RANGE = 2**16
"""Samples that have one sum."""
SORT_BYTES = 4 * 16
"""Memory for each id while repeated ones are counted."""

Halves = NDArray[np.uint64]
"""Row ids, (n, 2): their two halves."""


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


class RepeatedIds:
    """Counts row ids that occur more than once; the ids are on disk until then, 16 bytes each.

    Parameters
    ----------
    folder
        Empty folder for temporary files.
    expected
        Number of ids, about.
    """

    def __init__(self, folder: Path, expected: int) -> None:
        self._folder = folder
        self._bits = (pieces(SORT_BYTES * expected) - 1).bit_length()

    def add(self, ids: Halves) -> None:
        """Add ids."""
        parts = ids[:, 0] >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(ids), np.uint64)
        for part, places in by_number(parts):
            with (self._folder / f"{part}.ids").open("ab") as file:
                ids[places].tofile(file)

    def count(self) -> int:
        """Return how many ids are the same as another one before them."""
        repeated = 0
        for path in self._folder.glob("*.ids"):
            ids = np.fromfile(path, np.uint64).reshape(-1, 2)
            ids = ids[np.lexsort((ids[:, 1], ids[:, 0]))]
            repeated += int((ids[1:] == ids[:-1]).all(axis=1).sum())
        return repeated


def halves_of(content: bytes | NDArray[np.uint8]) -> Halves:
    """Return row ids, given as 16 bytes each one after the other."""
    return np.frombuffer(content, ">u8").astype(np.uint64).reshape(-1, 2)


def halves_of_column(lines: "pa.Table") -> Halves:
    """Return the column `row_id` of a table, of hexadecimal digits."""
    return halves_of(bytes.fromhex("".join(lines.column("row_id").to_pylist())))
