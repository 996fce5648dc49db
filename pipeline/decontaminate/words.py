"""Words of texts as hashes, alike for eval items and train records, however they are typeset.

    texts ─ NFKC where it could matter ─ kernel over UTF-8 bytes ─▶ a hash and flags for each word

A word is a run of letters and digits, folded to lower case; punctuation and apostrophes do not count. Signs of
arithmetic count beside a digit, also where a line is broken there. Not words: the labels of options ("A.", "(b)",
"Option2:", or a letter alone before each line of a list), which are what templates differ in, and the calculator marks
of worked solutions ("<<3*4=12>>").
"""

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.text.characters import (
    DIGIT,
    JOINER,
    LETTER,
    LONE,
    NEWLINE,
    SENTENCE_END,
    SPACE,
    TABLE_SIZE,
    decode,
    tables,
)
from pipeline.text.columns import texts_of
from pipeline.text.normal import normalized

U64 = NDArray[np.uint64]
Int = Any
"""An int or NumPy's int64: to kernels they are one type, to mypy they are not."""

NUMBER, NAME, BREAK, OPTION, LABEL = 1, 2, 4, 8, 16
"""Flags of a word: has a digit; is capitalised inside a sentence; begins a line or an option; stands in an option;
begins a line and is followed by a colon."""

BASE = np.uint64(0x9E3779B97F4A7C15)
_PRIME = np.uint64(0x00000100000001B3)
_ANSWER, _CHOICE, _OPTION, _SOLUTION = (
    functools.reduce(lambda packed, letter: packed << 7 | ord(letter), word, 0)
    for word in ("answer", "choice", "option", "solution")
)
"""Words of options' labels, seven bits a letter."""
_NOT_NFKC = r"[^\x00-\x7f]"
"""Characters that NFKC could change."""
_MARK_BYTES = 80
"""Calculator marks are at most so long."""
_PAREN_BYTES, _OPTION_BYTES = 64, 1024
"""How far from a letter its opening parenthesis, or from a letter before an option the next one, is looked for."""


class Words(NamedTuple):
    """Words of n texts, one after the other."""

    words: U64
    flags: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    """(n + 1,): text i has words[bounds[i]:bounds[i + 1]]."""
    splits: NDArray[np.int64]
    """(n,): how many of text i's words belong to its first part."""


def words_of(first: pl.Series, second: pl.Series | None = None) -> Words:
    """Words of texts, or of pairs of texts: those of the first, then those of the second.

    Parameters
    ----------
    first, second
        String (n,), no nulls.
    """
    first = normalized(first, "NFKC", may_change=_NOT_NFKC)
    texts = first if second is None else (first + "\n" + normalized(second, "NFKC", may_change=_NOT_NFKC))
    sizes = first.str.len_bytes().to_numpy().astype(np.int64)
    content, bounds = texts_of(texts.to_arrow().cast(pa.large_string()))
    parts = np.append(np.stack([bounds[:-1], bounds[:-1] + sizes], axis=1), bounds[-1])
    words, flags, word_bounds = _tokenize(content, parts, *tables())
    return Words(words, flags, word_bounds[::2].copy(), word_bounds[1::2] - word_bounds[:-1:2])


@numba.njit(cache=True, nogil=True, inline="always")
def _byte(content: NDArray[np.uint8], at: Int, end: int) -> Int:
    return np.int64(content[at]) if at < end else 0


@numba.njit(cache=True, nogil=True, inline="always")
def _is_letter(char: Int) -> bool:
    return 97 <= char | 32 <= 122


@numba.njit(cache=True, nogil=True, inline="always")
def _past_spaces(content: NDArray[np.uint8], at: Int, end: int) -> Int:
    while at < end and content[at] == 32:
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _enclosed(content: NDArray[np.uint8], begin: int, at: Int) -> bool:
    """Whether a parenthesis or bracket is open here: then ")" closes it, as in "f(x, A)", and makes no label."""
    closed = 0
    for place in range(at - 1, max(begin, at - _PAREN_BYTES) - 1, -1):
        if content[place] in (41, 93):  # ) ]
            closed += 1
        elif content[place] in (40, 91):  # ( [
            if not closed:
                return True
            closed -= 1
    return False


@numba.njit(cache=True, nogil=True)
def _stands_alone(content: NDArray[np.uint8], at: Int, end: int) -> bool:
    """Whether the letter here is followed by a space and no sign: "A apple", "A -1", but not "A = 1", "A - 1"."""
    if _byte(content, at + 1, end) not in (10, 32):
        return False
    at = _past_spaces(content, at + 1, end)
    if _byte(content, at, end) == 45:  # -
        return _byte(content, at + 1, end) not in (10, 32)
    return _byte(content, at, end) not in (42, 43, 47, 60, 61, 62, 94)


@numba.njit(cache=True, nogil=True)
def _begins_list(content: NDArray[np.uint8], at: Int, end: int) -> bool:
    """Whether the letter A alone, which begins the line here, is an option's: a later line begins with B alone, and
    none between them with A."""
    first = np.int64(content[at])
    if not _stands_alone(content, at, end):
        return False
    end = min(end, at + _OPTION_BYTES)
    while at < end:
        if content[at] != 10:
            at += 1
            continue
        at = _past_spaces(content, at + 1, end)
        if _byte(content, at, end) in (first, first + 1) and _stands_alone(content, at, end):
            return bool(content[at] != first)
    return False


@numba.njit(cache=True, nogil=True)
def _label(content: NDArray[np.uint8], begin: int, at: Int, end: int, fresh: bool) -> Int:
    """Bytes of an option's label that begins here, where no word stands before: "(b)", "C )", "A. ", "Choice 2:".

    `begin`, `end`: of the text. `fresh`: a line or sentence begins here.
    """
    char = _byte(content, at, end)
    if char == 40:  # (
        letter = _past_spaces(content, at + 1, end)
        close = _past_spaces(content, letter + 1, end)
        is_label = 97 <= _byte(content, letter, end) | 32 <= 106 and _byte(content, close, end) == 41
        return close + 1 - at if is_label else 0
    if 65 <= char <= 74 or (fresh and 97 <= char <= 106):
        size = _past_spaces(content, at + 1, end) - at
        if _byte(content, at + size, end) == 41:
            return 0 if _enclosed(content, begin, at) else size + 1
        marks = size
        while _byte(content, at + marks, end) in (46, 58):  # . :
            marks += 1
        if fresh and marks > size and (at + marks >= end or content[at + marks] in (32, 10)):
            return marks
    # "Answer1", "Option 2:": only a colon makes a label of a word and a number apart from it ("choose answer 2").
    word = size = 0
    while size < 9 and _is_letter(_byte(content, at + size, end)):
        word = word << 7 | (_byte(content, at + size, end) | 32)
        size += 1
    if word not in (_ANSWER, _CHOICE, _OPTION, _SOLUTION):
        return 0
    apart = _byte(content, at + size, end) == 32
    size += apart
    if not 48 <= _byte(content, at + size, end) <= 57:
        return 0
    while 48 <= _byte(content, at + size, end) <= 57:
        size += 1
    digits = size
    while _byte(content, at + size, end) == 32:
        size += 1
    if _byte(content, at + size, end) not in (58, 41):  # : )
        return 0 if apart else digits
    while _byte(content, at + size, end) in (58, 41):
        size += 1
    return size


@numba.njit(cache=True, nogil=True, inline="always")
def _apostrophe(content: NDArray[np.uint8], at: Int, end: int) -> int:
    """Bytes of an apostrophe that stands here, else 0."""
    char = _byte(content, at, end)
    if char == 0xE2:
        return 3 if _byte(content, at + 1, end) == 0x80 and _byte(content, at + 2, end) == 0x99 else 0
    return int(char in (39, 96))


@numba.njit(cache=True, nogil=True)
def _clitic(content: NDArray[np.uint8], at: Int, end: int) -> bool:
    """Whether what begins here belongs to the word before: "Ann 's", "do n't", as some corpora are written."""
    negation = _byte(content, at, end) | 32 == 110
    at += negation
    if _byte(content, at, end) in (39, 96):  # ' `
        at += 1
    elif (
        _byte(content, at, end) == 0xE2 and _byte(content, at + 1, end) == 0x80 and _byte(content, at + 2, end) == 0x99
    ):
        at += 3
    else:
        return False
    first, second = _byte(content, at, end) | 32, _byte(content, at + 1, end) | 32
    if not _is_letter(second):
        return first == 116 if negation else first in (115, 116, 100, 109)  # s t d m
    return (
        not negation
        and not _is_letter(_byte(content, at + 2, end))
        and ((first in (114, 118) and second == 101) or (first == 108 and second == 108))  # re ve ll
    )


@numba.njit(cache=True, nogil=True)
def _mark(content: NDArray[np.uint8], at: Int, end: int) -> int:
    """Bytes of a calculator mark that begins here, else 0."""
    if _byte(content, at + 1, end) != 60:
        return 0
    for place in range(at + 2, min(end - 1, at + _MARK_BYTES)):
        if content[place] == 10:
            return 0
        if content[place] == 62 and content[place + 1] == 62:
            return place + 2 - at
    return 0


@numba.njit(cache=True, nogil=True)
def _is_word_sign(
    content: NDArray[np.uint8], at: Int, end: int, sign: Int, before: Int, classes: NDArray[np.uint8]
) -> bool:
    """Whether a sign of arithmetic stands between words of which one is a number; a hyphen, between two numbers."""
    if sign not in (42, 43, 45, 47, 60, 61, 62, 94) or before not in (LETTER, DIGIT):
        return False
    while at < end and content[at] in (10, 32):
        at += 1
    if at < end and content[at] == 60:
        at += _mark(content, at, end)
    if at >= end:
        return False
    char, _ = decode(content, at)
    after = classes[char] if char < TABLE_SIZE else LONE
    if sign == 45:
        return before == DIGIT and after == DIGIT
    return after in (LETTER, DIGIT) and DIGIT in (before, after)


@numba.njit(cache=True, nogil=True)
def _tokenize(
    content: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    classes: NDArray[np.uint8],
    folded: NDArray[np.uint32],
) -> tuple[U64, NDArray[np.uint8], NDArray[np.int64]]:
    texts = len(bounds) - 1
    words = np.empty((bounds[-1] - bounds[0]) // 3 + 64, np.uint64)
    flags = np.empty(len(words), np.uint8)
    word_bounds = np.zeros(texts + 1, np.int64)
    count = 0
    for text in range(texts):
        at, end = bounds[text], bounds[text + 1]
        before = np.int64(SPACE)  # class of the last character that is no white space
        touching = False  # whether that character stands right before
        line_start = sentence_start = True
        option = False
        next_letter = np.int64(0)  # what labels the next option in a list of letters alone
        pending = np.uint8(BREAK)
        while at < end:
            char, width = decode(content, at)
            kind = np.int64(classes[char]) if char < TABLE_SIZE else np.int64(LONE)
            if not (touching and before in (LETTER, DIGIT)):
                fresh = sentence_start and (at == bounds[text] or content[at - 1] in (10, 32))  # not the "E." of "P.E."
                skip = _label(content, bounds[text], at, end, fresh) if char == 40 or kind == LETTER else 0
                if not skip and fresh and line_start:
                    listed = char == next_letter and _stands_alone(content, at, end)
                    if listed or (char | 32 == 97 and _begins_list(content, at, end)):
                        skip, next_letter = 1, char + 1
                if skip:
                    at += skip
                    option = sentence_start = True
                    line_start = touching = False
                    before = np.int64(SPACE)
                    pending = np.uint8(BREAK)
                    continue
            if char == 60:
                skip = _mark(content, at, end)
                if skip:
                    at += skip
                    continue
            if kind in (LETTER, DIGIT, LONE):
                if count + 1 >= len(words):
                    grown, marks = np.empty(2 * len(words), np.uint64), np.empty(2 * len(words), np.uint8)
                    grown[:count], marks[:count] = words[:count], flags[:count]
                    words, flags = grown, marks
                point = char if char >= TABLE_SIZE else np.int64(folded[char])
                word = (np.uint64(0xCBF29CE484222325) ^ np.uint64(point)) * _PRIME
                flag = np.uint8(NUMBER) if kind == DIGIT else np.uint8(0)
                if point != char and kind == LETTER and not sentence_start:
                    flag |= np.uint8(NAME)
                at += width
                while kind != LONE and at < end:
                    char, width = decode(content, at)
                    if char >= TABLE_SIZE:
                        break
                    following = np.int64(classes[char])
                    if following in (LETTER, DIGIT):
                        word = (word ^ np.uint64(folded[char])) * _PRIME
                        kind = following
                        if following == DIGIT:
                            flag |= np.uint8(NUMBER)
                    elif kind == DIGIT and char == 46 and 48 <= _byte(content, at + 1, end) <= 57:
                        word = (word ^ np.uint64(46)) * _PRIME  # a decimal point
                    elif kind == DIGIT and char == 44 and _thousand(content, at, end):
                        pass
                    elif char in (10, 32):
                        width = 1
                        while _byte(content, at + width, end) in (10, 32):
                            width += 1
                        if not _clitic(content, at + width, end):
                            break
                    elif following != JOINER:
                        break
                    at += width
                if line_start and at < end and content[at] == 58:
                    flag |= np.uint8(LABEL)
                words[count] = (word ^ (word >> np.uint64(29))) * BASE
                flags[count] = flag | pending | (np.uint8(OPTION) if option else np.uint8(0))
                count += 1
                pending = np.uint8(0)
                before = kind if kind != LONE else np.int64(LETTER)
                touching = kind != LONE
                line_start = sentence_start = False
                continue
            sign = np.int64(folded[char])
            bullet = line_start and sign in (42, 45, 62)  # * - >
            if not bullet and _is_word_sign(content, at + width, end, sign, before, classes):
                if count + 1 >= len(words):
                    grown, marks = np.empty(2 * len(words), np.uint64), np.empty(2 * len(words), np.uint8)
                    grown[:count], marks[:count] = words[:count], flags[:count]
                    words, flags = grown, marks
                words[count] = (np.uint64(sign) + np.uint64(1)) * BASE
                flags[count] = np.uint8(NUMBER) | (np.uint8(OPTION) if option else np.uint8(0))
                count += 1
            if kind == NEWLINE:
                line_start = sentence_start = True
                option = False
                pending = np.uint8(BREAK)
            elif kind == SENTENCE_END:
                sentence_start = True
            if kind not in (SPACE, NEWLINE):
                before = kind
            touching = False
            if kind not in (SPACE, NEWLINE) and char not in (34, 39, 40, 42, 45):
                line_start = False
            at += width
        word_bounds[text + 1] = count
    return words[:count].copy(), flags[:count].copy(), word_bounds


@numba.njit(cache=True, nogil=True, inline="always")
def _thousand(content: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether the comma here is followed by exactly three digits."""
    for place in range(1, 4):
        if not 48 <= _byte(content, at + place, end) <= 57:
            return False
    return not 48 <= _byte(content, at + 4, end) <= 57


@numba.njit(cache=True, nogil=True)
def prefixes(words: U64) -> U64:
    """Polynomial hashes of the beginnings of a sequence of words, (n + 1,); `gram` takes the hash of any stretch."""
    found = np.zeros(len(words) + 1, np.uint64)
    for place in range(len(words)):
        found[place + 1] = found[place] * BASE + words[place]
    return found


@numba.njit(cache=True, nogil=True, inline="always")
def gram(prefix: U64, at: int, size: int, power: np.uint64) -> np.uint64:
    """Hash of `size` words from `at`, never 0; `power` is `powers(…)[size]`."""
    value = prefix[at + size] - prefix[at] * power + np.uint64(size)
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (value ^ (value >> np.uint64(32))) | np.uint64(1)


@numba.njit(cache=True, nogil=True)
def powers(most: int) -> U64:
    """`BASE` to the power of 0 … most."""
    found = np.ones(most + 1, np.uint64)
    for place in range(most):
        found[place + 1] = found[place] * BASE
    return found
