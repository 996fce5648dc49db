"""Sorted runs: entries on disk, sorted in pieces of bounded size, read by ranges of a 64-bit key.

    entries ─ RunWriter ─▶ run-00000.npy, run-00001.npy, … ─ in_range ─▶ the entries of one range, from every run

A step writes the runs of its part of the data. A `KeyRangeStep` then reads one range of keys from all of them, so it
sees every entry of a key.
"""

import bisect
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.step import Step

R = TypeVar("R")

Entries = NDArray[np.void]
"""Structured array (n,)."""

RUN_ROWS = 2**20
"""Entries that are sorted together, about."""


class RunWriter:
    """Writes entries as runs sorted by one column.

    Parameters
    ----------
    out
        Folder of the step.
    by
        uint64 column to sort by.
    rows
        Entries in a run, at least; a run has no more than this and one call of `add`.
    """

    def __init__(self, out: Path, by: str, rows: int = RUN_ROWS) -> None:
        self._out, self._by, self._limit = out, by, rows
        self._waiting: list[Entries] = []
        self._rows = self._runs = 0

    def add(self, entries: Entries) -> None:
        """Append entries."""
        self._waiting.append(entries)
        self._rows += len(entries)
        if self._rows >= self._limit:
            self.close()

    def close(self) -> None:
        """Write the entries that are not yet written."""
        if self._rows:
            run = np.concatenate(self._waiting)
            np.save(self._out / f"run-{self._runs:05}.npy", run[stable_order(run[self._by])])
            self._waiting, self._rows, self._runs = [], 0, self._runs + 1


def stable_order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the indices (n,) that sort keys, equal ones in their order.

    NumPy's unstable sort is three times as fast as its stable one where few keys are equal, as among hashes.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    is_next = ordered[1:] == ordered[:-1]
    if 8 * np.count_nonzero(is_next) > len(keys):
        return np.argsort(keys, kind="stable")
    if is_next.any():
        equal = np.flatnonzero(np.append(is_next, False) | np.insert(is_next, 0, False))
        order[equal] = order[equal][np.lexsort((order[equal], ordered[equal]))]
    return order


def runs(folder: Path) -> Iterator[Entries]:
    """Yield the runs in a step's folder, in the order in which they were written, mapped from their files."""
    for path in sorted(folder.glob("run-*.npy")):
        yield np.load(path, mmap_mode="r")


def in_range(folder: Path, by: str, bucket: int, buckets: int) -> Iterator[Entries]:
    """Yield the entries of each run whose key is in range `bucket` of `buckets` equal ranges of 64-bit keys."""
    begin, end = (2**64 * edge // buckets for edge in (bucket, bucket + 1))
    for run in runs(folder):
        first, last = (bisect.bisect_left(run, edge, key=lambda entry: int(entry[by])) for edge in (begin, end))
        yield np.array(run[first:last])


def in_parts(arrays: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """Concatenate arrays to parts of at least `rows` entries; the last may have fewer, but has some."""
    waiting: list[NDArray[Any]] = []
    size = 0
    for array in arrays:
        waiting.append(array)
        size += len(array)
        if size >= rows:
            yield np.concatenate(waiting)
            waiting, size = [], 0
    if size:
        yield np.concatenate(waiting)


def in_lengths(arrays: Iterable[NDArray[Any]], others: Iterable[Sized]) -> Iterator[NDArray[Any]]:
    """Cut the concatenation of arrays into new ones of the lengths of others."""
    waiting: list[NDArray[Any]] = []
    source = iter(arrays)
    for length in map(len, others):
        while sum(map(len, waiting)) < length:
            waiting.append(next(source))
        whole = np.concatenate(waiting)
        waiting = [whole[length:]]
        yield whole[:length]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRangeStep(Step[R]):
    """A step over one range of keys."""

    bucket: int
    buckets: int

    @property
    def partition(self) -> str:
        return f"key range {self.bucket + 1} of {self.buckets}"
