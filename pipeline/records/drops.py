"""Drops: what a stage over all records takes out of the mix, and on what grounds.

    Scope ─ stage ─▶ drops.npy, details.arrow for each step ─▶ Scope without them ─ next stage ─▶ …

Records stay where `Ingest` wrote them; a stage only names those that end, by
(partition, index), sorted. `live_batches` gives later stages the others, and
`ledger_lines` tells the ledger what became of these.
"""

import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.engine.step import folder
from pipeline.ingest.step import Ingest
from pipeline.records.ledger import ROWS as LEDGER_ROWS

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
"""A record that is dropped: number of its partition, index in it, row id of the twin it lost to (0, 0 for none), score
(NaN for none), and line of the step's details (`NO_DETAIL` for none)."""

NO_DETAIL = 2**32 - 1

DropKey = tuple[str, str, str]
"""What names a step's drops: its stage, its key, and the `Outcome` of what it drops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Records of one input file."""

    source: str
    order: int
    """Place of the source in the manifest: among duplicates the smaller survives."""
    key: str
    """Key of the `Ingest` that wrote them."""
    records: int
    bytes: int
    """Size of all instructions and responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a stage works on: the records of some partitions, less what earlier stages dropped."""

    parts: tuple[Part, ...]
    """A partition's number is its place here."""
    drops: tuple[DropKey, ...] = ()
    lost_rows: Mapping[int, int] = field(default_factory=dict)
    """For each partition that lost any: records dropped so far."""
    lost_bytes: Mapping[int, int] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[tuple[int, str], ...]:
        """Number of each partition and the key of its `Ingest`, as steps take them."""
        return tuple((number, part.key) for number, part in enumerate(self.parts))

    @property
    def live_rows(self) -> int:
        """Records that are left."""
        return sum(part.records for part in self.parts) - sum(self.lost_rows.values())

    @property
    def live_bytes(self) -> int:
        """Size of the texts that are left."""
        return sum(part.bytes for part in self.parts) - sum(self.lost_bytes.values())

    def without(self, drops: Sequence[DropKey], results: Sequence[Mapping[str, Any]]) -> "Scope":
        """The scope after some steps, given what `write_drops` returned for each."""
        rows, sizes = Counter(self.lost_rows), Counter(self.lost_bytes)
        for result in results:
            rows.update({int(number): count for number, count in result["lost_rows"].items()})
            sizes.update({int(number): size for number, size in result["lost_bytes"].items()})
        return replace(self, drops=(*self.drops, *drops), lost_rows=dict(rows), lost_bytes=dict(sizes))


def write_drops(out: Path, drops: NDArray[Any], sizes: NDArray[Any], details: Sequence[str] = ()) -> dict[str, Any]:
    """Write a step's drops; part of its result.

    Parameters
    ----------
    out
        The step's folder.
    drops
        `DROPS` (n,), in any order; a record at most once.
    sizes
        Integers (n,): bytes of each dropped record's texts.
    details
        What `drops["detail"]` counts.

    Returns
    -------
    dict
        As from `DropsWriter.close`.
    """
    writer = DropsWriter(out)
    order = np.lexsort((drops["index"], drops["partition"]))
    writer.add(drops[order], sizes[order])
    if details:
        write_details(out, details)
    return writer.close()


def write_details(out: Path, details: Sequence[str]) -> None:
    """Write what the column `detail` of a step's drops counts."""
    table = pa.table({"detail": pa.array(details, pa.string())})
    with pa.OSFile(str(out / "details.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)


class DropsWriter:
    """Writes a step's drops part by part, for steps that may drop more than fits in memory.

    Parameters
    ----------
    out
        The step's folder.
    """

    def __init__(self, out: Path) -> None:
        self._file = (out / "drops.npy").open("wb")
        self._header(0)
        self._count = 0
        self._rows: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    def add(self, drops: NDArray[Any], sizes: NDArray[Any]) -> None:
        """Append `DROPS` (n,) that come after all before them by (partition, index); `sizes` are bytes of texts."""
        self._file.write(drops.tobytes())
        self._count += len(drops)
        losers, first = np.unique(drops["partition"], return_index=True)
        for number, mine in zip(losers.tolist(), np.split(sizes, first[1:]), strict=False):
            self._rows[number] += len(mine)
            self._bytes[number] += int(mine.sum())

    def close(self) -> dict[str, Any]:
        """Finish the file.

        Returns
        -------
        dict
            `lost`: all records dropped; `lost_rows`, `lost_bytes`: for each partition that lost any, as JSON keys.
        """
        self._file.seek(0)
        self._header(self._count)
        self._file.close()
        return {
            "lost": self._count,
            "lost_rows": {str(number): rows for number, rows in self._rows.items()},
            "lost_bytes": {str(number): size for number, size in self._bytes.items()},
        }

    def _header(self, count: int) -> None:
        # numpy leaves room in it for a count of any size.
        header = {"descr": np.lib.format.dtype_to_descr(DROPS), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def empty_drops(count: int) -> NDArray[Any]:
    """`DROPS` (count,) without twin, score and detail."""
    drops = np.zeros(count, DROPS)
    drops["score"], drops["detail"] = np.nan, NO_DETAIL
    return drops


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mine:
    """One step's drops in one partition, mapped from its file."""

    key: DropKey
    place: Path
    drops: NDArray[Any]


def _drops_of(work: Path, keys: Sequence[DropKey], partition: int) -> list[_Mine]:
    found = []
    for key in keys:
        place = folder(work, key[0], key[1])
        drops = np.load(place / "drops.npy", mmap_mode="r")
        first, last = _find(drops, "partition", partition), _find(drops, "partition", partition + 1)
        if first < last:
            found.append(_Mine(key=key, place=place, drops=drops[first:last]))
    return found


def batches(
    work: Path, inputs: Sequence[tuple[int, str]], drops: Sequence[DropKey]
) -> Iterator[tuple[int, int, pa.RecordBatch, NDArray[np.bool_], pa.Table]]:
    """Records of some partitions, and which of them are still there.

    Parameters
    ----------
    work
        Folder of finished steps.
    inputs
        Number of each partition and the key of its `Ingest`.
    drops
        Steps that have dropped records.

    Yields
    ------
    partition, first : int
        Number of the partition, and index of the batch's first record in it.
    batch : pyarrow.RecordBatch
        `pipeline.ingest.step.RECORDS`, of n records.
    live : NDArray
        bool (n,).
    lines : pyarrow.Table
        Ledger lines of the others, in order.
    """
    for partition, key in inputs:
        mine = _drops_of(work, drops, partition)
        first = 0
        for batch in record_batches(work, key):
            live = np.ones(batch.num_rows, bool)
            lines = [LOST.empty_table()]
            for part in mine:
                begin, end = (_find(part.drops, "index", edge) for edge in (first, first + batch.num_rows))
                if begin < end:
                    found = np.array(part.drops[begin:end])
                    places = found["index"].astype(np.int64) - first
                    live[places] = False
                    lines.append(_lines(batch.take(pa.array(places)), part, found))
            yield partition, first, batch, live, pa.concat_tables(lines)
            first += batch.num_rows


def live_batches(
    work: Path, inputs: Sequence[tuple[int, str]], drops: Sequence[DropKey]
) -> Iterator[tuple[int, NDArray[np.uint32], pa.RecordBatch]]:
    """Records that no step has dropped: number of the partition, their indices in it, uint32 (n,), and themselves."""
    for partition, first, batch, live, _ in batches(work, inputs, drops):
        places = np.flatnonzero(live)
        kept = batch if len(places) == batch.num_rows else batch.take(pa.array(places))
        yield partition, (first + places).astype(np.uint32), kept


def record_batches(work: Path, key: str) -> Iterator[pa.RecordBatch]:
    """Batches of the records that an `Ingest` wrote."""
    # Not mapped: the pages of a large file would stay with the process that went through it.
    with pa.OSFile(str(folder(work, Ingest.stage, key) / "records.arrow")) as file:
        reader = pa.ipc.open_file(file)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


LOST = pa.schema(
    [
        LEDGER_ROWS.field(name)
        for name in ("row_id", "source", "file", "row", "part", "outcome", "stage", "twin", "score", "detail")
    ]
)
"""Ledger columns of a dropped record."""


def _lines(records: pa.RecordBatch, part: _Mine, drops: NDArray[Any]) -> pa.Table:
    stage, _, outcome = part.key
    count = len(drops)
    twins = np.stack([drops["twin_high"], drops["twin_low"]], axis=1)
    digits = twins.astype(">u8").tobytes().hex()
    has_twin = twins.any(axis=1)
    columns = {name: records.column(name) for name in ("row_id", "source", "file", "row", "part")}
    columns["outcome"] = pa.array([Outcome(outcome).value] * count, pa.string())
    columns["stage"] = pa.array([stage] * count, pa.string())
    columns["twin"] = pa.array(
        [digits[32 * i : 32 * i + 32] if there else None for i, there in enumerate(has_twin.tolist())], pa.string()
    )
    columns["score"] = pa.array(drops["score"], mask=np.isnan(drops["score"]))
    columns["detail"] = _details(part.place, drops["detail"])
    return pa.table(columns, schema=LOST)


def _details(place: Path, numbers: NDArray[np.uint32]) -> pa.Array:
    none = numbers == NO_DETAIL
    if none.all():
        return pa.nulls(len(numbers), pa.string())
    with pa.memory_map(str(place / "details.arrow")) as file:
        details = pa.ipc.open_file(file).read_all().column("detail").combine_chunks()
        return details.take(pa.array(numbers.astype(np.int64), mask=none))


def _find(table: NDArray[Any], column: str, value: int) -> int:
    """First entry of a mapped table, sorted by `column`, that is not below `value`; touches only a few pages."""
    return bisect.bisect_left(table, value, key=lambda entry: int(entry[column]))
