"""What all formats share: their description, the bounds of readers, and errors.

A row that cannot be read is a `RowError`, yielded in its place. A file that
cannot be read from some position on raises `BrokenFileError` after the rows
before it, or at once if there are none.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from corpus.outcome import Outcome

if TYPE_CHECKING:
    import pyarrow as pa

    from corpus.formats.stream import Input
    from corpus.formats.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that keep memory small whatever the content of a file."""

    max_row_bytes: int = 64 << 20
    """A larger row is skipped in chunks and rejected as `too_large`."""
    max_depth: int = 64
    """Rows with lists and objects nested deeper are rejected as `too_deep`."""
    max_field_bytes: int = 1 << 20
    """Larger fields beside the list of rows in a JSON object are not passed to adapters as context."""
    max_meta_bytes: int = 16 << 10
    """Unused columns of a row are kept as `meta` up to this size of JSON, in the row's order."""
    max_spool_bytes: int = 64 << 30
    """A compressed Parquet or Arrow file is decompressed to a temporary file of at most this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a manifest states about the content of a source's files, where it does not follow from the content."""

    quote: str | None = None
    """`"` or "none": the quote of CSV and TSV cells; None: by the file's content."""
    rows: str | None = None
    """Path to the rows inside a file's values, such as `data.*.paragraphs.*.qas`."""
    lines: str | None = None
    """What the lines of plain text are: "each", "alternating" or "blocks"."""


class RowError(Exception):
    """A row that cannot be read or yields no pair: the outcome, and one sentence that explains it."""

    def __init__(self, reason: Outcome, detail: str):
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class BrokenFileError(Exception):
    """The file cannot be read from `position` on."""

    def __init__(self, position: str, detail: str):
        super().__init__(f"{position}: {detail}")
        self.position = position
        self.detail = detail


Row = dict[str, Any]

LIST_KEY = "$list"
"""Key of `Rows.context` for the name of the list that holds the rows."""


class TextBlock(NamedTuple):
    """Rows that follow each other and have the same columns, all of which are texts."""

    names: tuple[str, ...]
    columns: "Sequence[pa.Array]"
    """large_string (n,), one for each name: without nulls, valid UTF-8."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0])

    def slice(self, begin: int, end: int) -> "TextBlock":
        """Return some of the rows."""
        return TextBlock(self.names, [column.slice(begin, end - begin) for column in self.columns])

    def to_rows(self) -> list[Row]:
        """Return the rows one by one."""
        texts = zip(*(column.to_pylist() for column in self.columns), strict=True)
        return [dict(zip(self.names, row, strict=True)) for row in texts]


class Rows(NamedTuple):
    """The rows of one file."""

    unit: str
    """Unit of the positions: "line", "item", "row", "sample"."""
    rows: Iterator[tuple[int, Row | RowError]]
    """Position and row; raises `BrokenFileError` where the file cannot be read further."""
    context: Mapping[str, Any]
    """Fields beside the list of rows (JSON objects only)."""
    note: str = ""
    """A remark for the ledger about what was read."""
    tally: "Tally | None" = None
    """Byte accounting, complete after the last row; None for formats whose rows are not byte ranges."""
    blocks: Iterator[tuple[int, Row | RowError | TextBlock]] | None = None
    """The same rows, read instead of `rows`: those that are only texts together where many follow each other, with the
    position of the first, since each has the next position. None for formats that are read row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first bytes of a file's decompressed content as text, by which formats are recognised."""

    text: str
    lines: Sequence[str]
    """Lines that are not blank; at least one."""
    suffix_format: str | None
    """Name of the format that the file's suffix names."""


def _never(head: Head) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format: how its files are recognised, and how they are read.

    In order of precedence, a file is of the format whose `magic` it has, which `claims` it, which its suffix names,
    which `accepts` it.
    """

    name: str
    suffixes: tuple[str, ...]
    """In lower case, with the dot."""
    read: "Callable[[Input, Limits], Rows]"
    magic: tuple[tuple[int, bytes], ...] = ()
    """Offset and bytes; any of them identifies the format."""
    claims: Callable[[Head], bool] = _never
    """Whether the content is of this format even if the file's suffix names another."""
    accepts: Callable[[Head], bool] = _never
    """Whether the content is of this format if the file's suffix names none."""


def shorten(value: object, length: int = 60) -> str:
    """Format a value for a message: one line of printable text, cut to `length` characters."""
    text = repr(value[: length + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= length else text[: length - 3] + "..."


_SHOWN_NAMES = 5


def distinguish(names: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """Add the number of the column to names that occur more than once.

    Parameters
    ----------
    names
        Names of the columns of a table.
    where
        What names them, for the remarks: "the header".

    Returns
    -------
    names, remarks
        The names, and a remark for each of the first repeated ones.
    """
    counts = Counter(names)
    found = list(names)
    repeated: dict[str, list[str]] = {}
    for index, name in enumerate(names):
        if counts[name] > 1:
            found[index] = f"{name} (column {index + 1})"
            repeated.setdefault(name, []).append(found[index])
    remarks = []
    for name in sorted(repeated)[:_SHOWN_NAMES]:
        first, more = repeated[name][:_SHOWN_NAMES], len(repeated[name]) - _SHOWN_NAMES
        which = ", ".join(map(repr, first)) + (f" and {more:,} more" if more > 0 else "")
        remarks.append(f"{where} names the column {shorten(name)} more than once, so they are {which}")
    if len(repeated) > _SHOWN_NAMES:
        remarks.append(f"{where} names {len(repeated) - _SHOWN_NAMES:,} other columns more than once")
    return found, remarks
