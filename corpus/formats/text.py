"""Plain text, whose lines are what the manifest's `lines:` states: rows, alternating sides of pairs, or blocks.

lines ─▶ {"text"}, or {"instruction", "response"} of two lines, or of the first and the other lines of a block
"""

from collections.abc import Iterator

from corpus.formats.base import Format, Limits, Row, RowError, Rows
from corpus.formats.stream import Input, Line, find_line_end, read_lines
from corpus.formats.tally import Tally
from corpus.outcome import Outcome


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a text file; positions are the numbers of the lines on which rows begin, from 1."""
    tally = Tally(source.chunks())
    return Rows("line", _rows(tally, source.layout.lines or "each", limits), {}, tally=tally)


def _rows(tally: Tally, kind: str, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    block: list[Line] = []
    size = 0
    end, chunks = find_line_end(tally.chunks())
    number = 0
    for number, line in enumerate(read_lines(chunks, limits.max_row_bytes, end), start=1):
        is_blank = line.content is not None and not line.content.strip(b" \t\r\xef\xbb\xbf")
        if not is_blank:
            size += line.size
            # Of a block that is too large, only the number of lines and bytes is kept.
            block.append(line if size <= limits.max_row_bytes else Line(None, line.size))
        is_whole = is_blank or kind == "each" or (kind == "alternating" and len(block) == 2)
        if block and is_whole:
            first = number - len(block) + (0 if is_blank else 1)
            yield first, _row(tally, block, kind)
            block, size = [], 0
        if is_blank:
            tally.skip(line.size)
    if block:
        yield number - len(block) + 1, _row(tally, block, kind)


def _row(tally: Tally, block: list[Line], kind: str) -> Row | RowError:
    """Return the row of some lines, and book their bytes."""
    size = sum(line.size for line in block)
    try:
        row = _parse([line.content for line in block], kind)
    except RowError as error:
        tally.lose(size, error.reason, b"\n".join(line.content or b"" for line in block))
        return error
    tally.row(size)
    return row


def _parse(lines: list[bytes | None], kind: str) -> Row:
    texts = []
    for line in lines:
        if line is None:
            raise RowError(Outcome.TOO_LARGE, "lines of more bytes than a row may have")
        try:
            texts.append(line.decode().removeprefix("\ufeff").removesuffix("\r"))
        except UnicodeDecodeError:
            raise RowError(Outcome.INVALID_UNICODE, "bytes that are not UTF-8") from None
    if kind == "each":
        return {"text": texts[0]}
    if len(texts) == 1:
        follows = "a line with its response" if kind == "alternating" else "more lines of its block"
        raise RowError(
            Outcome.MISSING_FIELD, f"the line is followed by a blank line or the file's end; expected {follows}"
        )
    return {"instruction": texts[0], "response": "\n".join(texts[1:])}


TEXT = Format(name="text", suffixes=(), read=read)
