"""Unicode for kernels: a class and a folded form of each character, and a decoder of UTF-8.

The tables cover the characters below U+20000. Those above are treated as ideographs, each a word.
"""

import functools
import unicodedata
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text.codes import byte_in
from pipeline.text.options import INNER_KERNEL

SPACE, SIGN, NEWLINE, SENTENCE_END, LETTER, DIGIT, LONE, JOINER, CLAUSE_END, QUOTE = range(10)
"""Classes. LONE: a letter of a script without spaces, which is a word. JOINER: what may stand inside a word, such as an
apostrophe, an underscore or an invisible character. CLAUSE_END: a comma, a colon or the like. SIGN: any other."""

TABLE_SIZE = 0x20000

_LONE_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # CJK ideographs
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
)
_JOINERS = "'’‘ʼ`_" + "".join(map(chr, range(0xFE00, 0xFE10)))
_ENDS = ".!?…。．！？｡؟۔।॥։።"
_CLAUSE_ENDS = ",;:，；：、､،؛¿¡"
_QUOTES = '"“”„‟«»‹›「」『』〝〞＂'
_SIGN_VARIANTS = {"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"}
_FULL_WIDTH, _FULL_WIDTH_ENDS = 0xFEE0, (0xFF01, 0xFF5E)
"""Distance of the full-width forms from ASCII, and the first and last of them."""


@functools.cache
def tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Class and folded code point of each character: uint8 and uint32, (TABLE_SIZE,).

    Folding maps letters to lower case where that is one character, the digits of all scripts to 0-9, full-width forms
    to ASCII, and variants of a sign to one.
    """
    classes = np.full(TABLE_SIZE, SIGN, np.uint8)
    folded = np.arange(TABLE_SIZE, dtype=np.uint32)
    for point in range(TABLE_SIZE):
        char = chr(point)
        category = unicodedata.category(char)
        if category[0] in "LM" or category == "Nl":
            classes[point] = LETTER
            if len(lower := char.lower()) == 1:
                folded[point] = ord(lower)
        elif category == "Nd":
            classes[point] = DIGIT
            folded[point] = ord("0") + unicodedata.digit(char)
        elif category == "No" and unicodedata.digit(char, None) is not None:
            classes[point] = DIGIT
        elif category[0] == "Z" or category == "Cc":
            classes[point] = SPACE
        elif category == "Cf":
            classes[point] = JOINER
    for first, last in _LONE_RANGES:
        span = classes[first : last + 1]
        span[span == LETTER] = LONE
    for chars, kind in (
        (_JOINERS, JOINER),
        (_ENDS, SENTENCE_END),
        (_CLAUSE_ENDS, CLAUSE_END),
        (_QUOTES, QUOTE),
        ("\n", NEWLINE),
    ):
        for char in chars:
            classes[ord(char)] = kind
    for point in range(_FULL_WIDTH_ENDS[0], _FULL_WIDTH_ENDS[1] + 1):
        folded[point] = ord(chr(point - _FULL_WIDTH).lower())
    for char, other in _SIGN_VARIANTS.items():
        folded[ord(char)] = ord(other)
    folded[ord("ς")] = ord("σ")
    return classes, folded


@numba.njit(**INNER_KERNEL)
def class_of(char: Any, classes: NDArray[np.uint8]) -> np.uint8:
    """Class of a code point: `LONE` for those beyond the table, which are ideographs for the most part."""
    return np.uint8(LONE) if char >= TABLE_SIZE else classes[np.uint64(char)]


@numba.njit(**INNER_KERNEL)
def decode(content: NDArray[np.uint8], at: Any) -> tuple[Any, int]:
    """Code point at a byte of valid UTF-8, and its length in bytes."""
    lead = byte_in(content, at)
    if lead < 0x80:
        return lead, 1
    second = byte_in(content, at + 1) & 0x3F
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | second, 2
    middle = second << 6 | (byte_in(content, at + 2) & 0x3F)
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | middle, 3
    return (lead & 0x07) << 18 | middle << 6 | (byte_in(content, at + 3) & 0x3F), 4
