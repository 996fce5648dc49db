"""What the reader of one file yields, in batches of bounded size whose pairs are columns.

read_columns ─▶ PairColumns, Pair, Rejected, …, FileEnd ─▶ Batch, …
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.columns import ColumnCounter
from corpus.discover import SourceFile
from corpus.markup import Markup
from corpus.outcome import FileOutcome
from corpus.pairs import ByteRange, read_columns
from corpus.record import FileEnd, Pair, PairColumns, Rejected
from corpus.source import SourceSpec
from pipeline.engine.step import BuildError
from pipeline.records.schema import RECORDS

BATCH_ROWS = 32_768
BATCH_BYTES = 8 * 2**20
"""Size of the texts of a batch, about."""

PAIRS = pa.schema([RECORDS.field(name) for name in Pair._fields])
"""Columns of pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of a file that follow each other."""

    pairs: pa.Table
    """`PAIRS`"""
    rejected: list[Rejected]
    bytes: int
    """Size of the texts of all pairs, about."""
    end: FileEnd | None = None
    """Of the last batch only."""


class _Pairs:
    """Collects pairs as columns."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []
        self._one_by_one: list[Pair] = []
        self._at_once: list[PairColumns] = []
        """Equal in task and condition; one of these two lists is empty."""
        self.bytes = 0
        self.rows = 0

    def add(self, pair: Pair) -> None:
        """Append a pair."""
        if self._at_once:
            self._close()
        self._one_by_one.append(pair)
        self.bytes += len(pair.instruction) + len(pair.response)
        self.rows += 1

    def extend(self, pairs: PairColumns) -> None:
        """Append pairs that are columns."""
        last = self._at_once[-1] if self._at_once else pairs
        if self._one_by_one or (last.task, last.condition) != (pairs.task, pairs.condition):
            self._close()
        self._at_once.append(pairs)
        self.bytes += pairs.instructions.nbytes + pairs.responses.nbytes
        self.rows += len(pairs.instructions)

    def table(self) -> pa.Table:
        """Return all pairs, `PAIRS`, each column in one piece."""
        self._close()
        if len(self._parts) == 1:
            return self._parts[0]
        return pa.concat_tables([PAIRS.empty_table(), *self._parts]).combine_chunks()

    def _close(self) -> None:
        """Make a table of the pairs that are in a list."""
        if self._one_by_one:
            values = zip(*self._one_by_one, strict=True)
            columns = [_column(name, column) for name, column in zip(PAIRS.names, values, strict=True)]
            self._parts.append(pa.table(columns, schema=PAIRS))
            self._one_by_one = []
        elif self._at_once:
            places = [np.arange(pairs.row, pairs.row + len(pairs.instructions)) for pairs in self._at_once]
            rows = sum(map(len, places))
            columns = [
                pa.array(np.concatenate(places)),
                pa.array(np.zeros(rows, np.int32)),
                pa.repeat(self._at_once[0].task, rows),
                pa.concat_arrays([pairs.instructions for pairs in self._at_once]),
                pa.concat_arrays([pairs.responses for pairs in self._at_once]),
                _repeated_names(self._at_once[0].condition, rows),
                pa.nulls(rows, pa.string()),
            ]
            self._parts.append(pa.table(columns, schema=PAIRS))
            self._at_once = []


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    if name in ("task", "condition") and len(set(values)) == 1:
        return _repeated_names(values[0], len(values)) if name == "condition" else pa.repeat(values[0], len(values))
    return pa.array(values, PAIRS.field(name).type)


def _repeated_names(names: Sequence[str], rows: int) -> pa.Array:
    """Return a list column of which each row has the same names; Arrow's own function takes long for it."""
    numbers = np.tile(np.arange(len(names)), rows)
    ends = pa.array(np.arange(rows + 1, dtype=np.int32) * len(names), pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(names, pa.string()).take(pa.array(numbers)))


def batches(
    spec: SourceSpec, file: SourceFile, span: ByteRange | None, markup: Markup, columns: ColumnCounter
) -> Iterator[Batch]:
    """Yield what `read_columns` yields, in batches.

    Raises
    ------
    BuildError
        The reader lost a row, or numbered one wrongly.
    """
    pairs = _Pairs()
    rejected: list[Rejected] = []
    first = 0 if span is None else span.row
    row, part = first - 1, -1
    for item in read_columns(spec, file, markup=markup, columns=columns, span=span):
        if isinstance(item, FileEnd):
            if item.rows != row + 1 - first and item.outcome != FileOutcome.SKIPPED_NOT_DATA:
                raise BuildError(f"the reader counts {item.rows} rows but yielded {row + 1 - first}")
            yield Batch(pairs=pairs.table(), rejected=rejected, bytes=pairs.bytes, end=item)
            return
        found = item.row, 0 if isinstance(item, PairColumns) else item.part
        row, part = (row + 1, 0) if found[1] == 0 else (row, part + 1)
        if found != (row, part):
            raise BuildError(f"the reader yielded row {found[0]} part {found[1]}, expected row {row} part {part}")
        if isinstance(item, PairColumns):
            pairs.extend(item)
            row += len(item.instructions) - 1
        elif isinstance(item, Pair):
            pairs.add(item)
        else:
            rejected.append(item)
        if pairs.bytes >= BATCH_BYTES or pairs.rows + len(rejected) >= BATCH_ROWS:
            yield Batch(pairs=pairs.table(), rejected=rejected, bytes=pairs.bytes)
            pairs, rejected = _Pairs(), []
