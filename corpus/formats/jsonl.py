"""JSON Lines: one object per line. Blank lines are not rows; commas around an object are dropped."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from corpus.formats.base import Format, Limits, Row, RowError, Rows
from corpus.formats.json_file import layout
from corpus.formats.stream import Input, find_line_end, split_lines
from corpus.formats.strict_json import parse_bytes
from corpus.formats.tally import Tally
from corpus.outcome import Outcome

if TYPE_CHECKING:
    from corpus.formats.ranges import ByteRange

_SEPARATORS = b" \t\r,\x1e"
"""Around objects: commas of arrays whose brackets were cut off, record separators of JSON text sequences."""
BOM = b"\xef\xbb\xbf"


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a JSON Lines file; positions are line numbers from 1."""
    tally = Tally(source.chunks())
    return Rows("line", _rows(tally, limits, source.span), {}, tally=tally)


def _rows(tally: Tally, limits: Limits, span: "ByteRange | None") -> Iterator[tuple[int, Row | RowError]]:
    end, chunks = find_line_end(tally.chunks())
    if span is not None:
        end = b"\n"
    first = 1 if span is None else span.line + 1
    for number, (line, size) in enumerate(split_lines(chunks, limits.max_row_bytes, end), start=first):
        if line is None:
            tally.lose(size, Outcome.TOO_LARGE)
            yield number, RowError(Outcome.TOO_LARGE, f"a row of more than {limits.max_row_bytes:,} bytes")
            continue
        if line[:1] != b"{":
            if is_blank(line):
                tally.skip(size)
                continue
            line = _without_marks(line)
        try:
            row = _parse(line, limits)
        except RowError as error:
            tally.lose(size, error.reason, line)
            yield number, error
        else:
            tally.row(size)
            yield number, row


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
