"""Candidates: groups of records to compare, from equal band keys.

    entries (key, order, row) ─ proposals ─▶ pairs of rows ─ Groups ─▶ disjoint groups of rows

Records that share a key form a run, ordered by row ids, so that neither partitions nor the order of files matter. In a
run of up to `ALL_PAIRS` records all pairs are proposed. In a longer one each record is paired with the run's first and
with its successor, so that work stays linear however often a text occurs. That loses no duplicates: a pair only joins
records into a group, and inside a group every record is compared with every survivor (`pipeline.dedup.near.compare`).
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.dedup.near.components import U32, join, new_trees, roots
from pipeline.text.hashing import U64

ENTRIES = np.dtype([("key", np.uint64), ("order", np.uint32), ("row", np.uint32)])
"""A band of a record: its key, the record's place in the order of a run (part of its row id), the record's number."""

ALL_PAIRS = 8
"""Records of the longest run of which all pairs are proposed."""


def proposals(entries: NDArray[np.void]) -> NDArray[np.uint32]:
    """Pairs of rows to compare.

    Parameters
    ----------
    entries
        `ENTRIES` (n,): all entries in some range of keys, in any order.

    Returns
    -------
    uint32 (m, 2)
        Sorted, without repetition; of each pair the lesser row is first.
    """
    order = np.argsort(entries["key"], kind="stable")
    keys = entries["key"][order]
    equal = np.zeros(len(keys), bool)
    equal[1:] = keys[1:] == keys[:-1]
    equal[:-1] |= equal[1:]
    runs = entries[order[equal]]
    runs = runs[np.lexsort((runs["row"], runs["order"], runs["key"]))]
    packed = np.unique(_pairs(np.ascontiguousarray(runs["key"]), np.ascontiguousarray(runs["row"])))
    return np.stack([packed >> np.uint64(32), packed & np.uint64(2**32 - 1)], axis=1).astype(np.uint32)


@numba.njit(cache=True, nogil=True)
def _pairs(keys: U64, rows: U32) -> U64:
    """Pairs of each run, packed as lesser row << 32 | greater row."""
    found = np.empty(len(rows) * max(2, ALL_PAIRS // 2), np.uint64)
    count = begin = 0
    while begin < len(rows):
        end = begin + 1
        while end < len(rows) and keys[end] == keys[begin]:
            end += 1
        all_pairs = end - begin <= ALL_PAIRS
        for i in range(begin, end):
            for j in range(i + 1, end):
                if rows[i] != rows[j] and (all_pairs or i == begin or j == i + 1):
                    low, high = min(rows[i], rows[j]), max(rows[i], rows[j])
                    found[count] = np.uint64(low) << np.uint64(32) | np.uint64(high)
                    count += 1
                elif not all_pairs and i > begin:
                    break
        begin = end
    return found[:count]


class Groups:
    """Disjoint groups of rows, joined pair by pair, in memory; those of a build are `pipeline.dedup.near.components`.

    Parameters
    ----------
    rows
        uint32 (n,), sorted: all rows of the pairs to come.
    """

    def __init__(self, rows: U32) -> None:
        self.rows = rows
        self._parent, self._size, self._link = new_trees(len(rows))

    def join(self, pairs: NDArray[np.uint32]) -> None:
        """Join the groups of the two rows of each pair, uint32 (m, 2)."""
        places = np.searchsorted(self.rows, pairs).astype(np.uint32)
        join(self._parent, self._size, self._link, places, 0, np.empty((0, 2), np.uint32))

    def numbers(self) -> U32:
        """Group of each row, uint32 (n,); groups are numbered from 0 in the order of their least rows."""
        return np.unique(roots(self._parent), return_inverse=True)[1].astype(np.uint32)
