"""The index of eval items: what the scan needs to know of them, as arrays that can be mapped from files."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.words import U64

LONG, WHOLE, EXACT, UNTOLD = range(4)
"""By its n-grams and the share of its own words that they cover; by its stem, which is all but the options, as one
stretch of words; as a record's whole instruction; not at all, because it is too short."""

TEMPLATE, INFORMATIVE, FIRM = 32, 64, 128
"""Further flags of a word, beside those of `pipeline.decontaminate.words`: an informative one may be missing where the
answer is there, a firm one never."""


class Index(NamedTuple):
    """Arrays over p probes, i items, w words and e entries (n-gram, probe), read only; kernels take it as it is."""

    words: U64
    flags: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    """(p + 1,): words of each probe."""
    stems: NDArray[np.int64]
    """(p, 2): the words by which a `WHOLE` or `EXACT` probe is looked for."""
    anchors: NDArray[np.int64]
    """(p,): where in its stem the words stand by which a `WHOLE` probe enters the table."""
    mode: NDArray[np.uint8]
    """(p,): `LONG`, `WHOLE`, `EXACT` or `UNTOLD`."""
    solution: NDArray[np.bool_]
    """(p,): a solution rather than a question."""
    need: NDArray[np.float64]
    """(p,): least coverage."""
    item: NDArray[np.int32]
    """(p,): the item that a probe belongs to."""
    answers: U64
    """Words of the items' answers."""
    answer_bounds: NDArray[np.int64]
    """(i + 1,): an item without a known answer has no words."""
    telling: NDArray[np.bool_]
    """(i,): whether the answer is one that few of the task's items have."""
    table: U64
    """Open addressing by n-gram, 0 for an empty slot."""
    first: NDArray[np.int32]
    """For each slot of `table`, its first entry."""
    entry_probe: NDArray[np.int32]
    """(e,): the probe of an entry."""
    entry_next: NDArray[np.int32]
    """(e,): the next entry of the same n-gram, -1 after the last."""
    sieve: U64
    """Bits by n-gram: most that are not in the index are told by one bit."""
    sizes: NDArray[np.int64]
    """(3,): words of the n-grams of `WHOLE` and of `LONG` probes in the table; the spec's `min_words`."""

    def save(self, out: Path) -> None:
        """Write one `.npy` file for each array."""
        for name, array in self._asdict().items():
            np.save(out / f"{name}.npy", array)

    @classmethod
    def load(cls, place: Path) -> "Index":
        """Map what `save` wrote."""
        return cls._make(np.load(place / f"{name}.npy", mmap_mode="r") for name in cls._fields).read_only()

    def read_only(self) -> "Index":
        """The same arrays as views of one type, mapped or not, so that kernels are compiled once."""
        views = [array.view(np.ndarray) for array in self]
        for view in views:
            view.flags.writeable = False
        return Index._make(views)
