"""Row ids on disk, of any number, that are sorted in parts of bounded size.

ids ─ IdParts.add ─▶ files by their first bits ─ IdParts.sorted ─▶ equal ids side by side
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.engine.budget import pieces
from pipeline.records.arrays import by_number

SORT_BYTES = 4 * 16
"""Memory for each id while a part is sorted."""

Halves = NDArray[np.uint64]
"""Row ids, (n, 2): their two halves."""


class IdParts:
    """Writes row ids to files, 16 bytes each, and reads them sorted.

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
        """Add ids (n, 2)."""
        parts = ids[:, 0] >> np.uint64(64 - self._bits) if self._bits else np.zeros(len(ids), np.uint64)
        for part, places in by_number(parts):
            with (self._folder / f"{part:05}.ids").open("ab") as file:
                ids[places].tofile(file)

    def sorted(self) -> Iterator[Halves]:
        """Yield all ids in ascending order, in parts (m, 2); equal ids are in the same part."""
        for path in sorted(self._folder.glob("*.ids")):
            ids = np.fromfile(path, np.uint64).reshape(-1, 2)
            yield ids[np.lexsort((ids[:, 1], ids[:, 0]))]

    def repeated(self) -> int:
        """Return how many ids are the same as another one before them."""
        return sum(int((ids[1:] == ids[:-1]).all(axis=1).sum()) for ids in self.sorted())

    def most_frequent(self, count: int) -> list[tuple[bytes, int]]:
        """Return the `count` ids that occur most often, as 16 bytes, and how often; of equally many the smaller ids."""
        found: list[tuple[bytes, int]] = []
        for ids in self.sorted():
            begins = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]).any(axis=1)))
            sizes = np.diff(np.append(begins, len(ids)))
            best = np.argsort(-sizes, kind="stable")[:count]
            values = ids[begins[best]].astype(">u8")
            found += zip((value.tobytes() for value in values), sizes[best].tolist(), strict=True)
            found = sorted(found, key=lambda item: (-item[1], item[0]))[:count]
        return found


def halves_of(content: bytes | NDArray[np.uint8]) -> Halves:
    """Return row ids, given as 16 bytes each one after the other."""
    return np.frombuffer(content, ">u8").astype(np.uint64).reshape(-1, 2)
