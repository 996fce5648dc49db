"""What all readers share: their bounds, and the three ways content can be bad.

A row that cannot be read is a `RowError` (yielded in the row's place); a file
that stops making sense at some position raises `BrokenFileError` after the rows before
it; a file of which nothing makes sense raises `BrokenFileError` at once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from corpus.outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that keep memory small whatever a file holds."""

    max_row_bytes: int = 64 << 20
    """A larger row is skipped in chunks and rejected as `too_large`."""
    max_depth: int = 64
    """Lists and objects nested deeper are rejected as `too_deep`."""
    max_field_bytes: int = 1 << 20
    """Fields beside the list of rows in a JSON object are context for adapters up to this size, else ignored."""
    max_meta_bytes: int = 16 << 10
    """Further columns of a row are kept as `meta` up to this size of JSON, in the row's order."""
    max_spool_bytes: int = 64 << 30
    """A compressed Parquet or Arrow file is decompressed to a temporary file of at most this size."""


class RowError(Exception):
    """A row that cannot be read or yields no pair: why, in the ledger's words and in one sentence."""

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
"""Key of `Rows.context` under which the name of the list that holds the rows stands."""


class Rows(NamedTuple):
    """The rows of one file."""

    unit: str
    """What the positions count: "line", "item", "row", "sample"."""
    rows: Iterator[tuple[int, Row | RowError]]
    """Position and row; raises `BrokenFileError` where the file stops making sense."""
    context: Mapping[str, Any]
    """Fields that stand beside the list of rows (JSON objects only)."""
    note: str = ""
    """What a reader of the ledger should know about what was read."""


def printable(text: str) -> str:
    """`text` without the control characters by which data could steer a terminal; tabs and line ends stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)


def shorten(value: object, length: int = 60) -> str:
    """`value` as it may stand in a message: one line of printable text, cut to `length` characters."""
    text = repr(value[: length + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= length else text[: length - 3] + "..."
