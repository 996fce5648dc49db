"""Changes of some texts of a column: Unicode normal forms, and any function that is slow or rarely needed."""

import functools
import unicodedata
from collections.abc import Callable
from typing import Literal

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.text.characters import decode
from pipeline.text.columns import Texts
from pipeline.text.options import KERNEL

_LISTED = 0x3400
"""Characters below are looked up one by one."""
_NEVER_CHANGED = ((0x3400, 0x4DBF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0x1F300, 0x1F64F))
"""First and last of the larger ranges above: ideographs, Korean syllables, pictures."""


def where(chosen: NDArray[np.bool_], texts: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Return the texts with `change` applied to the chosen ones.

    Parameters
    ----------
    chosen
        bool (n,).
    texts
        String (n,).
    change
        Function from some texts to as many.
    """
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return texts
    if len(rows) == len(texts):
        return change(texts)
    choice = np.arange(len(texts))
    choice[rows] = np.arange(len(texts), len(texts) + len(rows))
    return pl.concat([texts, change(texts.gather(rows))]).gather(choice)


def normalized(texts: pl.Series, form: Literal["NFC", "NFKC"], *, may_change: str) -> pl.Series:
    """Texts in a normal form; only those that match the pattern `may_change` are converted, which is slow."""
    return where(texts.str.contains(may_change).to_numpy(), texts, lambda some: some.str.normalize(form))


def may_change_in_nfkc(texts: Texts) -> NDArray[np.bool_]:
    """Whether NFKC may change each of n texts (n,): it has a character that is not NFKC's own or may join others."""
    found = np.zeros(len(texts.bounds) - 1, np.bool_)
    _write_any_in(texts, _may_change_in_nfkc(), found)
    return found


@functools.cache
def _may_change_in_nfkc() -> NDArray[np.bool_]:
    """Whether NFKC may change a text with a character, (0x20000,); of all others it may.

    A text is in the form if none of its characters is changed alone, combines, or is the second of a pair that becomes
    one. That holds for the characters that Python's version of Unicode assigns in every later version.
    """
    found = np.ones(0x20000, np.bool_)
    for first, last in _NEVER_CHANGED:
        found[first : last + 1] = False
    second = {0x1161 + vowel for vowel in range(21)} | {0x11A7 + final for final in range(28)}
    for point in range(_LISTED):
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and parts[0][0] != "<":
            second.add(int(parts[1], 16))
    for point in range(_LISTED):
        char = chr(point)
        assigned = unicodedata.category(char) != "Cn"
        found[point] = not (assigned and unicodedata.is_normalized("NFKC", char)) or bool(unicodedata.combining(char))
    found[[point for point in second if point < len(found)]] = True
    return found


@numba.njit(**KERNEL)
def _write_any_in(texts: Texts, chosen: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
    """Mark the texts of which any character is chosen; none that is ASCII is."""
    for text in range(len(found)):
        at, end = texts.bounds[text], texts.bounds[text + 1]
        bits = np.uint8(0)
        for byte in texts.data[at:end]:  # vector instructions
            bits |= byte
        if bits < 0x80:
            continue
        while at < end and not found[text]:
            char, width = decode(texts.data, at)
            found[text] = char >= len(chosen) or chosen[char]
            at += width
