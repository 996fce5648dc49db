"""CSV and TSV with a header; the delimiter is the candidate that is most frequent in the header.

    lines ─▶ csv.reader (a quoted cell may contain line ends) ─▶ cells ─▶ row by header

Cells are text; an empty cell is the empty text.
"""

import csv
import re
from collections.abc import Iterator
from itertools import chain

from corpus.formats.base import BrokenFileError, Format, Head, Limits, Row, RowError, Rows, shorten
from corpus.formats.stream import Input, read_lines
from corpus.outcome import Outcome

_DELIMITERS = ",;\t|"

csv.field_size_limit(1 << 40)  # _Lines bounds a row by `Limits.max_row_bytes` before csv would


class _Lines:
    """Lines as text for csv.reader, and the number of bytes in the current row."""

    def __init__(self, lines: Iterator[bytes | None], max_row_bytes: int):
        self._lines = lines
        self._max_row_bytes = max_row_bytes
        self.number = 0
        self.row_bytes = 0
        self.row_is_clean = True

    def begin_row(self) -> None:
        self.row_bytes = 0
        self.row_is_clean = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if line is None and self.row_bytes:
            raise BrokenFileError(
                f"line {self.number:,}", f"a line of more than {self._max_row_bytes:,} bytes in a quoted cell"
            )
        if line is None:
            raise RowError(Outcome.TOO_LARGE, f"a line of more than {self._max_row_bytes:,} bytes")
        self.row_bytes += len(line) + 1
        if self.row_bytes > self._max_row_bytes:
            # The end of the quoted cell, and so the begin of the next row, is unknown.
            detail = f"a row of more than {self._max_row_bytes:,} bytes; a quote is probably not closed"
            raise BrokenFileError(f"line {self.number:,}", detail)
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            text = line.decode("utf-8", "surrogateescape")
            self.row_is_clean = False
        if "\0" in text:
            self.row_is_clean = False
        return text + "\n"


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a CSV or TSV file; positions are the numbers of the lines on which rows begin, from 1.

    Raises
    ------
    BrokenFileError
        The header cannot be read or names a column twice.
    """
    raw = read_lines(source.chunks(), limits.max_row_bytes)
    first = next(raw, b"")
    delimiter = max(_DELIMITERS, key=(first or b"").decode("utf-8", "replace").count)
    lines = _Lines(chain([first], raw), limits.max_row_bytes)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except (csv.Error, RowError) as error:
        raise BrokenFileError("line 1", f"the header cannot be read: {error}") from None
    if not lines.row_is_clean:
        raise BrokenFileError("line 1", "the header is not UTF-8 text")
    for index, name in enumerate(header):
        if name in header[:index]:
            raise BrokenFileError(
                "line 1", f"the header names the column {shorten(name)} twice; expected a header of distinct names"
            )
    return Rows("line", _rows(reader, lines, header), {})


def _rows(reader: Iterator[list[str]], lines: _Lines, header: list[str]) -> Iterator[tuple[int, Row | RowError]]:
    while True:
        begin = lines.number + 1
        lines.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except RowError as error:
            yield begin, error
        except csv.Error as error:
            yield begin, RowError(Outcome.INVALID_SYNTAX, f"not valid CSV: {error}")
        else:
            if cells:
                yield begin, _row(cells, lines, header)


def _row(cells: list[str], lines: _Lines, header: list[str]) -> Row | RowError:
    if not lines.row_is_clean:
        if any("\0" in cell for cell in cells):
            return RowError(Outcome.INVALID_SYNTAX, "a raw NUL byte; expected text")
        return RowError(Outcome.INVALID_UNICODE, "bytes that are not UTF-8")
    if len(cells) != len(header):
        return RowError(Outcome.WRONG_COLUMNS, f"{len(cells)} cells; expected {len(header)} as in the header")
    return dict(zip(header, cells, strict=True))


def _is_delimited(head: Head, delimiter: str) -> bool:
    """Whether the first row looks like a header of at least two names, and the next row has as many cells."""
    if delimiter not in head.lines[0]:
        return False
    rows = csv.reader(iter(head.lines[:64]), delimiter=delimiter)
    try:
        header, row = next(rows), next(rows)
    except (csv.Error, StopIteration):
        return False
    return len(header) == len(row) >= 2 and all(re.fullmatch(r"\s*\w[\w .-]{0,40}\s*", cell) for cell in header)


TSV = Format(name="tsv", suffixes=(".tsv",), read=read, accepts=lambda head: _is_delimited(head, "\t"))
CSV = Format(name="csv", suffixes=(".csv",), read=read, accepts=lambda head: _is_delimited(head, ","))
