"""Live records: what `Ingest` wrote, without the records that later stages have dropped.

    LiveRecords ─ a stage's steps ─▶ drops ─▶ LiveRecords without them ─ next stage ─▶ …

A stage takes the `LiveRecords` that the stage before it left, plans its steps, and returns what they leave. Only
numbers and keys are in memory; steps read the records themselves by `LiveStep.live`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.engine.step import Step
from pipeline.ingest.step import Ingest
from pipeline.records.buckets import RUN_BYTES
from pipeline.records.drops import LOST, Dropped, DropRef, PartitionDrops, drops_of_partition
from pipeline.records.schema import RECORDS

R = TypeVar("R")

LARGEST_GROUP = 2**30
"""Most text that one step takes from small partitions together, in bytes."""

Inputs = tuple[tuple[int, str], ...]
"""Number of each partition and the key of its `Ingest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A partition: the records of one input file, or of a range of one."""

    source: str
    priority: int
    """Position of the source in the manifest: among duplicates the record of the smaller one survives."""
    key: str
    """Key of the `Ingest` that wrote them."""
    records: int
    bytes: int
    """Size of all instructions and responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRecords:
    """Records of some partitions, without those that steps have dropped."""

    parts: tuple[Part, ...]
    """A partition's number is its position here."""
    drops: tuple[DropRef, ...] = ()
    lost_rows: Mapping[int, int] = field(default_factory=dict)
    """Partition to the number of records dropped from it, if any were."""
    lost_bytes: Mapping[int, int] = field(default_factory=dict)
    """Partition to the size of the dropped texts."""

    @property
    def inputs(self) -> Inputs:
        """All partitions, as steps take them."""
        return tuple((number, part.key) for number, part in enumerate(self.parts))

    @property
    def rows(self) -> int:
        """Number of live records."""
        return sum(part.records for part in self.parts) - sum(self.lost_rows.values())

    @property
    def bytes(self) -> int:
        """Size of their texts."""
        return sum(part.bytes for part in self.parts) - sum(self.lost_bytes.values())

    def groups(self) -> list[Inputs]:
        """Return the partitions in groups, one for each step: a large partition alone, small neighbours together.

        Few steps have few files to look into. A group has at most a 64th of all text, so that there is work for many
        workers, but at least a run's worth (`RUN_BYTES`), and at most `LARGEST_GROUP`.
        """
        limit = min(max(sum(part.bytes for part in self.parts) // 64, RUN_BYTES), LARGEST_GROUP)
        groups: list[list[tuple[int, str]]] = []
        room = 0
        for number, part in enumerate(self.parts):
            if not groups or part.bytes > room:
                groups.append([])
                room = limit
            groups[-1].append((number, part.key))
            room -= part.bytes
        return [tuple(group) for group in groups]

    def without(self, steps: Sequence[Step[Dropped]], results: Sequence[Dropped], outcome: Outcome) -> "LiveRecords":
        """Return the records that are left after some steps dropped others as `outcome`."""
        rows, sizes = Counter(self.lost_rows), Counter(self.lost_bytes)
        for result in results:
            rows.update(result.rows)
            sizes.update(result.bytes)
        drops = tuple(DropRef(stage=step.stage, key=step.key, outcome=outcome) for step in steps)
        return replace(self, drops=self.drops + drops, lost_rows=dict(rows), lost_bytes=dict(sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStep(Step[R]):
    """A step over the live records of some partitions."""

    inputs: Inputs
    drops: tuple[DropRef, ...]
    """Steps that dropped records."""

    @property
    def partition(self) -> str:
        return f"partitions {self.inputs[0][0] + 1} to {self.inputs[-1][0] + 1}"

    def live(self, work: Path, columns: Sequence[str]) -> Iterator[tuple[int, NDArray[np.uint32], pa.RecordBatch]]:
        """Yield live records: number of the partition, indices (n,) in it, and a batch of `columns` of `RECORDS`."""
        return live_batches(work, self.inputs, self.drops, columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    partition: int
    first: int
    """Index of the batch's first record in the partition."""
    records: pa.RecordBatch
    live: NDArray[np.bool_]
    """Whether each record of the batch is live."""
    dropped: Sequence[tuple[PartitionDrops, NDArray[Any]]]
    """The others, by the step that dropped them, `DROPS`."""

    @property
    def kept(self) -> pa.RecordBatch:
        """The live records."""
        return self.records if self.live.all() else self.records.take(pa.array(np.flatnonzero(self.live)))

    @property
    def lost(self) -> pa.Table:
        """Ledger lines of the others, `LOST`."""
        lines = [LOST.empty_table()]
        records = self.records.select(["row_id", "source", "file", "row", "part"])
        for part, found in self.dropped:
            lines.append(part.lines(records.take(pa.array(found["index"].astype(np.int64) - self.first)), found))
        return pa.concat_tables(lines)


def _batches(
    work: Path, inputs: Inputs, drops: Sequence[DropRef], columns: Sequence[str] | None = None
) -> Iterator[_Batch]:
    for partition, key in inputs:
        parts = drops_of_partition(work, drops, partition)
        first = 0
        for batch in Ingest.records(work, key, columns):
            live = np.ones(batch.num_rows, bool)
            found_by = ((part, part.between(first, first + batch.num_rows)) for part in parts)
            dropped = [(part, found) for part, found in found_by if len(found)]
            for _, found in dropped:
                live[found["index"].astype(np.int64) - first] = False
            yield _Batch(partition=partition, first=first, records=batch, live=live, dropped=dropped)
            first += batch.num_rows


def live_batches(
    work: Path, inputs: Inputs, drops: Sequence[DropRef], columns: Sequence[str]
) -> Iterator[tuple[int, NDArray[np.uint32], pa.RecordBatch]]:
    """Yield live records: number of the partition, indices (n,) in it, and a batch of `columns` of `RECORDS`."""
    for batch in _batches(work, inputs, drops, columns):
        yield batch.partition, (batch.first + np.flatnonzero(batch.live)).astype(np.uint32), batch.kept


def live_tables(
    work: Path, inputs: Inputs, drops: Sequence[DropRef]
) -> Iterator[tuple[pa.Table, NDArray[np.bool_], pa.Table]]:
    """Yield tables of about `RUN_BYTES`: records (`RECORDS`), which of them are live, and ledger lines of the others.

    Records that are not live are left in the table, since most who take it choose rows anyway, by one copy.
    """
    records: list[pa.RecordBatch] = []
    live = [np.empty(0, bool)]
    lines = [LOST.empty_table()]
    size = 0
    for batch in _batches(work, inputs, drops):
        records.append(batch.records)
        live.append(batch.live)
        lines.append(batch.lost)
        size += records[-1].nbytes + lines[-1].nbytes
        if size >= RUN_BYTES:
            yield pa.Table.from_batches(records, RECORDS), np.concatenate(live), pa.concat_tables(lines)
            records, live, lines, size = [], [np.empty(0, bool)], [LOST.empty_table()], 0
    yield pa.Table.from_batches(records, RECORDS), np.concatenate(live), pa.concat_tables(lines)
