r"""JSON lines whose values are all texts, read as columns by a kernel.

    whole lines ─ bytes that may end a run of text are marked ─▶ runs are copied, escapes replaced ─▶ one column a key

The kernel reads lines as long as each is an object with the same keys in the same order, whose values are strings. It
ends before the first other line, which a reader then parses on its own: blank, broken, or merely of another shape.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from corpus.kernels import INNER_KERNEL, KERNEL, copy_run, next_mark

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_FEED, _BLANK, _TAB, _RETURN = 10, 32, 9, 13
_QUOTE, _ESCAPE, _COLON, _COMMA, _OPEN, _CLOSE = b'"\\:,{}'
_LETTER_U = ord("u")

MOST_KEYS = 8
"""Keys of a row that is read as columns, at most: a buffer as large as all lines is reserved for each."""

_ESCAPED = np.zeros(256, np.uint8)
"""The character of an escape by its letter; 0 for none."""
_ESCAPED[[*b'"\\/bfnrt']] = [*b'"\\/\b\f\n\r\t']
_DIGITS = np.full(256, 255, np.uint8)
"""Value of a hexadecimal digit; 255 for any other byte."""
_DIGITS[[*b"0123456789abcdefABCDEF"]] = [*range(16), *range(10, 16)]


class TextColumns(NamedTuple):
    """Columns of lines that follow each other."""

    columns: Sequence[pa.Array]
    """large_string (n,), one for each key, without nulls; not yet known to be UTF-8."""
    size: int
    """Bytes of the lines with their ends."""


class TextLines:
    """Whole lines of a JSON Lines file.

    Parameters
    ----------
    lines
        The last line ends in a line feed too.
    max_row_bytes
        Longer lines are not read.
    """

    def __init__(self, lines: bytes, max_row_bytes: int) -> None:
        self._lines = np.frombuffer(lines, np.uint8)
        self._max_row_bytes = max_row_bytes
        self._marks = np.zeros(len(lines) // 8 + 1, np.uint64)
        _mark(self._lines, self._marks.view(np.uint8))

    def read(self, begin: int, names: Sequence[str]) -> TextColumns | None:
        """Read lines from the byte `begin` on that have the keys `names`; return None if the first one has not."""
        quoted = [f'"{name}"'.encode("utf-8", "surrogatepass") for name in names]
        keys = np.frombuffer(b"".join(quoted), np.uint8)
        bounds = np.cumsum([0, *map(len, quoted)])
        left = len(self._lines) - begin
        texts = np.empty((len(names), left), np.uint8)
        shortest = len(keys) + 4 * len(names) + 2
        ends = np.zeros((len(names), left // shortest + 2), np.int64)
        rows, end = _read(self._lines, self._marks, begin, keys, bounds, self._max_row_bytes, texts, ends)
        if not rows:
            return None
        columns = [
            pa.LargeStringArray.from_buffers(
                rows, pa.py_buffer(edges[: rows + 1].tobytes()), pa.py_buffer(text[: edges[rows]].tobytes())
            )
            for text, edges in zip(texts, ends, strict=True)
        ]
        return TextColumns(columns, end - begin)


def keys_of(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the keys of a row of a few texts, in JSON written without escapes; None for any other row."""
    if not 0 < len(row) <= MOST_KEYS or any(type(value) is not str for value in row.values()):
        return None
    names = tuple(row)
    return None if any(char in '"\\' or char < " " for name in names for char in name) else names


@njit(**KERNEL)
def _mark(lines: U8, marks: U8) -> None:
    """Mark, with 1, the bytes that can be no part of a run of text in a string: quotes, backslashes and controls."""
    for place in range(len(lines)):
        byte = lines[place]
        marks[place] = np.uint8(byte < 32) | np.uint8(byte == 34) | np.uint8(byte == 92)


@njit(**INNER_KERNEL)
def _after_blanks(lines: U8, at: int) -> int:
    while lines[at] == _BLANK or lines[at] == _TAB or lines[at] == _RETURN:
        at += 1
    return at


@njit(**INNER_KERNEL)
def _hex(lines: U8, at: int) -> int:
    """Value of four hexadecimal digits, -1 for anything else."""
    value = 0
    for place in range(at, at + 4):
        digit = _DIGITS[lines[place]]
        if digit == 255:  # as of the line feed that ends the line
            return -1
        value = value * 16 + int(digit)
    return value


@njit(**INNER_KERNEL)
def _write_utf8(code: int, out: U8, at: int) -> int:
    """Write a character as UTF-8; return where it ends."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | code >> 6
    else:
        if code < 0x10000:
            out[at] = 0xE0 | code >> 12
        else:
            out[at] = 0xF0 | code >> 18
            at += 1
            out[at] = 0x80 | code >> 12 & 0x3F
        at += 1
        out[at] = 0x80 | code >> 6 & 0x3F
    out[at + 1] = 0x80 | code & 0x3F
    return at + 2


@njit(**INNER_KERNEL)
def _read_escape(lines: U8, at: int, out: U8, to: int) -> tuple[int, int]:
    """Write the character of the escape that begins at `at`; return where both end, (-1, to) if it is no escape."""
    letter = lines[at + 1]
    if letter != _LETTER_U:
        out[to] = _ESCAPED[letter]
        return (at + 2 if _ESCAPED[letter] else -1), to + 1
    code = _hex(lines, at + 2)
    at += 6
    if 0xD800 <= code < 0xDC00:  # the first half of a pair
        second = _hex(lines, at + 2) if lines[at] == _ESCAPE and lines[at + 1] == _LETTER_U else -1
        if not 0xDC00 <= second < 0xE000:
            return -1, to
        code = 0x10000 + (code - 0xD800 << 10) + second - 0xDC00
        at += 6
    elif code < 0 or 0xDC00 <= code < 0xE000:
        return -1, to
    return at, _write_utf8(code, out, to)


@njit(**INNER_KERNEL)
def _read_string(lines: U8, marks: U64, at: int, out: U8, to: int) -> tuple[int, int]:
    """Copy the string that begins at `at`, behind its quote; return where it and its copy end, (-1, to) if it is none.

    The end is behind its closing quote.
    """
    while True:
        end = next_mark(marks, at)
        to = copy_run(lines, at, end, out, to)
        if lines[end] == _QUOTE:
            return end + 1, to
        if lines[end] != _ESCAPE:
            return -1, to
        at, to = _read_escape(lines, end, out, to)
        if at < 0:
            return -1, to


@njit(**INNER_KERNEL)
def _read_line(
    lines: U8, marks: U64, at: int, keys: U8, bounds: NDArray[np.int64], texts: U8, ends: NDArray[np.int64], row: int
) -> int:
    """Read the line that begins at `at` to `ends[:, row + 1]`; return where it ends, -1 if it has another shape."""
    if lines[at] != _OPEN:
        return -1
    for column in range(len(bounds) - 1):
        at = _after_blanks(lines, at + 1)
        for byte in keys[bounds[column] : bounds[column + 1]]:
            if lines[at] != byte:
                return -1
            at += 1
        at = _after_blanks(lines, at)
        if lines[at] != _COLON:
            return -1
        at = _after_blanks(lines, at + 1)
        if lines[at] != _QUOTE:
            return -1
        at, ends[column, row + 1] = _read_string(lines, marks, at + 1, texts[column], ends[column, row])
        if at < 0:
            return -1
        at = _after_blanks(lines, at)
        if lines[at] != (_COMMA if column < len(bounds) - 2 else _CLOSE):
            return -1
    at = _after_blanks(lines, at + 1)
    return at + 1 if lines[at] == _FEED else -1


@njit(**KERNEL)
def _read(
    lines: U8,
    marks: U64,
    begin: int,
    keys: U8,
    bounds: NDArray[np.int64],
    max_row_bytes: int,
    texts: U8,
    ends: NDArray[np.int64],
) -> tuple[int, int]:
    """Read lines to `texts` and `ends`; return their number, and where they end."""
    row: Any = np.int64(0)  # not a literal, for which numba would compile `_read_line` once more
    while begin < len(lines):
        end = _read_line(lines, marks, begin, keys, bounds, texts, ends, row)
        if end < 0 or end - 1 - begin > max_row_bytes:
            break
        row += 1
        begin = end
    return row, begin
