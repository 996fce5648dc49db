"""Candidates: from equal band keys to groups of records that are to be compared.

    entries (key, order, row) ─ proposals ─▶ pairs of rows ─ Groups ─▶ disjoint groups of rows

Records that share a key are a run. In a run of up to `ALL_PAIRS` records each
two are proposed; in a longer one each record is proposed with the run's first
and with the one after it, so work stays linear however often a text occurs.
That loses nothing: a pair only joins records into a group, and inside a group
every record is compared with every survivor (`pipeline.dedup.near.compare`). A run is
ordered by row ids, so neither partitions nor the order of files matter.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.dedup.near.words import U64

U32 = NDArray[np.uint32]

ENTRIES = np.dtype([("key", np.uint64), ("order", np.uint32), ("row", np.uint32)])
"""A band of a record: its key, the record's place in a run (the first half of its row id), its number."""

ALL_PAIRS = 8
LARGEST_GROUP = 2**16
"""Rows in a group, at most: it bounds the work on texts that occur again and again."""


def proposals(entries: NDArray[np.void]) -> NDArray[np.uint32]:
    """Pairs of rows that are to be compared.

    Parameters
    ----------
    entries
        `ENTRIES` (n,) of all records in some range of keys, in any order.

    Returns
    -------
    uint32 (m, 2)
        The lesser row first, sorted, without repetition.
    """
    order = np.argsort(entries["key"], kind="stable")
    keys = entries["key"][order]
    equal = np.zeros(len(keys), bool)
    equal[1:] = keys[1:] == keys[:-1]
    equal[:-1] |= equal[1:]
    few = entries[order[equal]]  # only these have anybody to be compared with
    few = few[np.lexsort((few["row"], few["order"], few["key"]))]
    packed = np.unique(_pairs(np.ascontiguousarray(few["key"]), np.ascontiguousarray(few["row"])))
    return np.stack([packed >> np.uint64(32), packed & np.uint64(2**32 - 1)], axis=1).astype(np.uint32)


@numba.njit(cache=True, nogil=True)
def _pairs(keys: U64, rows: U32) -> U64:
    found = np.empty(len(rows) * max(2, ALL_PAIRS // 2), np.uint64)
    count = begin = 0
    while begin < len(rows):
        end = begin + 1
        while end < len(rows) and keys[end] == keys[begin]:
            end += 1
        every = end - begin <= ALL_PAIRS
        for i in range(begin, end):
            for j in range(i + 1, end):
                if rows[i] != rows[j] and (every or i == begin or j == i + 1):
                    low, high = min(rows[i], rows[j]), max(rows[i], rows[j])
                    found[count] = np.uint64(low) << np.uint64(32) | np.uint64(high)
                    count += 1
                elif not every and i > begin:
                    break
        begin = end
    return found[:count]


class Groups:
    """Disjoint groups of some rows, joined pair by pair.

    Parameters
    ----------
    rows
        uint32 (n,), sorted: all rows that occur in a pair.
    largest
        Most rows in a group. Pairs that would make a larger one are passed over, so such a group keeps several
        survivors.
    """

    def __init__(self, rows: U32, largest: int = LARGEST_GROUP) -> None:
        self.rows, self.largest = rows, largest
        self._parent = np.arange(len(rows), dtype=np.uint32)
        self._size = np.ones(len(rows), np.uint32)

    def join(self, pairs: NDArray[np.uint32]) -> None:
        """Join the groups of each pair, uint32 (m, 2)."""
        _join(self._parent, self._size, np.searchsorted(self.rows, pairs).astype(np.uint32), self.largest)

    def numbers(self) -> U32:
        """Group of each row, uint32 (n,), numbered from 0 by their least row."""
        roots = _roots(self._parent)
        return np.unique(roots, return_inverse=True)[1].astype(np.uint32)


@numba.njit(cache=True)
def _root(parent: U32, place: np.uint32) -> np.uint32:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place


@numba.njit(cache=True)
def _join(parent: U32, size: U32, pairs: NDArray[np.uint32], largest: int) -> None:
    """The root of a group is its least row."""
    for i in range(len(pairs)):
        a, b = _root(parent, pairs[i, 0]), _root(parent, pairs[i, 1])
        if a != b and np.int64(size[a]) + np.int64(size[b]) <= largest:
            low, high = min(a, b), max(a, b)
            parent[high] = low
            size[low] += size[high]


@numba.njit(cache=True)
def _roots(parent: U32) -> U32:
    found = np.empty_like(parent)
    for place in range(len(parent)):
        found[place] = _root(parent, np.uint32(place))
    return found
