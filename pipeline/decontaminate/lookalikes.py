"""Letters that look alike as one: Latin, Greek and Cyrillic ones without marks, and those drawn like a Latin one.

The tables are those of `pipeline.text.characters` with further foldings. Words of any language stay distinct but for
marks, since letters are exchanged alike in eval items and train records.
"""

import functools
import re
import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.text.characters import JOINER, LETTER, TABLE_SIZE, tables

_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
_MARKS = ((0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
"""First and last of the blocks of marks that combine with these alphabets."""
_END = 0xAC00
"""No letter of these alphabets comes after this one but by a compatibility form."""
_LATIN = re.compile(r"LATIN (?:SMALL LETTER ([A-Z]) WITH .*|LETTER SMALL CAPITAL ([A-Z])|SMALL LETTER DOTLESS ([IJ]))")
"""Names of letters that have a Latin one in them: "ø", "ᴀ", "ı"."""
_DRAWN_ALIKE = {
    "а": "a", "в": "b", "с": "c", "ԁ": "d", "е": "e", "һ": "h", "н": "h", "і": "i", "ј": "j", "к": "k", "ӏ": "l",
    "м": "m", "о": "o", "р": "p", "ԛ": "q", "г": "r", "ѕ": "s", "т": "t", "ѵ": "v", "ԝ": "w", "х": "x", "у": "y",
    "ү": "y", "α": "a", "β": "b", "ϲ": "c", "ε": "e", "η": "n", "ι": "i", "ϳ": "j", "κ": "k", "μ": "m", "ν": "v",
    "ο": "o", "ρ": "p", "τ": "t", "υ": "u", "χ": "x", "ζ": "z", "ց": "g", "հ": "h", "ո": "n", "օ": "o", "զ": "q",
    "ս": "u", "ɑ": "a", "ɡ": "g", "ɩ": "i",
}  # fmt: skip
"""Small letters of other alphabets, drawn like a Latin one as they are or as capitals."""


class LetterTables(NamedTuple):
    """Of each character below `TABLE_SIZE`, (TABLE_SIZE,)."""

    classes: NDArray[np.uint8]
    folded: NDArray[np.uint32]
    """The character that it counts as."""
    capital: NDArray[np.bool_]


@functools.cache
def letter_tables() -> LetterTables:
    """Classes and foldings of characters for decontamination."""
    classes, lower = tables()
    classes = classes.copy()
    points = np.arange(TABLE_SIZE, dtype=np.uint32)
    capital = (classes == LETTER) & (lower != points)
    capital[ord("ς")] = False
    letters = points.copy()
    for point in np.flatnonzero(classes[:_END] == LETTER).tolist():
        char = chr(point)
        name = unicodedata.name(char, "")
        if name.startswith(_ALPHABETS):
            parts = unicodedata.normalize("NFD", char)
            if all(unicodedata.combining(mark) for mark in parts[1:]):
                char = parts[0].lower()
            if found := _LATIN.match(name):
                char = next(filter(None, found.groups())).lower()
        letters[point] = ord(_DRAWN_ALIKE.get(char, char))
    folded = letters[lower]
    folded[folded < TABLE_SIZE] = letters[folded[folded < TABLE_SIZE]]
    for first, last in _MARKS:
        classes[first : last + 1] = JOINER
    return LetterTables(classes, folded, capital)
