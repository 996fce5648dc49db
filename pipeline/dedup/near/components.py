"""Connected components of pairs of rows, in memory that does not grow with the number of rows.

    pairs ─▶ parts, from the last to the first: trees ─▶ parts, from the first to the last: labels ─▶ `Members`

The rows are cut into parts of equal size, of which one is in memory at a time. From the last part to the first, the
pairs whose greater row is in the part join its rows to trees. A tree with neighbours in earlier parts is linked to the
least of them; the others are paired with that one, for the earlier parts to join. So each pair that is read leaves at
most one. From the first part to the last, a tree without link is a new component, and one with a link belongs to the
component of the row that it is linked to. What one part leaves for another is on disk, in entries of 8 to 12 bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.records.arrays import by_number

U32 = NDArray[np.uint32]

NONE = 2**32 - 1
"""No row, no label."""
LARGE = 2**31
"""Label of the first large component."""
PART_ROW_BYTES = 32
"""Memory for each row of a part, about."""
SLICE_ROWS = 2**20
"""Entries of a file that are in memory at a time."""

PAIRS = np.dtype([("low", np.uint32), ("high", np.uint32)])
LINKS = np.dtype([("low", np.uint32), ("root", np.uint32), ("size", np.uint32)])
"""A tree: the earlier row that it is linked to, its root, and its number of rows."""
MEMBERS = np.dtype([("row", np.uint32), ("root", np.uint32)])
ROOTS = np.dtype([("root", np.uint32), ("size", np.uint32)])
"""A tree without link, and the number of rows of its component."""
LABELS = np.dtype([("root", np.uint32), ("label", np.uint32)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The rows of one part that are in components of two or more."""

    rows: U32
    """(n,), ascending."""
    labels: U32
    """(n,): the component of each row. Small components are numbered from 0, large ones from `LARGE`, both in the order
    of their least rows."""
    small: U32
    """Sizes of the small components whose least row is in this part, in the order of their numbers."""
    large: U32
    """The same of large ones."""


def find_components(
    pairs: Iterable[U32], folder: Path, *, rows: int, part_rows: int, largest: int
) -> Iterator[Members]:
    """Yield the members of the components of each part, in order.

    Parameters
    ----------
    pairs
        uint32 (m, 2) each: pairs of different rows, the lesser row first.
    folder
        For temporary files, which are deleted when they have been read.
    rows
        Number of rows; all are below.
    part_rows
        Rows of a part.
    largest
        Maximum size of a small component.
    """
    spill = _Spill(folder, part_rows)
    for some in pairs:
        for begin in range(0, len(some), SLICE_ROWS):
            spill.add("pairs", np.ascontiguousarray(some[begin : begin + SLICE_ROWS]).view(PAIRS)[:, 0], by="high")
    parts = range(-(-rows // part_rows))
    for part in reversed(parts):
        _grow_trees(spill, part, min(part_rows, rows - part * part_rows))
    small = large = 0
    for part in parts:
        members = _label(spill, part, small, large, largest)
        small, large = small + len(members.small), large + len(members.large)
        yield members


class _Spill:
    """Entries on disk, by the part of one of their rows; the files of a part are deleted when they have been read."""

    def __init__(self, folder: Path, part_rows: int) -> None:
        self._folder, self._part_rows = folder, part_rows

    def add(self, name: str, entries: NDArray[Any], *, by: str) -> None:
        for part, places in by_number(entries[by] // np.uint32(self._part_rows)):
            with self._path(name, part).open("ab") as file:
                entries[places].tofile(file)

    def first_row(self, part: int) -> int:
        return part * self._part_rows

    def slices(self, name: str, part: int, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        path = self._path(name, part)
        if not path.exists():
            return
        with path.open("rb") as file:
            while len(entries := np.fromfile(file, dtype, SLICE_ROWS)):
                yield entries
        path.unlink()

    def all(self, name: str, part: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *self.slices(name, part, dtype)])

    def _path(self, name: str, part: int) -> Path:
        return self._folder / f"{name}-{part:05}.tmp"


def _grow_trees(spill: _Spill, part: int, rows: int) -> None:
    """Join the rows of a part; write its members, its roots without link, and links and pairs for earlier parts."""
    first = spill.first_row(part)
    trees = new_trees(rows)
    parent, size, link = trees
    for links in spill.slices("sizes", part, LINKS):
        np.add.at(size, links["low"] - np.uint32(first), links["size"])
    left = np.empty((SLICE_ROWS, 2), np.uint32)
    for pairs in spill.slices("pairs", part, PAIRS):
        count = join(parent, size, link, pairs.view(np.uint32).reshape(-1, 2), first, left)
        spill.add("pairs", left[:count].copy().view(PAIRS)[:, 0], by="high")
    root = roots(parent)
    grouped = np.flatnonzero((size[root] > 1) | (link[root] != NONE))
    for begin in range(0, len(grouped), SLICE_ROWS):
        chosen = grouped[begin : begin + SLICE_ROWS]
        members = np.empty(len(chosen), MEMBERS)
        members["row"], members["root"] = chosen + first, root[chosen] + np.uint32(first)
        spill.add("members", members, by="row")
        own = chosen[root[chosen] == chosen]
        linked = own[link[own] != NONE]
        links = np.empty(len(linked), LINKS)
        links["low"], links["root"], links["size"] = link[linked], linked + first, size[linked]
        spill.add("sizes", links, by="low")
        spill.add("links", links, by="low")
        free = own[link[own] == NONE]
        found = np.empty(len(free), ROOTS)
        found["root"], found["size"] = free + first, size[free]
        spill.add("roots", found, by="root")


def _label(spill: _Spill, part: int, small: int, large: int, largest: int) -> Members:
    """Return the members of a part, given the numbers of the next small and large component."""
    first = np.uint32(spill.first_row(part))
    members = spill.all("members", part, MEMBERS)
    found = spill.all("roots", part, ROOTS)
    is_small = found["size"] <= largest
    labels = np.empty(len(found), np.uint32)
    labels[is_small] = small + np.arange(is_small.sum())
    labels[~is_small] = LARGE + large + np.arange((~is_small).sum())
    of_row = np.full(int(members["row"].max(initial=first) - first) + 1, NONE, np.uint32)
    of_row[found["root"] - first] = labels
    for known in spill.slices("labels", part, LABELS):
        of_row[known["root"] - first] = known["label"]
    of_row[members["row"] - first] = of_row[members["root"] - first]
    for links in spill.slices("links", part, LINKS):
        answers = np.empty(len(links), LABELS)
        answers["root"], answers["label"] = links["root"], of_row[links["low"] - first]
        spill.add("labels", answers, by="root")
    rows = members["row"].copy()
    return Members(
        rows=rows, labels=of_row[rows - first], small=found["size"][is_small], large=found["size"][~is_small]
    )


def new_trees(rows: int) -> tuple[U32, U32, U32]:
    """Return parent, size and link of `rows` rows, each a tree of its own: the arrays (n,) that `join` changes."""
    return np.arange(rows, dtype=np.uint32), np.ones(rows, np.uint32), np.full(rows, NONE, np.uint32)


@numba.njit(cache=True, nogil=True)
def _root(parent: U32, place: np.integer[Any]) -> np.integer[Any]:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = np.int64(parent[place])
    return place


@numba.njit(cache=True, nogil=True)
def join(parent: U32, size: U32, link: U32, pairs: U32, first: int, left: U32) -> int:
    """Join trees of rows by pairs of rows.

    Parameters
    ----------
    parent, size, link
        uint32 (n,) of the rows from `first` on: parent of each row, counted from `first`; of roots, which are the least
        rows of their trees, the rows of the tree and the row before `first` that it is linked to, or `NONE`.
    pairs
        uint32 (m, 2): the lesser row first; the greater is one of the n.
    first
        First of the n rows.
    left
        uint32 (at least m, 2): gets pairs of rows before `first`, which are to be joined too.

    Returns
    -------
    int
        Number of pairs in `left`.
    """
    count = 0
    for i in range(len(pairs)):
        low, tree = np.int64(pairs[i, 0]), _root(parent, np.int64(pairs[i, 1]) - first)
        if low >= first:
            other = _root(parent, low - first)
            if other == tree:
                continue
            tree, gone = min(tree, other), max(tree, other)
            parent[gone] = tree
            size[tree] += size[gone]
            low = np.int64(link[gone])
        if low == NONE or low == link[tree]:
            continue
        if link[tree] != NONE:
            left[count, 0], left[count, 1] = min(low, link[tree]), max(low, link[tree])
            count += 1
        link[tree] = min(low, link[tree])
    return count


@numba.njit(cache=True, nogil=True)
def roots(parent: U32) -> U32:
    """Return the root of each row (n,)."""
    for place in range(len(parent)):
        parent[place] = parent[parent[place]]  # a parent is never greater, and is a root already
    return parent
