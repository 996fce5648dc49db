"""ASCII codes by name, and tests of single bytes, for kernels."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text.options import INNER_KERNEL

Int = Any
"""An int or NumPy's int64: one type to kernels, two to mypy."""

LINE_FEED, BLANK = ord("\n"), ord(" ")
DOUBLE_QUOTE, APOSTROPHE, BACKTICK = ord('"'), ord("'"), ord("`")
PAREN_OPEN, PAREN_CLOSE, BRACKET_OPEN, BRACKET_CLOSE = ord("("), ord(")"), ord("["), ord("]")
COMMA, PERIOD, COLON = ord(","), ord("."), ord(":")
ASTERISK, PLUS, HYPHEN, SLASH, CARET = ord("*"), ord("+"), ord("-"), ord("/"), ord("^")
LESS, EQUAL, GREATER = ord("<"), ord("="), ord(">")
ARITHMETIC = (ASTERISK, PLUS, HYPHEN, SLASH, CARET, LESS, EQUAL, GREATER)
DIGIT_0, DIGIT_9, UPPER_A, UPPER_J = ord("0"), ord("9"), ord("A"), ord("J")
LOWER_A, LOWER_I, LOWER_J, LOWER_Z = ord("a"), ord("i"), ord("j"), ord("z")
CASE = 32
"""The bit that is set in lower-case letters only: `byte | CASE` folds a letter."""


@numba.njit(**INNER_KERNEL)
def byte_in(data: NDArray[np.uint8], at: Int) -> Int:
    """The byte at a place of the data; an unsigned index takes no instructions for negative ones."""
    return np.int64(data[np.uint64(at)])


@numba.njit(**INNER_KERNEL)
def byte_at(data: NDArray[np.uint8], at: Int, end: Int) -> Int:
    """The byte at a place that is not negative, 0 from `end` on."""
    return byte_in(data, at) if at < end else 0


@numba.njit(**INNER_KERNEL)
def is_letter(byte: Int) -> bool:
    return LOWER_A <= byte | CASE <= LOWER_Z


@numba.njit(**INNER_KERNEL)
def is_digit_at(data: NDArray[np.uint8], at: Int, end: Int) -> bool:
    return at < end and bool(DIGIT_0 <= byte_in(data, at) <= DIGIT_9)


@numba.njit(**INNER_KERNEL)
def is_blank_at(data: NDArray[np.uint8], at: Int, end: Int) -> bool:
    """Whether a place holds a blank or a line feed."""
    return at < end and byte_in(data, at) in (BLANK, LINE_FEED)


@numba.njit(**INNER_KERNEL)
def past_blanks(data: NDArray[np.uint8], at: Int, end: Int) -> Int:
    """The first place from `at` on that holds no blank."""
    while at < end and byte_in(data, at) == BLANK:
        at += 1
    return at


@numba.njit(**INNER_KERNEL)
def separates_thousands(data: NDArray[np.uint8], at: Int, end: Int) -> bool:
    """Whether exactly three digits follow the comma at a place, as in "1,000"."""
    return (
        is_digit_at(data, at + 1, end)
        and is_digit_at(data, at + 2, end)
        and is_digit_at(data, at + 3, end)
        and not is_digit_at(data, at + 4, end)
    )
