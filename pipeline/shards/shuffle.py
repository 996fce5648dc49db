"""Shuffle: live records on their way to their position in the global sample order.

    sizes of strata ─ plan ─▶ `PlannedStratum`, with its buckets of the order
    live records ─ Scatter ─▶ rows by bucket, a sample for the tokenizer, ledger lines of dropped records

The order is by stratum (source as in the manifest, then task), and inside of a stratum by a keyed hash of the row id: a
shuffle without state. `plan` cuts this order into buckets of bounded size before any text moves: a large stratum spans
several buckets, each with a range of the hash; small neighbours share one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.engine.counters import count
from pipeline.ingest.live import LiveStep, live_tables
from pipeline.records.buckets import BucketWriter, read_bucket
from pipeline.records.ledger import LedgerPart
from pipeline.records.schema import IPC, RECORDS, U64, id_halves
from pipeline.records.seeds import keyed_hash

SMALLEST_BUCKET = 8 * 2**20
LARGEST_BUCKET = 128 * 2**20
"""Bounds on a bucket's text in bytes; between them a build has 64 buckets."""

ROWS = pa.schema([*RECORDS, ("stratum", pa.int32())])
"""Scattered records: `stratum` is the number of the planned stratum."""

SAMPLE = pa.schema([("instruction", pa.large_string()), ("response", pa.large_string()), ("draw", pa.uint64())])
"""The tokenizer's sample, which is read in the order of `draw`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStratum:
    """The buckets of a stratum's samples: `first`, …, `first + span - 1`."""

    number: int
    """Position in the global order."""
    source: str
    task: str
    first: int
    span: int


def plan(sizes: Sequence[tuple[str, str, int]], total: int) -> tuple[list[PlannedStratum], int]:
    """Cut the global order into buckets.

    Parameters
    ----------
    sizes
        For each stratum in order: source, task, bytes of text.
    total
        Bytes of all strata together.

    Returns
    -------
    strata, buckets
        The strata with their buckets, and the number of buckets.
    """
    target = min(max(total // 64, SMALLEST_BUCKET), LARGEST_BUCKET)
    strata: list[PlannedStratum] = []
    bucket, filled = 0, 0
    for number, (source, task, size) in enumerate(sizes):
        if filled and filled + size > target:
            bucket, filled = bucket + 1, 0
        span = max(1, -(-size // target))
        strata.append(PlannedStratum(number=number, source=source, task=task, first=bucket, span=span))
        if span > 1:
            bucket, filled = bucket + span, 0
        else:
            filled += size
    return strata, max((stratum.first + stratum.span for stratum in strata), default=1)


def bucket_of(order: U64, first: NDArray[np.int64], span: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bucket of samples with hash `order`, in strata with `span` buckets from `first` on; all are (n,)."""
    # order * span / 2^64 without overflow: the upper 32 bits of the hash are enough to choose a bucket.
    return first + (((order >> np.uint64(32)).astype(np.int64) * span) >> 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scattered:
    """Result of `Scatter`."""

    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter(LiveStep[Scattered]):
    """Write the live records of some partitions by bucket, and ledger lines of the dropped ones."""

    stage: ClassVar[str] = "scatter"

    strata: tuple[PlannedStratum, ...]
    """The strata of these partitions."""
    seed: int
    sample_threshold: int
    """Pairs whose draw is below this (of 2^64) are in the tokenizer's sample."""

    @classmethod
    def bucket(cls, work: Path, keys: Iterable[str], bucket: int) -> pa.Table:
        """Return all records of one bucket from finished steps, `ROWS`, in no particular order."""
        return read_bucket([cls.folder(work, key) for key in keys], "rows", ROWS, bucket)

    @classmethod
    def sample(cls, work: Path, keys: Iterable[str]) -> pa.Table:
        """Return the tokenizer's sample from finished steps, `SAMPLE`, in order of `draw`."""
        tables = [SAMPLE.empty_table()]
        for key in keys:
            with pa.OSFile(str(cls.folder(work, key) / "sample.arrow")) as file:
                tables.append(pa.ipc.open_file(file).read_all())
        sample = pa.concat_tables(tables)
        return sample.take(pa.array(np.argsort(sample.column("draw").to_numpy(), kind="stable")))

    def run(self, work: Path, out: Path) -> Scattered:
        ledger = LedgerPart(out)
        records = 0
        place_of = Places(self.strata)
        with (
            BucketWriter(out, "rows", ROWS) as rows,
            pa.OSFile(str(out / "sample.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, SAMPLE, options=IPC) as sample,
        ):
            for table, live, dropped in live_tables(work, self.inputs, self.drops):
                ledger.write(dropped)
                number = np.count_nonzero(live)
                if not number:
                    continue
                ids = id_halves(table.column("row_id"))
                strata, first, span = place_of(table)
                buckets = bucket_of(keyed_hash(*ids, seed=self.seed, purpose="shuffle"), first, span)
                rows.add(table.append_column(ROWS.field("stratum"), pa.array(strata)), np.where(live, buckets, -1))
                for batch in self._sample(table, live, ids).to_batches():
                    sample.write_batch(batch)
                records += number
                count(rows=number, bytes=table.nbytes * number // len(live))
        ledger.close()
        return Scattered(records=records)

    def _sample(self, records: pa.Table, live: NDArray[np.bool_], ids: tuple[U64, U64]) -> pa.Table:
        draw = keyed_hash(*ids, seed=self.seed, purpose="tokenizer sample")
        if self.sample_threshold < 2**64:
            live = live & (draw < np.uint64(self.sample_threshold))
        chosen = np.flatnonzero(live)
        texts = records.select(["instruction", "response"]).take(pa.array(chosen))
        return texts.append_column("draw", pa.array(draw[chosen])).cast(SAMPLE)


Names: TypeAlias = pa.Array | pa.ChunkedArray


class Places:
    """Numbers and buckets of the strata of records.

    Parameters
    ----------
    strata
        All strata that the records have.
    """

    def __init__(self, strata: Sequence[PlannedStratum]) -> None:
        self._sources = pa.array(sorted({stratum.source for stratum in strata}), pa.string())
        self._tasks = pa.array(sorted({stratum.task for stratum in strata}), pa.string())
        names = ([stratum.source for stratum in strata], [stratum.task for stratum in strata])
        codes = self._codes(*(pa.array(of_all, pa.string()) for of_all in names))
        order = np.argsort(codes)
        self._sorted = codes[order]
        self._numbers = np.array([stratum.number for stratum in strata], np.int32)[order]
        self._first = np.array([stratum.first for stratum in strata], np.int64)[order]
        self._span = np.array([stratum.span for stratum in strata], np.int64)[order]

    def __call__(self, records: pa.Table) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Return number, first bucket and number of buckets of each record's stratum, (n,) each."""
        codes = self._codes(records.column("source"), records.column("task"))
        places = np.minimum(np.searchsorted(self._sorted, codes), len(self._sorted) - 1)
        if not np.array_equal(self._sorted[places], codes):
            raise ValueError("a record is of a source and task that no stratum was planned for")
        return self._numbers[places], self._first[places], self._span[places]

    def _codes(self, sources: Names, tasks: Names) -> NDArray[np.int64]:
        """Return a number (n,) for each source and task, negative for one of no stratum."""
        source, task = (
            pc.index_in(names, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
            for names, known in ((sources, self._sources), (tasks, self._tasks))
        )
        return np.where(task >= 0, source * len(self._tasks) + task, -1)
