"""Recognition of code and formulas: lines of which every sign and the case of every letter are informative.

A line is code if it has signs that prose does not have, at least one to `WORDS_PER_SIGN` words: calls and indexes
("f(", "a["), braces, names with underscores, operators of two signs, options ("ls -l"), and an assignment at its
beginning. So is every line between fences ("```"). White space, letter case, sentence ends and quotes decide nothing
here, so that the variants of a text that differ only by them are recognised alike.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text import codes
from pipeline.text.codes import Int, byte_at, byte_in, is_letter, past_blanks
from pipeline.text.marks import mark_size
from pipeline.text.options import FALSE, INNER_KERNEL, ZERO

WORDS_PER_SIGN = 5
_FENCE_TICKS = 3
_TAB, _TAB_COLUMNS = ord("\t"), 8
_S, _UNDERSCORE, _BRACE_OPEN, _BRACE_CLOSE, _AMPERSAND = ord("s"), ord("_"), ord("{"), ord("}"), ord("&")
_BEFORE_EQUAL = tuple(ord(sign) for sign in "=!<>+-*/:")
_DOUBLED = tuple(ord(sign) for sign in "&|+")


@numba.njit(**INNER_KERNEL)
def has_code(data: NDArray[np.uint8], begin: int, end: int) -> bool:
    """Whether any line of a text is code."""
    found = _may_have_code(data[begin:end])
    while found and begin < end:
        after, code = _read_line(data, begin, end)
        if code:
            return True
        begin = after + 1
    return False


@numba.njit(**INNER_KERNEL)
def _may_have_code(text: NDArray[np.uint8]) -> bool:
    """Whether a text has any of "([{}_=>&|+/`"; the compiler makes vector instructions of it."""
    found = np.uint8(0)
    for byte in text:
        found |= np.uint8(np.uint8(byte - np.uint8(_BRACE_OPEN)) < np.uint8(3))  # {|}
        found |= np.uint8(np.uint8(byte - np.uint8(_UNDERSCORE)) < np.uint8(2))  # _`
        found |= np.uint8(np.uint8(byte - np.uint8(codes.EQUAL)) < np.uint8(2))  # =>
        found |= np.uint8(byte == codes.PAREN_OPEN) | np.uint8(byte == codes.BRACKET_OPEN)
        found |= np.uint8(byte == codes.PLUS) | np.uint8(byte == codes.SLASH) | np.uint8(byte == _AMPERSAND)
    return found != 0


@numba.njit(**INNER_KERNEL)
def is_code_line(data: NDArray[np.uint8], begin: int, end: int) -> bool:
    """Whether the line that begins at a place is code."""
    return bool(_read_line(data, begin, end)[1])


@numba.njit(**INNER_KERNEL)
def is_fence(data: NDArray[np.uint8], at: Int, end: int) -> bool:
    """Whether "```" is at a place."""
    ticks = 0
    while ticks < _FENCE_TICKS and byte_at(data, at + ticks, end) == codes.BACKTICK:
        ticks += 1
    return ticks == _FENCE_TICKS


@numba.njit(**INNER_KERNEL)
def depth_at(data: NDArray[np.uint8], begin: Int, at: Int) -> int:
    """Columns of the white space from a line's beginning to a place; a tab counts as `_TAB_COLUMNS`."""
    depth = 0
    for place in range(begin, at):
        depth += _TAB_COLUMNS if data[place] == _TAB else 1
    return depth


@numba.njit(**INNER_KERNEL)
def _read_line(data: NDArray[np.uint8], begin: int, end: int) -> tuple[int, bool]:
    """The end of a line, and whether it is code."""
    signs = words = ZERO
    in_word = FALSE  # the byte before belongs to a word
    named = FALSE  # ... which begins with a letter
    before = np.int64(0)
    place = begin
    if is_fence(data, past_blanks(data, begin, end), end):
        signs = end - begin
    while place < end and data[place] != codes.LINE_FEED:
        byte = np.int64(data[place])
        letter = is_letter(byte) or byte >= 0x80
        if letter or codes.DIGIT_0 <= byte <= codes.DIGIT_9 or (byte == _UNDERSCORE and in_word):
            if not in_word:
                words += 1
                named = bool(letter)
                in_word = True
            if byte == _UNDERSCORE:
                signs += is_letter(byte_at(data, place + 1, end))
        else:
            if byte == codes.LESS:
                size = mark_size(data, place, end)
                if size:
                    place += size
                    continue
            signs += _is_code_sign(data, begin, place, end, byte, before, in_word and named, words)
            in_word = False
        before = byte
        place += 1
    return place, signs > 0 and WORDS_PER_SIGN * signs >= words


@numba.njit(**INNER_KERNEL)
def _is_code_sign(  # type: ignore[no-untyped-def]
    data: NDArray[np.uint8], line: Int, at: Int, end: int, byte: Int, before: Int, after_name: bool, words: int
):
    """Whether a sign is one that prose does not have."""
    following = byte_at(data, at + 1, end)
    found = byte in (_BRACE_OPEN, _BRACE_CLOSE)
    if byte in (codes.PAREN_OPEN, codes.BRACKET_OPEN):
        plural = following | codes.CASE == _S and byte_at(data, at + 2, end) == codes.PAREN_CLOSE  # "word(s)"
        found = (after_name or before in (codes.PAREN_CLOSE, codes.BRACKET_CLOSE)) and not plural
    elif byte == codes.EQUAL:
        assigns = words == 1 and (after_name or before == codes.BLANK)
        found = assigns or before in _BEFORE_EQUAL or following in (codes.EQUAL, codes.GREATER)
    elif byte == codes.GREATER:
        found = before == codes.HYPHEN
    elif byte in _DOUBLED:
        found = before == byte
    elif byte == codes.HYPHEN:  # an option of a command
        found = before in (codes.BLANK, codes.HYPHEN) and is_letter(following)
    elif byte == codes.SLASH:
        found = before == byte and (at < line + 2 or byte_in(data, at - 2) != codes.COLON)
    return found
