"""Labels of options in questions: "A.", "(b)", "Option 2:", or a letter alone before each line of a list.

They differ between the templates of one question, so they do not count as words. Options are labelled a to j.
"""

import functools

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text import codes
from pipeline.text.codes import Int, byte_at, is_blank_at, is_digit_at, is_letter, past_blanks
from pipeline.text.options import INNER_KERNEL

_MAX_PAREN_BYTES = 64
"""Distance from a letter within which its opening parenthesis is searched."""
_MAX_OPTION_BYTES = 1024
"""Distance from a letter before an option within which the next option is searched."""
_MAX_LABEL_LETTERS = 9


def _pack(word: str) -> int:
    """Letters in seven bits each."""
    return functools.reduce(lambda packed, letter: packed << 7 | ord(letter), word, 0)


_LABEL_WORDS = tuple(map(_pack, ("answer", "choice", "option", "solution")))
_LABEL_BEGINNINGS = tuple(map(_pack, ("ans", "cho", "opt", "sol")))


@numba.njit(**INNER_KERNEL)
def may_be_label(data: NDArray[np.uint8], at: Int, end: Int, char: Int, fresh: bool) -> bool:
    """Whether `label_size` may find a label at a place with a character: a test that settles most places."""
    if fresh or char == codes.PAREN_OPEN or codes.UPPER_A <= char <= codes.UPPER_J:
        return True
    return _begins_label_word(data, at, end)


@numba.njit(**INNER_KERNEL)
def _begins_label_word(data: NDArray[np.uint8], at: Int, end: Int) -> bool:
    """Whether the first letters of a word such as "answer" or "option" are at a place."""
    first, second, third = byte_at(data, at, end), byte_at(data, at + 1, end), byte_at(data, at + 2, end)
    packed = (first | codes.CASE) << 14 | (second | codes.CASE) << 7 | (third | codes.CASE)
    return packed in _LABEL_BEGINNINGS


@numba.njit(**INNER_KERNEL)
def label_size(data: NDArray[np.uint8], begin: int, at: Int, end: int, fresh: bool) -> Int:
    """Bytes of the option's label at a place where no word precedes it, 0 if there is none.

    Parameters
    ----------
    data, begin, at, end
        UTF-8, the text's bounds in it, and the place.
    fresh
        Whether a line or sentence begins at the place.
    """
    char = byte_at(data, at, end)
    if char == codes.PAREN_OPEN:  # "(b)", "( b )"
        letter = past_blanks(data, at + 1, end)
        close = past_blanks(data, letter + 1, end)
        is_label = codes.LOWER_A <= byte_at(data, letter, end) | codes.CASE <= codes.LOWER_J
        return close + 1 - at if is_label and byte_at(data, close, end) == codes.PAREN_CLOSE else 0
    if codes.UPPER_A <= char <= codes.UPPER_J or (fresh and codes.LOWER_A <= char <= codes.LOWER_J):
        size = past_blanks(data, at + 1, end) - at
        if byte_at(data, at + size, end) == codes.PAREN_CLOSE:  # "C )"
            return 0 if _in_parentheses(data, begin, at) else size + 1
        marks = size
        while byte_at(data, at + marks, end) in (codes.PERIOD, codes.COLON):
            marks += 1
        marks += marks > size and byte_at(data, at + marks, end) == codes.PAREN_CLOSE  # "A.)"
        if fresh and marks > size and (at + marks >= end or is_blank_at(data, at + marks, end)):  # "A. ", "a: "
            return marks
    return _word_label_size(data, at, end) if _begins_label_word(data, at, end) else 0


@numba.njit(**INNER_KERNEL)
def _word_label_size(data: NDArray[np.uint8], at: Int, end: int) -> Int:
    """Bytes of a label such as "Answer1" or "Option 2:", 0 if there is none.

    Where a blank precedes the number it takes a colon or parenthesis ("choose answer 2" has no label).
    """
    packed = size = 0
    while size < _MAX_LABEL_LETTERS and is_letter(byte_at(data, at + size, end)):
        packed = packed << 7 | (byte_at(data, at + size, end) | codes.CASE)
        size += 1
    if packed not in _LABEL_WORDS:
        return 0
    apart = byte_at(data, at + size, end) == codes.BLANK
    size += apart
    if not is_digit_at(data, at + size, end):
        return 0
    while is_digit_at(data, at + size, end):
        size += 1
    marks = past_blanks(data, at + size, end) - at
    if byte_at(data, at + marks, end) not in (codes.COLON, codes.PAREN_CLOSE):
        return 0 if apart else size
    while byte_at(data, at + marks, end) in (codes.COLON, codes.PAREN_CLOSE):
        marks += 1
    return marks


@numba.njit(**INNER_KERNEL)
def _in_parentheses(data: NDArray[np.uint8], begin: int, at: Int) -> bool:
    """Whether a parenthesis or bracket is open at a place, so that the next ")" closes it, as in "f(x, A)"."""
    closed = 0
    for place in range(at - 1, max(begin, at - _MAX_PAREN_BYTES) - 1, -1):
        if data[place] in (codes.PAREN_CLOSE, codes.BRACKET_CLOSE):
            closed += 1
        elif data[place] in (codes.PAREN_OPEN, codes.BRACKET_OPEN):
            if not closed:
                return True
            closed -= 1
    return False


@numba.njit(**INNER_KERNEL)
def letter_alone(data: NDArray[np.uint8], at: Int, end: int) -> bool:
    """Whether white space and no operator follows a letter: "A apple", "A -1", but not "A = 1", "A - 1"."""
    if not is_blank_at(data, at + 1, end):
        return False
    at = past_blanks(data, at + 1, end)
    if byte_at(data, at, end) == codes.HYPHEN:
        return not is_blank_at(data, at + 1, end)
    return byte_at(data, at, end) not in codes.ARITHMETIC


@numba.njit(**INNER_KERNEL)
def begins_list(data: NDArray[np.uint8], at: Int, end: int) -> bool:
    """Whether an A alone at a line's beginning labels an option: of later lines with A or B alone, the first has B."""
    first = np.int64(data[at])
    if not letter_alone(data, at, end):
        return False
    end = min(end, at + _MAX_OPTION_BYTES)
    while at < end:
        if data[at] != codes.LINE_FEED:
            at += 1
            continue
        at = past_blanks(data, at + 1, end)
        if byte_at(data, at, end) in (first, first + 1) and letter_alone(data, at, end):
            return bool(data[at] != first)
    return False
