"""JSON Lines: one object per line. Blank lines are not rows; commas around an object are dropped."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from corpus.formats.base import Format, Limits, Row, RowError, Rows, TextBlock
from corpus.formats.json_file import layout
from corpus.formats.stream import Input, find_line_end, split_lines, whole_lines
from corpus.formats.strict_json import parse_bytes
from corpus.formats.tally import Tally
from corpus.outcome import Outcome

if TYPE_CHECKING:
    from corpus.formats.ranges import ByteRange

_SEPARATORS = b" \t\r,\x1e"
"""Around objects: commas of arrays whose brackets were cut off, record separators of JSON text sequences."""
BOM = b"\xef\xbb\xbf"
_LEAST_ROWS = 16
"""Rows of a block, at least."""
_LONGEST_PAUSE = 1024
"""Rows after which another block is tried, at most."""


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a JSON Lines file; positions are line numbers from 1."""
    tally = Tally(source.chunks())
    rows, blocks = _rows(tally, limits, source.span), _blocks(tally, limits, source.span)
    return Rows("line", rows, {}, tally=tally, blocks=blocks)


def _rows(tally: Tally, limits: Limits, span: "ByteRange | None") -> Iterator[tuple[int, Row | RowError]]:
    end, chunks = find_line_end(tally.chunks())
    yield from _rows_of(chunks, end if span is None else b"\n", tally, limits, span)


def _rows_of(
    chunks: Iterator[bytes], end: bytes, tally: Tally, limits: Limits, span: "ByteRange | None"
) -> Iterator[tuple[int, Row | RowError]]:
    for number, (line, size) in enumerate(split_lines(chunks, limits.max_row_bytes, end), start=_first_line(span)):
        if (row := _row(line, size, tally, limits)) is not None:
            yield number, row


def _first_line(span: "ByteRange | None") -> int:
    return 1 if span is None else span.line + 1


def _row(line: bytes | None, size: int, tally: Tally, limits: Limits) -> Row | RowError | None:
    """Return the row of a line and book its bytes; None for a blank line.

    Parameters
    ----------
    line
        Without its end; None for one above the limit.
    size
        Bytes of the line with its end.
    """
    if line is None:
        tally.lose(size, Outcome.TOO_LARGE)
        return RowError(Outcome.TOO_LARGE, f"a row of more than {limits.max_row_bytes:,} bytes")
    if line[:1] != b"{":
        if is_blank(line):
            tally.skip(size)
            return None
        line = _without_marks(line)
    try:
        row = _parse(line, limits)
    except RowError as error:
        tally.lose(size, error.reason, line)
        return error
    tally.row(size)
    return row


def _blocks(tally: Tally, limits: Limits, span: "ByteRange | None") -> Iterator[tuple[int, Row | RowError | TextBlock]]:
    """Yield rows; those that have the keys of a row before them, all of them texts, as blocks."""
    from corpus.text_lines import TextLines, keys_of  # imported late: it compiles a kernel

    end, chunks = find_line_end(tally.chunks())
    if end != b"\n" and span is None:
        yield from _rows_of(chunks, end, tally, limits, span)
        return
    number = _first_line(span)
    names: tuple[str, ...] | None = None
    wait = pause = 0  # rows until the next attempt to read a block, and the number of rows between failing ones
    for content, size in whole_lines(chunks, limits.max_row_bytes):
        lines: TextLines | None = None
        at = 0
        while at < size:
            if content is not None and names is not None and wait <= 0 and content.endswith(b"\n"):
                lines = lines or TextLines(content, limits.max_row_bytes)
                found = lines.read(at, names)
                if found is not None and len(found.columns[0]) >= _LEAST_ROWS and _is_utf8(found.columns):
                    block = TextBlock(names, found.columns)
                    tally.row(found.size)
                    yield number, block
                    at, number = at + found.size, number + block.rows
                    wait, pause = int(at < size), 0  # the row that follows in these lines is another
                    continue
                wait = pause = min(max(2 * pause, _LEAST_ROWS), _LONGEST_PAUSE)
            line, row_size = content, size
            if content is not None:
                stop = content.find(b"\n", at)
                stop, row_size = (stop, stop + 1 - at) if stop >= 0 else (size, size - at)
                line = content[at:stop] if stop - at <= limits.max_row_bytes else None
            row = _row(line, row_size, tally, limits)
            if row is not None:
                yield number, row
            if isinstance(row, dict):
                names = keys_of(row) or names
            at, number, wait = at + row_size, number + 1, wait - 1


def _is_utf8(columns: Sequence[pa.Array]) -> bool:
    try:
        for column in columns:
            column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def is_blank(line: bytes) -> bool:
    """Whether a line, without its end, is no row."""
    bare = _without_marks(line)
    return not bare or bare.isspace()


def _without_marks(line: bytes) -> bytes:
    """Remove byte-order marks; the begin of each of several joined files may have one."""
    while line.startswith(BOM):
        line = line[len(BOM) :]
    return line


def _parse(line: bytes, limits: Limits) -> Row:
    try:
        return parse_bytes(line, limits)
    except RowError as error:
        bare = line.strip(_SEPARATORS)
        if error.reason != Outcome.INVALID_SYNTAX or bare == line.strip():
            raise
    return parse_bytes(bare, limits)


JSONL = Format(name="jsonl", suffixes=(".jsonl", ".ndjson"), read=read, claims=lambda head: layout(head) == "jsonl")
