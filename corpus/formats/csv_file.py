r"""CSV and TSV with a header.

    lines ─▶ dialect, by the manifest and the first lines ─▶ csv.reader, one row at a time ─▶ cells ─▶ row by header

The delimiter is the one that a line `sep=` states, or else the candidate most frequent in the header. Cells are text;
an empty cell is the empty text. A quote inside a quoted cell is doubled, or written `\"` where that makes more rows of
the file's begin readable. In TSV, rows whose quotes do not balance are read without quoting.

After a row with a broken quote, reading continues with the next line, unless that line is probably inside the quoted
cell: then the lines up to the cell's end are lost too, so that no row is made of the middle of a cell.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile

from corpus.formats.base import BrokenFileError, Format, Head, Layout, Limits, Row, RowError, Rows, distinguish, shorten
from corpus.formats.encoding import describe_encoding, is_utf8
from corpus.formats.stream import Input, Line, find_line_end, read_lines
from corpus.formats.tally import Tally
from corpus.outcome import Outcome

REPEATED_HEADER = "repeated_header"
"""Loss of a header that occurs again, as in joined files."""

_DELIMITERS = ",;\t|^~\x01\x1f"
_BOM = b"\xef\xbb\xbf"
_SEP_LINE = re.compile(rb"\"?sep=(.)\"?\r?", re.IGNORECASE | re.DOTALL)
_SAMPLE_BYTES = 256 << 10
"""Size of the file's begin by which its dialect is recognised."""
_TITLE_LINES = 12
"""Lines among which the header follows a title or comments."""
_LOOKAHEAD_LINES = 64
"""Lines after a broken quote among which the end of its cell is searched for."""
_ALWAYS_QUOTED_ROWS = 3
"""So many rows that begin with a quote, and none that does not, show that all rows of a file do."""
_MIDDLE_LINES = 10
"""So many lines that are whole rows are not the middle of a quoted cell."""
_ALIKE_LINES = 4
"""So many lines that are whole rows are not one quoted cell, in a file whose other quotes do not enclose cells."""
_ROWS_SHARE = 0.8
"""Share of whole rows among the lines of a quoted cell of TSV, from which they are rows."""
_REREAD_FACTOR, _REREAD_BYTES = 4, 16 << 20
"""Limit of the bytes that are read again after broken quotes, relative to the bytes read, and at least."""
_SHORT_CELL_BYTES = 64 << 10
"""Largest quoted row when that limit is exceeded."""

# Lone surrogates, which no UTF-8 text contains, stand for characters that csv.reader would misread.
_CR, _BACKSLASH, _QUOTE = "\ud800", "\ud801", "\ud802"
_RESTORED = str.maketrans({_CR: "\r", _BACKSLASH: "\\", _QUOTE: '"'})
_INNER_CR = re.compile(r"\r(?!\n)")
_ESCAPED = re.compile(r"\\([\\\"])")
_OTHER_ESCAPE = re.compile(r"\\(?![\\\"])")

csv.field_size_limit(1 << 40)  # a row is bounded by `Limits.max_row_bytes` before csv would


class _UnclosedError(Exception):
    """A quoted cell is longer than a row may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dialect:
    """How cells are written."""

    delimiter: str
    quoted: bool = True
    escapes: bool = False
    r"""Whether `\"` is a quote inside a quoted cell."""
    blanks: bool = False
    """Whether blanks after a delimiter are not part of the cell."""

    @property
    def is_plain(self) -> bool:
        """Whether cells without quotes need nothing but to be split."""
        return not (self.escapes or self.blanks)

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            skipinitialspace=self.blanks,
            strict=True,
        )

    def prepare(self, text: str) -> str:
        """Replace what csv.reader would misread in a line; `_RESTORED` translates its cells back."""
        if self.escapes and "\\" in text:
            # A line with other backslashes escapes nothing but quotes.
            backslash = "\\\\" if _OTHER_ESCAPE.search(text.replace("\\\\", "")) else _BACKSLASH
            text = _ESCAPED.sub(lambda match: _QUOTE if match[1] == '"' else backslash, text)
        if "\r" in text:
            text = _INNER_CR.sub(_CR, text)
        return text

    def cells(self, text: str) -> int:
        """Return the number of cells of a line if quotes are letters like any other."""
        return text.count(self.delimiter) + 1


class _Lines:
    """Lines as text for csv.reader; those of the current row can be read again."""

    def __init__(self, lines: Iterator[Line], max_row_bytes: int):
        self._lines = lines
        self._waiting: deque[Line] = deque()
        self._max_row_bytes = self._whole_row_bytes = max_row_bytes
        self._read = self._reread = 0
        self._plain = (Line(b"", 0), "")
        self.dialect = _Dialect(delimiter=",")
        self.number = 0
        """Number of lines read."""
        self.held: list[Line] = []
        """Lines of the current row."""
        self.texts: list[str] = []
        self.size = 0
        """Bytes of the current row."""
        self.is_clean = True
        """Whether the current row is UTF-8 text."""
        self.is_changed = False
        """Whether cells of the current row must be restored."""

    def begin_row(self) -> None:
        self.held.clear()
        self.texts.clear()
        self.size = 0
        self.is_clean, self.is_changed = True, False

    def take(self) -> Line:
        """Return the next line."""
        line = self._waiting.popleft() if self._waiting else self._next()
        self.number += 1
        return line

    def plain_cells(self) -> list[str] | None:
        """Take the next line, which begins a row, if it is UTF-8 without quotes; return its cells.

        This is what csv.reader does, faster. Return None for any other line.

        Raises
        ------
        StopIteration
            There is no further line.
        """
        line = self._waiting.popleft() if self._waiting else self._next()
        content = line.content
        dialect = self.dialect
        if (
            content is None
            or (b'"' in content and dialect.quoted)
            or not dialect.is_plain
            or content[:3] == _BOM
            or b"\0" in content
        ):
            self._waiting.appendleft(line)
            return None
        try:
            text = content.decode()
        except UnicodeDecodeError:
            self._waiting.appendleft(line)
            return None
        self.number += 1
        self.size = line.size
        self._plain = line, text
        if text.endswith("\r"):
            text = text[:-1]
        return text.split(dialect.delimiter) if text else []

    def hold_plain(self) -> None:
        """Make the line that `plain_cells` took the current row."""
        line, text = self._plain
        self.begin_row()
        self.held.append(line)
        self.texts.append(text)
        self.size = line.size

    def _next(self) -> Line:
        line = next(self._lines)
        self._read += line.size
        return line

    def put_back(self, lines: Sequence[Line]) -> None:
        """Make lines that were taken the next ones again."""
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)

    def peek(self, count: int) -> list[Line]:
        """Return up to `count` of the next lines."""
        while len(self._waiting) < count and (line := next(self._lines, None)) is not None:
            self._read += line.size
            self._waiting.append(line)
        return [self._waiting[place] for place in range(min(count, len(self._waiting)))]

    def reread(self) -> None:
        """Put all lines of the current row but the first back."""
        self._reread += self.size - self.held[0].size
        if self._reread > _REREAD_FACTOR * self._read + _REREAD_BYTES:
            self._max_row_bytes = _SHORT_CELL_BYTES
        self.put_back(self.held[1:])

    def keep_first(self) -> None:
        """Make the first line of the current row all of it."""
        content = self.held[0].content or b""
        self.held, self.texts, self.size = self.held[:1], self.texts[:1], self.held[0].size
        self.is_clean = is_utf8(content) and b"\0" not in content

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.take()
        content, size = line
        self.held.append(line)
        self.size += size
        if content is None or self.size > self._whole_row_bytes or (self.size > self._max_row_bytes and self.texts):
            raise _UnclosedError
        if not self.texts and content.startswith(_BOM):
            while content.startswith(_BOM):  # the begin of each of several joined files may have one
                content = content[len(_BOM) :]
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = content.decode("utf-8", "surrogateescape")
            self.is_clean = False
        if "\0" in text:
            self.is_clean = False
        text += "\n"
        self.texts.append(text)
        prepared = self.dialect.prepare(text)
        if prepared is not text:
            self.is_changed = True
        return prepared


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a CSV or TSV file; positions are the numbers of the lines on which rows begin, from 1.

    Their iterator raises `BrokenFileError` if the header cannot be read.
    """
    tally = Tally(source.chunks())
    end, chunks = find_line_end(tally.chunks())
    lines = _Lines(read_lines(chunks, limits.max_row_bytes, end), limits.max_row_bytes)

    def rows() -> Iterator[tuple[int, Row | RowError]]:
        yield from _Reader(lines, tally, source.layout, limits).rows()

    return Rows("line", rows(), {}, tally=tally)


class _Reader:
    """The rows of one file."""

    def __init__(self, lines: _Lines, tally: Tally, layout: Layout, limits: Limits):
        self._lines, self._tally, self._limits = lines, tally, limits
        self._quote = layout.quote
        self._cells = self._read_header()
        """The header's cells without blanks around them."""
        self._nameless = [place for place, cell in enumerate(self._cells) if not cell]
        self._names = self._distinct_names()
        self._width = len(self._cells)
        self._begins_quoted = 0
        """Number of rows that begin with a quote."""
        self._proper = self._improper = 0
        """Numbers of rows with quoted cells, and of rows in which quotes are letters or do not balance."""
        self._choose_dialect()
        delimiter = re.escape(lines.dialect.delimiter)
        cell = rf'(?:"(?:[^"]|"")*"|[^"{delimiter}]*)'
        self._well_quoted = re.compile(rf'{cell}(?:{delimiter}{cell})*(?:{delimiter}"(?:[^"]|"")*)?\s*')
        self._closes_a_cell = re.compile(rf'"(?=\s*$|{delimiter})')

    # Header and dialect

    def _read_header(self) -> list[str]:
        lines, tally = self._lines, self._tally
        delimiter = ""
        while first := lines.peek(1):
            content = first[0].content
            if content is None:
                raise BrokenFileError("line 1", f"a line of more than {self._limits.max_row_bytes:,} bytes")
            if match := _SEP_LINE.fullmatch(content.removeprefix(_BOM)):
                delimiter = match[1].decode("utf-8", "replace")
            elif content.removeprefix(_BOM).strip() and not self._precedes_header(delimiter):
                break
            tally.skip(lines.take().size)
        if not first:
            return []
        text = (first[0].content or b"").decode("utf-8", "replace")
        delimiter = delimiter or max(_DELIMITERS, key=text.count)
        has_blanks = re.search(rf"{re.escape(delimiter)}[ ]+\S", text) is not None
        quoted = self._quote != "none"
        # Blanks between a quote and a delimiter are not CSV, but header lines have them.
        tidy = re.sub(rf'"[ \t]+(?=\r?$|{re.escape(delimiter)})', '"', text) if quoted else text
        lines.dialect = _Dialect(delimiter=delimiter, quoted=quoted, blanks=has_blanks)
        lines.begin_row()
        try:
            if tidy != text:
                next(lines)
                cells = next(lines.dialect.reader(iter([tidy.removeprefix("\ufeff") + "\n"])), [])
            else:
                cells = next(lines.dialect.reader(lines), [])
        except (csv.Error, _UnclosedError) as error:
            found = shorten(text.strip())
            raise BrokenFileError("line 1", f"the header has a quote that is not closed: {found} ({error})") from None
        if not lines.is_clean:
            raise BrokenFileError("line 1", f"the header is not UTF-8; {describe_encoding(first[0].content or b'')}")
        if len(cells) > 1 and all(re.fullmatch(r"\s*'[^']*'\s*", cell) for cell in cells):
            detail = "cells are quoted by ', which is not read; write the file again with double quotes"
            raise BrokenFileError("line 1", f"{detail} (the header is {shorten(text.strip())})")
        tally.skip(lines.size)
        return [cell.translate(_RESTORED).strip(" \t\r\ufeff") for cell in cells]

    def _precedes_header(self, delimiter: str) -> bool:
        """Whether the next line is a title or comment: it has one cell, the lines after it more, all as many."""
        texts = [(line.content or b"").decode("utf-8", "replace") for line in self._lines.peek(_TITLE_LINES)]
        title, *following = (text.rstrip("\r") for text in texts)
        if delimiter or '"' in title or not _has_one_cell(title):
            return False
        following = [text for text in dropwhile(_has_one_cell, following) if text][:3]
        if len(following) < 2:
            return False
        for mark in _DELIMITERS:
            counts = {line.count(mark) for line in following}
            if len(counts) == 1 and counts != {0} and not any('"' in line for line in following[:1]):
                self._tally.note(f"a line before the header is no row: {shorten(title)}")
                return True
        return False

    def _distinct_names(self) -> list[str]:
        """Name each column: nameless ones by their number, repeated ones by name and number."""
        cells = [cell or f"column {place}" for place, cell in enumerate(self._cells, start=1)]
        names, remarks = distinguish(cells, "the header")
        for remark in remarks:
            self._tally.note(remark)
        return names

    def _choose_dialect(self) -> None:
        """Choose quoting and escapes by the manifest, or by the file's first lines."""
        dialect = self._lines.dialect
        if self._quote == "none" or not self._cells:
            return
        sample = [line.content for line in self._sample() if line.content is not None]
        texts = [content.decode("utf-8", "surrogateescape") + "\n" for content in sample]
        if not any('"' in text for text in texts):
            return
        self._proper, self._improper, good = self._try(dialect, texts)
        if any('\\"' in text for text in texts):
            escaped = _Dialect(delimiter=dialect.delimiter, blanks=dialect.blanks, escapes=True)
            proper, improper, more = self._try(escaped, texts)
            if (more, -improper) > (good, -self._improper):
                self._lines.dialect = escaped
                self._proper, self._improper = proper, improper
                self._tally.note("a quote inside a cell is written as backslash and quote")
        if dialect.delimiter == "\t" and self._quote is None and self._improper > self._proper:
            self._lines.dialect = _Dialect(delimiter="\t", quoted=False, blanks=dialect.blanks)
            self._tally.note("quotes do not balance, so they are read as letters (`quote: none`)")

    def _sample(self) -> list[Line]:
        """Return the lines of the file's begin, which are not taken."""
        count, size, known = 256, 0, -1
        while True:
            found = self._lines.peek(count)
            size = sum(line.size for line in found)
            if len(found) == known or len(found) < count or size >= _SAMPLE_BYTES:
                return found
            known, count = len(found), count * 2

    def _try(self, dialect: _Dialect, texts: Sequence[str]) -> tuple[int, int, int]:
        """Return the numbers of properly and improperly quoted rows, and of good ones, that a dialect finds."""
        proper = improper = good = at = 0
        while at < len(texts):
            taken = 0

            def lines(begin: int = at) -> Iterator[str]:
                nonlocal taken
                for text in texts[begin:]:
                    taken += 1
                    yield dialect.prepare(text)

            try:
                cells = next(dialect.reader(lines()))
            except csv.Error:
                improper += at + taken < len(texts) or taken == 1
                at += 1
                continue
            row = texts[at : at + taken]
            if taken > 1 and not self._is_whole_cell(row, cells, trust=False):
                improper += 1
                at += 1
                continue
            at += taken
            good += len(cells) == self._width
            if any('"' in text for text in row):
                is_proper = self._is_properly_quoted(row, dialect)
                proper += is_proper
                improper += not is_proper
        return proper, improper, good

    @staticmethod
    def _is_properly_quoted(row: Sequence[str], dialect: _Dialect) -> bool:
        return any(text.startswith('"') or f'{dialect.delimiter}"' in text for text in row)

    def _is_whole_cell(self, row: Sequence[str], cells: Sequence[str], *, trust: bool) -> bool:
        """Whether a row over several lines is one, rather than rows between two stray quotes.

        Parameters
        ----------
        row
            Its lines.
        cells
            Its cells as csv.reader found them.
        trust
            Whether quotes are known to enclose cells.
        """
        if len(cells) != self._width:
            return False
        count = self._lines.dialect.cells
        if self._lines.dialect.delimiter == "\t":
            # Cells with tabs inside are rare: lines with all of a row's tabs are rows.
            are_rows = sum(count(text) == self._width for text in row)
            return count(row[0]) != self._width or are_rows < _ROWS_SHARE * len(row)
        return trust or len(row) < _ALIKE_LINES or any(count(text) != self._width for text in row)

    # Rows

    def rows(self) -> Iterator[tuple[int, Row | RowError]]:
        lines, tally = self._lines, self._tally
        reader = lines.dialect.reader(lines)
        header = set(self._cells)
        names, width, is_named = self._names, self._width, not self._nameless
        broken_until = 0  # number of the last line that may belong to a cell whose quote is broken
        plain_rows = 0
        falls_back = lines.dialect.quoted and lines.dialect.delimiter == "\t" and self._quote is None
        while True:
            begin = lines.number + 1
            problem = ""
            cells: list[str] = []
            try:
                plain = lines.plain_cells()
                if plain is None:
                    lines.begin_row()
                    cells = next(reader)
                elif len(plain) == width and is_named and begin > broken_until and plain[0].strip() not in header:
                    plain_rows += 1
                    tally.row(lines.size)
                    yield begin, dict(zip(names, plain, strict=True))
                    continue
                else:
                    lines.hold_plain()
                    cells = plain
            except StopIteration:
                return
            except csv.Error as error:
                problem = str(error)
            except _UnclosedError:
                if len(lines.held) == 1:
                    tally.lose(lines.size, Outcome.TOO_LARGE)
                    limit = f"{self._limits.max_row_bytes:,} bytes"
                    yield begin, RowError(Outcome.TOO_LARGE, f"a line of more than {limit}")
                    continue
                problem = "its end is not found"
            if not problem and len(lines.held) > 1:
                trust = self._proper > self._improper
                if not self._is_whole_cell(lines.texts, cells, trust=trust):
                    problem = f"it ends on line {lines.number:,} with {len(cells)} cells; expected {self._width}"
            if problem:
                first = lines.held[0]
                tidy = self._without_blanks(lines.texts[0])
                if tidy is not None:
                    lines.reread()
                    lines.keep_first()
                    yield begin, self._row(tidy)
                    continue
                self._improper += 1
                if falls_back and lines.dialect.cells(lines.texts[0]) == self._width:
                    lines.reread()
                    cells = lines.texts[0].rstrip("\r\n").split("\t")
                    lines.keep_first()
                    tally.note("a row whose quotes do not balance is read without quoting")
                    yield begin, self._row(cells)
                    continue
                lines.reread()
                tally.lose(first.size, Outcome.INVALID_SYNTAX)
                if middle := self._lines_of_broken_cell(lines.texts[0]):
                    tally.lose(sum(lines.take().size for _ in range(middle)), Outcome.INVALID_SYNTAX)
                detail = f"a quote that is not closed, or not doubled inside a cell: {problem}"
                also = f"; lost with its cell's other lines, {middle:,}" if middle else ""
                hint = "; if quotes are letters in this file, state `quote: none`"
                broken_until = lines.number + _LOOKAHEAD_LINES
                yield begin, RowError(Outcome.INVALID_SYNTAX, detail + also + hint)
                continue
            if not cells or (len(cells) == 1 and not cells[0].strip() and self._width > 1):
                tally.skip(lines.size)
                continue
            if lines.is_changed:
                cells = [cell.translate(_RESTORED) for cell in cells]
            if cells[0].strip(" \t\ufeff") in header and self._repeats_header(cells, begin):
                tally.lose(lines.size, REPEATED_HEADER)
                tally.note("a repeated header is not a row")
                continue
            if begin <= broken_until and not plain_rows and self._begins_quoted >= _ALWAYS_QUOTED_ROWS:
                if not lines.texts[0].startswith('"'):
                    tally.lose(lines.size, Outcome.INVALID_SYNTAX)
                    yield begin, RowError(Outcome.INVALID_SYNTAX, "a line of a cell whose quote is broken")
                    continue
            elif not lines.texts[0].startswith('"'):
                plain_rows += 1
            else:
                self._begins_quoted += 1
            if '"' in lines.texts[0]:
                if begin <= broken_until and self._ends_a_broken_cell(lines.texts[0]):
                    tally.lose(lines.size, Outcome.INVALID_SYNTAX)
                    yield begin, RowError(Outcome.INVALID_SYNTAX, "the end of a cell whose quote is broken")
                    continue
                if len(lines.held) == 1 and (tidy := self._without_blanks(lines.texts[0])) is not None:
                    cells = tidy
                is_proper = self._is_properly_quoted(lines.texts, lines.dialect)
                self._proper += is_proper
                self._improper += not is_proper
            yield begin, self._row(cells)

    def _row(self, cells: list[str]) -> Row | RowError:
        lines, tally = self._lines, self._tally
        try:
            if not lines.is_clean:
                if any("\0" in cell for cell in cells):
                    raise RowError(Outcome.INVALID_SYNTAX, "a raw NUL byte; expected text")
                raise RowError(Outcome.INVALID_UNICODE, "bytes that are not UTF-8")
            if len(cells) != self._width:
                cells = self._fitted(cells)
        except RowError as error:
            tally.lose(lines.size, error.reason, b"\n".join(line.content or b"" for line in lines.held))
            return error
        tally.row(lines.size)
        row = dict(zip(self._names, cells, strict=False))
        for place in self._nameless:
            if place < len(cells) and not cells[place]:
                del row[self._names[place]]
        return row

    def _fitted(self, cells: list[str]) -> list[str]:
        """Return the cells of the header's columns; empty ones may follow, and nameless ones at the end may lack."""
        is_literal = not self._lines.dialect.quoted and self._quote is None and '"' in self._lines.texts[0]
        if len(cells) > self._width and not any(cell.strip() for cell in cells[self._width :]) and not is_literal:
            return cells[: self._width]
        if len(cells) < self._width and not any(self._cells[len(cells) :]):
            return cells
        raise RowError(Outcome.WRONG_COLUMNS, f"{len(cells)} cells; expected {self._width} as in the header")

    def _repeats_header(self, cells: list[str], begin: int) -> bool:
        names = [cell.strip(" \t\ufeff") for cell in cells]
        if names == self._cells:
            return True
        if len(names) > 1 and sorted(names) == sorted(self._cells):
            detail = "the header occurs again with its columns in another order: files were joined; name them singly"
            raise BrokenFileError(f"line {begin:,}", detail)
        return False

    def _ends_a_broken_cell(self, text: str) -> bool:
        """Whether a line after a broken quote closes a cell that it does not open."""
        if not self._lines.dialect.quoted or self._well_quoted.fullmatch(text):
            return False
        opens = f'{self._lines.dialect.delimiter}"' in text
        return self._closes_a_cell.search(text) is not None and (opens or self._proper > self._improper)

    def _without_blanks(self, text: str) -> list[str] | None:
        """Return the cells of a line that is a row but for blanks around its quotes; None for any other line."""
        delimiter = re.escape(self._lines.dialect.delimiter)
        if ('" ' not in text and ' "' not in text) or self._well_quoted.fullmatch(text):
            return None
        tidy = re.sub(rf'"[ ]+(?=\r?$|{delimiter})', '"', text.rstrip("\r\n"))
        tidy = re.sub(rf'(^|{delimiter})[ ]+(?=")', r"\1", tidy)
        if tidy == text.rstrip("\r\n") or not self._lines.dialect.quoted or not self._well_quoted.fullmatch(tidy):
            return None
        try:
            cells = next(self._lines.dialect.reader(iter([tidy])))
        except (csv.Error, StopIteration):
            return None
        return cells if len(cells) == self._width else None

    def _lines_of_broken_cell(self, first: str) -> int:
        """Return how many of the next lines belong to a cell whose quote is broken; `first` is its row's first line."""
        count = self._lines.dialect.cells
        is_whole = count(first) >= self._width
        trust = self._proper > self._improper or not is_whole
        rows = 0
        following = self._lines.peek(_LOOKAHEAD_LINES)
        for place, line in enumerate(following, start=1):
            if line.content is None:
                return 0
            text = line.content.decode("utf-8", "surrogateescape")
            if '"' in text:
                if self._well_quoted.fullmatch(text):
                    # A row that lacks cells goes on, so a line without a quote at its begin is taken for its end.
                    return 0 if is_whole else place - text.startswith('"')
                if self._closes_a_cell.search(text):
                    are_rows = rows == place - 1
                    return 0 if are_rows and (rows >= _MIDDLE_LINES or (rows and not trust)) else place
            rows += count(text) == self._width
        # The file is cut off inside the cell, or the row lacks cells and has a stray quote.
        return len(following) if not is_whole and len(following) < _LOOKAHEAD_LINES else 0


def _has_one_cell(text: str) -> bool:
    return not any(mark in text for mark in _DELIMITERS)


def _is_delimited(head: Head, delimiter: str) -> bool:
    """Whether the first row looks like a header of at least two names, and the next row has as many cells."""
    lines = [line for line in head.lines[:64] if not _SEP_LINE.fullmatch(line.encode("utf-8", "replace"))]
    if not lines or delimiter not in lines[0]:
        return False
    rows = csv.reader((line.rstrip("\r") for line in lines), delimiter=delimiter)
    try:
        header, row = next(rows), next(rows)
    except (csv.Error, StopIteration):
        return False
    return len(header) == len(row) >= 2 and all(re.fullmatch(r"\s*\w[\w .-]{0,40}\s*", cell) for cell in header)


TSV = Format(name="tsv", suffixes=(".tsv",), read=read, accepts=lambda head: _is_delimited(head, "\t"))
CSV = Format(name="csv", suffixes=(".csv",), read=read, accepts=lambda head: _is_delimited(head, ","))
