"""Drops: the records that a step removes from the mix, by (partition, index), with the reason.

    step ─ DropsWriter ─▶ drops.npy, details.arrow ─ DropRef ─▶ ledger lines of those records

Records stay where `Ingest` wrote them; `pipeline.ingest.live` skips those that some step has dropped.
"""

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.records.arrays import ArrayWriter
from pipeline.records.ledger import ROWS
from pipeline.records.schema import ROW_ID, ids_of_halves

DROPS = np.dtype(
    [
        ("partition", np.uint32),
        ("index", np.uint32),
        ("twin_high", np.uint64),
        ("twin_low", np.uint64),
        ("score", np.float64),
        ("detail", np.uint32),
    ]
)
"""A dropped record: number of its partition, index in it, row id of the twin it lost to (0, 0 for none), score (NaN for
none), number of its text among the step's details (`NO_DETAIL` for none)."""

NO_DETAIL = 2**32 - 1

LOST = pa.schema(
    [
        pa.field(name, ROW_ID) if name in ("row_id", "twin") else ROWS.field(name)
        for name in ("row_id", "source", "file", "row", "part", "outcome", "stage", "twin", "score", "detail")
    ]
)
"""Ledger columns of a dropped record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Result of a step that drops records."""

    rows: dict[int, int]
    """Partition to the number of records dropped from it."""
    bytes: dict[int, int]
    """Partition to the size of their texts."""


class DropsWriter:
    """Writes a step's drops part by part, for steps that may drop more than fits in memory.

    Parameters
    ----------
    out
        The step's folder.
    """

    def __init__(self, out: Path) -> None:
        self._file = ArrayWriter(out / "drops.npy", DROPS)
        self._rows: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def add(self, drops: NDArray[Any], sizes: NDArray[Any]) -> None:
        """Append `DROPS` (n,), sorted by (partition, index) and after all earlier ones; `sizes` are bytes of texts."""
        self._file.add(drops)
        partitions, first = np.unique(drops["partition"], return_index=True)
        for number, part in zip(partitions.tolist(), np.split(sizes, first[1:]), strict=False):
            self._rows[number] += len(part)
            self._bytes[number] += int(part.sum())

    def close(self) -> Dropped:
        """Finish the file and return the numbers of dropped records and bytes."""
        self._file.close()
        return Dropped(rows=dict(self._rows), bytes=dict(self._bytes))


def write_drops(out: Path, drops: NDArray[Any], sizes: NDArray[Any], details: Sequence[str] = ()) -> Dropped:
    """Write a step's drops.

    Parameters
    ----------
    out
        The step's folder.
    drops
        `DROPS` (n,), in any order, each record at most once.
    sizes
        Integers (n,): bytes of each dropped record's texts.
    details
        Texts that `drops["detail"]` numbers.
    """
    writer = DropsWriter(out)
    order = np.lexsort((drops["index"], drops["partition"]))
    writer.add(drops[order], sizes[order])
    if details:
        write_details(out, details)
    return writer.close()


def write_details(out: Path, details: Sequence[str]) -> None:
    """Write the texts that the column `detail` of a step's drops numbers."""
    table = pa.table({"detail": pa.array(details, pa.string())})
    with pa.OSFile(str(out / "details.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)


def empty_drops(count: int) -> NDArray[Any]:
    """Return `DROPS` (count,) without twin, score and detail."""
    drops = np.zeros(count, DROPS)
    drops["score"], drops["detail"] = np.nan, NO_DETAIL
    return drops


@dataclass(frozen=True, slots=True, kw_only=True)
class DropRef:
    """Reference to the drops of a finished step."""

    stage: str
    key: str
    outcome: Outcome
    """Why the step drops records."""

    def of_partition(self, work: Path, partition: int) -> "PartitionDrops | None":
        """Return the step's drops in one partition, mapped from their file; None if there are none."""
        folder = work / self.stage / self.key
        drops = np.load(folder / "drops.npy", mmap_mode="r")
        first, last = _find(drops, "partition", partition), _find(drops, "partition", partition + 1)
        return PartitionDrops(ref=self, folder=folder, drops=drops[first:last]) if first < last else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionDrops:
    """A step's drops in one partition, sorted by index."""

    ref: DropRef
    folder: Path
    drops: NDArray[Any]
    """`DROPS` (n,)"""

    def between(self, first: int, last: int) -> NDArray[Any]:
        """Return the drops of records `first` up to `last`, which is excluded."""
        begin, end = (_find(self.drops, "index", edge) for edge in (first, last))
        return np.array(self.drops[begin:end])

    def lines(self, records: pa.RecordBatch, drops: NDArray[Any]) -> pa.Table:
        """Return ledger lines (`LOST`) of dropped records, given in the order of `drops`."""
        count = len(drops)
        columns = {name: records.column(name) for name in ("row_id", "source", "file", "row", "part")}
        columns["outcome"] = pa.array([self.ref.outcome.value] * count, pa.string())
        columns["stage"] = pa.array([self.ref.stage] * count, pa.string())
        columns["twin"] = ids_of_halves(drops["twin_high"], drops["twin_low"])
        columns["score"] = pa.array(drops["score"], mask=np.isnan(drops["score"]))
        columns["detail"] = self._details(drops["detail"])
        return pa.table(columns, schema=LOST)

    def _details(self, numbers: NDArray[np.uint32]) -> pa.Array:
        none = numbers == NO_DETAIL
        if none.all():
            return pa.nulls(len(numbers), pa.string())
        with pa.memory_map(str(self.folder / "details.arrow")) as file:
            details = pa.ipc.open_file(file).read_all().column("detail").combine_chunks()
            return details.take(pa.array(numbers.astype(np.int64), mask=none))


def drops_of_partition(work: Path, drops: Sequence[DropRef], partition: int) -> list[PartitionDrops]:
    """Return the drops of each step that dropped records of a partition."""
    return [part for ref in drops if (part := ref.of_partition(work, partition)) is not None]


def is_dropped(parts: Sequence[PartitionDrops], first: int, last: int) -> NDArray[np.bool_]:
    """Whether some step dropped the records `first` up to `last`, which is excluded: bool (last - first,)."""
    dropped = np.zeros(last - first, bool)
    for part in parts:
        dropped[part.between(first, last)["index"].astype(np.int64) - first] = True
    return dropped


def _find(table: NDArray[Any], column: str, value: int) -> int:
    """Index of the first entry of a mapped table, sorted by `column`, that is not below `value`; reads few pages."""
    return bisect.bisect_left(table, value, key=lambda entry: int(entry[column]))
