"""The ledger: one line for each pair and each row without a pair, with its outcome.

A stage writes lines for the pairs that end there; the ledger of a dataset is the concatenation of all stages' parts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from corpus.outcome import FileOutcome, Outcome
from pipeline.records.schema import IPC, with_hex_ids

ROWS = pa.schema(
    [
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("row", pa.int64()),
        ("part", pa.int32()),
        ("outcome", pa.string()),
        ("stage", pa.string()),
        ("twin", pa.string()),
        ("score", pa.float64()),
        ("detail", pa.string()),
        ("sample", pa.int64()),
    ]
)
"""ledger/rows-*.parquet. `twin` is the row id a duplicate lost to, `sample` the global index of a kept train pair."""

FILES = pa.schema(
    [
        ("source", pa.string()),
        ("file", pa.string()),
        ("url", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("format", pa.string()),
        ("compression", pa.string()),
        ("encoding", pa.string()),
        ("adapter", pa.string()),
        ("rows", pa.int64()),
        ("pairs", pa.int64()),
        ("bytes_read", pa.int64()),
        ("bytes_rows", pa.int64()),
        ("bytes_structure", pa.int64()),
        ("bytes_lost", pa.list_(pa.struct([("reason", pa.string()), ("bytes", pa.int64())]))),
        ("outcome", pa.string()),
        ("position", pa.string()),
        ("detail", pa.string()),
    ]
)
"""ledger/files.parquet: one line for each input file, `FileLine`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Bytes of a file that are in no row."""

    reason: str
    """A `corpus.outcome.Outcome`, or a reader's own reason, such as "unread"."""
    bytes: int


NOTABLE_SHARE = 0.01
"""Share of a file's bytes lost above which the summary lists it."""
_REASONS_OF_ROWS = {outcome.value for outcome in Outcome} - {Outcome.INVALID_UNICODE.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """What is recorded of an input file before it is read."""

    source: str
    file: str
    """Path relative to the source."""
    url: str
    """Without credentials."""
    bytes: int
    sha256: str | None
    format: str | None
    compression: str | None
    encoding: str | None
    """Of text that is not UTF-8."""
    adapter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLine(InputFile):
    """An input file, and how reading it ended."""

    rows: int
    pairs: int
    bytes_read: int | None
    """Bytes of the decompressed content, as UTF-8: those of rows, structure and losses. None, as the next three, where
    rows are no ranges of bytes, as in Parquet."""
    bytes_rows: int | None
    bytes_structure: int | None
    """Header, separators, blank lines."""
    bytes_lost: tuple[Loss, ...] | None
    outcome: str
    """A `corpus.outcome.FileOutcome`."""
    position: str | None
    """Where reading stopped, if it stopped early."""
    detail: str | None

    @property
    def is_notable(self) -> bool:
        """Whether the summary lists the file: not read to its end, in another encoding, or more than a little lost.

        A row that cannot be parsed is in the table of sources already.
        """
        lost = {loss.reason: loss.bytes for loss in self.bytes_lost or ()}
        return (
            self.outcome != FileOutcome.READ
            or bool(lost.keys() - _REASONS_OF_ROWS)
            or sum(lost.values()) > NOTABLE_SHARE * (self.bytes_read or 0)
        )


COLUMNS = pa.schema(
    [
        ("source", pa.string()),
        ("column", pa.string()),
        ("rows", pa.int64()),
        ("unused", pa.int64()),
        ("used", pa.int64()),
        ("example", pa.string()),
    ]
)
"""ledger/columns.parquet: one line for each column of a source that is filled in rows whose pairs do not use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLine:
    """A column of a source that is filled in rows whose pairs do not use it."""

    source: str
    column: str
    rows: int
    """Rows of the source that yield a pair."""
    unused: int
    """Rows of these in which the column is filled and no pair uses it."""
    used: int
    """Rows of these whose pairs use it."""
    example: str

    @property
    def fill_rate(self) -> str:
        """Share of `rows` that are `unused`, as "57 %"."""
        share = 100 * self.unused / max(self.rows, 1)
        return "< 1 %" if share < 1 else f"{math.floor(share)} %"

    def __str__(self) -> str:
        used = f" (used in {self.used:,} other rows)" if self.used else ""
        return f"{self.column}: {self.fill_rate}{used}, as {self.example}"


READ_STAGE = "read"
"""Stage of the lines of rows without a pair: rows that could not be read or adapted."""

PART = "ledger.arrow"
BATCH_ROWS = 2**16
"""Lines of a part that are written and read together, about."""


class LedgerPart:
    """Writes a step's part of the ledger; without a line there is no file.

    Parameters
    ----------
    out
        The step's folder.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / PART
        self._sink: pa.NativeFile | None = None
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, lines: pa.Table) -> None:
        """Append lines; row ids may be binary, and columns of `ROWS` that `lines` lacks are null."""
        if lines.num_rows == 0:
            return
        lines = with_hex_ids(lines)
        columns = [
            lines.column(field.name).cast(field.type)
            if field.name in lines.column_names
            else pa.nulls(lines.num_rows, field.type)
            for field in ROWS
        ]
        self._waiting.append(pa.Table.from_arrays(columns, schema=ROWS))
        self._rows += lines.num_rows
        if self._rows >= BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_file(self._sink, ROWS, options=IPC)
        self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks(), max_chunksize=BATCH_ROWS)
        self._waiting, self._rows = [], 0


def read_part(folder: Path) -> Iterator[pa.Table]:
    """Yield the lines that a finished step wrote, in tables of bounded size."""
    path = folder / PART
    if path.exists():
        with pa.OSFile(str(path)) as file:
            part = pa.ipc.open_file(file)
            for number in range(part.num_record_batches):
                yield pa.Table.from_batches([part.get_batch(number)], ROWS)
