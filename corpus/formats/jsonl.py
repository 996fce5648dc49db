"""JSON Lines: one object per line. Blank lines are not rows."""

from collections.abc import Iterator

from corpus.formats.base import Format, Limits, Row, RowError, Rows
from corpus.formats.json_file import layout
from corpus.formats.stream import Input, read_lines
from corpus.formats.strict_json import parse_bytes
from corpus.outcome import Outcome

BOM = b"\xef\xbb\xbf"


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a JSON Lines file; positions are line numbers from 1."""
    return Rows("line", _rows(source.chunks(), limits), {})


def _rows(chunks: Iterator[bytes], limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    for number, line in enumerate(read_lines(chunks, limits.max_row_bytes), start=1):
        if line is None:
            yield number, RowError(Outcome.TOO_LARGE, f"a row of more than {limits.max_row_bytes:,} bytes")
            continue
        if number == 1:
            line = line.removeprefix(BOM)
        if not line or line.isspace():
            continue
        try:
            yield number, parse_bytes(line, limits)
        except RowError as error:
            yield number, error


JSONL = Format(name="jsonl", suffixes=(".jsonl", ".ndjson"), read=read, claims=lambda head: layout(head) == "jsonl")
