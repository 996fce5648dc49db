"""The ledger: one line for each pair and each row without a pair, with its outcome.

A stage writes lines for the pairs that end there; the ledger of a dataset is the concatenation of all stages' parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records.schema import with_hex_ids

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
        ("adapter", pa.string()),
        ("rows", pa.int64()),
        ("pairs", pa.int64()),
        ("outcome", pa.string()),
        ("position", pa.string()),
        ("detail", pa.string()),
    ]
)
"""ledger/files.parquet: one line for each input file, `FileLine`."""


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
    adapter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLine(InputFile):
    """An input file, and how reading it ended."""

    rows: int
    pairs: int
    outcome: str
    """A `corpus.outcome.FileOutcome`."""
    position: str | None
    """Where reading stopped, if it stopped early."""
    detail: str | None


READ_STAGE = "read"
"""Stage of the lines of rows without a pair: rows that could not be read or adapted."""

PART = "ledger.parquet"


class LedgerPart:
    """Writes a step's part of the ledger; without a line there is no file.

    Parameters
    ----------
    out
        The step's folder.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / PART
        self._writer: pq.ParquetWriter | None = None

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
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, ROWS, compression="zstd")
        self._writer.write_table(pa.Table.from_arrays(columns, schema=ROWS))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def read_part(folder: Path) -> Iterator[pa.Table]:
    """Yield the lines that a finished step wrote, in tables of bounded size."""
    path = folder / PART
    if path.exists():
        with pq.ParquetFile(path) as part:
            for batch in part.iter_batches(batch_size=2**16):
                yield pa.Table.from_batches([batch], ROWS)
