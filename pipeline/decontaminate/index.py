"""The index of eval items: what the scan looks for, as arrays that can be memory-mapped."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.letters import LetterIndex
from pipeline.decontaminate.word_hashes import U8, Flags
from pipeline.text.hashing import U64

Array = NDArray[Any]

LONG, WHOLE, EXACT, UNSEARCHABLE = range(4)
"""How a probe is searched. LONG: by its n-grams and the share of its own words that they cover, and a question by a few
short n-grams of its stem too. WHOLE: by its stem, all
but the options, as one stretch of words. EXACT: as a record's whole instruction. UNSEARCHABLE: not at all, because it
is too short or too common."""

TEMPLATE, INFORMATIVE, FIRM, SEAM = 32, 64, 128, 512
"""Flags of a word beside those of `pipeline.decontaminate.word_hashes`. One informative word may be missing where the
answer is found, a firm one never. SEAM: the template's word before belongs to another stretch of the template."""


class Index(NamedTuple):
    """Arrays over p probes, i items, w words and e entries (n-gram, probe), read-only, as kernels take them."""

    words: U64
    prefix: U64
    """(w + 1,): hashes of their prefixes, `pipeline.decontaminate.ngrams.prefixes`."""
    flags: Flags
    bounds: NDArray[np.int64]
    """(p + 1,): probe q has words[bounds[q]:bounds[q + 1]]."""
    stems: NDArray[np.int64]
    """(p, 2): begin and end of the words by which a `WHOLE` or `EXACT` probe is searched."""
    leads: U64
    """(p, l): words of the template before the first of a probe's words, the nearest first; 0 where there is none."""
    listed: NDArray[np.bool_]
    """(p,): little more than options, which are found in any order."""
    own: NDArray[np.int64]
    """(p,): words of a stem that are not the template's."""
    mode: U8
    """(p,): `LONG`, `WHOLE`, `EXACT` or `UNSEARCHABLE`."""
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
    distinctive: NDArray[np.bool_]
    """(i,): few of the task's items have the same answer."""
    table: U64
    """N-gram of each slot; see `pipeline.decontaminate.gram_table`."""
    first: NDArray[np.int32]
    """First entry of each slot."""
    entry_probe: NDArray[np.int32]
    """(e,): the probe of an entry."""
    entry_at: NDArray[np.int32]
    """(e,): offset of the n-gram in a `WHOLE` probe's stem, or in a `LONG` probe if it is as short; else 0."""
    entry_next: NDArray[np.int32]
    """(e,): the next entry of the same n-gram, -1 after the last."""
    sieve: U64
    """Bit set of the n-grams."""
    negations: U64
    """Words that reverse the meaning of a question."""
    sizes: NDArray[np.int64]
    """(3,): words of the n-grams of `WHOLE` and of `LONG` probes in the table; the spec's `min_words`."""

    letters: LetterIndex
    """The stems of questions by their letters."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (*self[:-1], *self.letters))

    def save(self, out: Path) -> None:
        """Write one `.npy` file for each array."""
        (out / "letters").mkdir()
        for folder, arrays in ((out, self._asdict()), (out / "letters", self.letters._asdict())):
            for name, array in arrays.items():
                if name != "letters":
                    np.save(folder / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> "Index":
        """Memory-map what `save` wrote."""

        def read(place: Path, names: Iterable[str]) -> list[Array]:
            return [np.load(place / f"{name}.npy", mmap_mode="r") for name in names]

        letters = LetterIndex._make(read(folder / "letters", LetterIndex._fields))
        return cls._make([*read(folder, cls._fields[:-1]), letters]).read_only()

    def read_only(self) -> "Index":
        """The same arrays as views of one type, mapped or not, so that kernels are compiled once."""

        def views(arrays: Iterable[Array]) -> list[Array]:
            found = [array.view(np.ndarray) for array in arrays]
            for view in found:
                view.flags.writeable = False
            return found

        return Index._make([*views(self[:-1]), LetterIndex._make(views(self.letters))])
