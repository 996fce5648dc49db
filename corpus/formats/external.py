"""Formats that are read by a function from outside of this package."""

import io
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

from corpus.formats.base import BrokenFileError, Format, Limits, Row, RowError, Rows, shorten
from corpus.formats.stream import Input
from corpus.formats.strict_json import check_depth, check_unicode
from corpus.outcome import Outcome

Reader = Callable[[BinaryIO], Iterable[Row]]
"""A function from a file to its rows. The file is binary, decompressed and can only be read forward."""


def from_reader(reader: Reader, name: str) -> Format:
    """Make a format of a reader. An exception that the reader raises ends the file after the rows before it.

    Memory is bounded only if the reader yields rows as it reads.
    """
    return Format(
        name=name, suffixes=(), read=lambda source, limits: Rows("row", _rows(reader, name, source, limits), {})
    )


def _rows(reader: Reader, name: str, source: Input, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    number = 0
    with io.BufferedReader(_Stream(source.chunks())) as file:
        try:
            for number, row in enumerate(reader(cast(BinaryIO, file)), start=1):
                yield number, _checked(row, limits)
        except (BrokenFileError, OSError):
            raise
        except Exception as error:
            detail = f"{name} raised {type(error).__name__}: {shorten(str(error))}"
            if isinstance(error.__cause__, StopIteration):  # of a `next` in the reader
                detail = f"the file ends in the middle of a row: {name} asked for more than it has"
            raise BrokenFileError(f"after row {number:,}", detail) from None


def _checked(row: Row, limits: Limits) -> Row | RowError:
    try:
        if not isinstance(row, dict) or not all(isinstance(column, str) for column in row):
            raise RowError(Outcome.NOT_A_RECORD, f"found {shorten(row)}; expected a dict with names as keys")
        check_depth(row, limits.max_depth)
        check_unicode(row)
    except RowError as error:
        return error
    return row


class _Stream(io.RawIOBase):
    """Chunks as a raw binary file."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._chunks, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
