r"""Byte ranges of a large JSON Lines file, so that several processes can read it.

    chunks of the file, in order ─▶ `Divider` ─▶ `ByteRange`, … ─ read_pairs(span=…) ─▶ the rows of each range

A range has the lines that begin in one piece of `size` bytes of the file, so the ranges depend on the content alone. It
knows the number of lines and rows before it: rows and positions are numbered as if the file were read in one piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from corpus.formats.base import Limits
from corpus.formats.jsonl import BOM, is_blank
from corpus.formats.stream import find_line_end

_MAY_BE_BLANK = b" \t\n\r\x0b\x0c" + BOM
"""Bytes of lines that are not rows."""
_NEWLINE, _BRACE = b"\n{"


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """Whole lines of a file that follow each other."""

    begin: int
    """Offset of the first byte."""
    size: int
    """Bytes."""
    line: int
    """Lines of the file before the range."""
    row: int
    """Rows of the file before the range: lines that are not blank."""
    rows: int
    """Rows of the range."""
    xxh3_128: str
    """Hash of the bytes."""

    @property
    def shown(self) -> str:
        """The range, for messages."""
        return f"bytes {self.begin:,} to {self.begin + self.size:,}"


class Divider:
    """Divides a file into ranges as its content passes.

    Parameters
    ----------
    size
        Bytes of a range: it has the lines that begin in [k * size, (k + 1) * size) for some k.
    limits
        A line above `max_row_bytes` is a row, whatever it has.
    """

    def __init__(self, size: int, limits: Limits | None = None) -> None:
        self._size = size
        self._max_row_bytes = (limits or Limits()).max_row_bytes
        self._ranges: list[ByteRange] = []
        self._has_newlines: bool | None = None
        self._offset = self._lines = self._rows = 0
        self._line_bytes = 0
        self._line = bytearray()
        """The incomplete line as far as it may be blank."""
        self._line_is_row = False
        self._open(0)

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        if self._has_newlines is None:
            end, _ = find_line_end(iter([chunk]))
            self._has_newlines = end == b"\n"
        if not self._has_newlines:
            return
        while chunk:
            # The newline before the first line that begins at the boundary or behind it.
            cut = chunk.find(b"\n", max(self._boundary - 1 - self._offset, 0)) + 1
            self._take(chunk[:cut] if cut else chunk)
            if not cut:
                return
            self._close()
            self._open(self._offset)
            chunk = chunk[cut:]

    def ranges(self) -> Sequence[ByteRange]:
        """Return the ranges of the whole file; none if its lines end in carriage returns."""
        if self._line_bytes:
            self._end_line()
        if self._offset > self._begin:
            self._close()
        return tuple(self._ranges)

    def _open(self, begin: int) -> None:
        self._begin, self._first_line, self._first_row = begin, self._lines, self._rows
        self._boundary = (begin // self._size + 1) * self._size
        self._hash = xxhash.xxh3_128()

    def _close(self) -> None:
        self._ranges.append(
            ByteRange(
                begin=self._begin,
                size=self._offset - self._begin,
                line=self._first_line,
                row=self._first_row,
                rows=self._rows - self._first_row,
                xxh3_128=self._hash.hexdigest(),
            )
        )

    def _take(self, content: bytes) -> None:
        self._hash.update(content)
        self._offset += len(content)
        array = np.frombuffer(content, np.uint8)
        ends = np.flatnonzero(array == _NEWLINE)
        if not len(ends):
            self._continue_line(content)
            return
        first, last = int(ends[0]), int(ends[-1])
        self._continue_line(content[:first])
        self._end_line()
        lines = len(ends) - 1
        self._lines += lines
        if np.count_nonzero(array[ends[:-1] + 1] == _BRACE) == lines:
            self._rows += lines
        else:
            self._rows += sum(self._is_row(line) for line in content[first + 1 : last].split(b"\n"))
        self._continue_line(content[last + 1 :])

    def _continue_line(self, content: bytes) -> None:
        self._line_bytes += len(content)
        if self._line_is_row:
            return
        self._line += content
        if content.translate(None, _MAY_BE_BLANK) or self._line_bytes > self._max_row_bytes:
            self._line_is_row = True
            self._line.clear()

    def _end_line(self) -> None:
        self._lines += 1
        self._rows += self._line_is_row or self._is_row(bytes(self._line))
        self._line.clear()
        self._line_bytes, self._line_is_row = 0, False

    def _is_row(self, line: bytes) -> bool:
        return len(line) > self._max_row_bytes or not is_blank(line)
