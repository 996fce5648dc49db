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
from typing import ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
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
        lookup = pl.DataFrame(
            [(stratum.number, stratum.source, stratum.task, stratum.first, stratum.span) for stratum in self.strata],
            schema={"stratum": pl.Int32, "source": pl.String, "task": pl.String, "first": pl.Int64, "span": pl.Int64},
            orient="row",
        )
        with (
            BucketWriter(out, "rows", ROWS) as rows,
            pa.OSFile(str(out / "sample.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, SAMPLE, options=IPC) as sample,
        ):
            for kept, dropped in live_tables(work, self.inputs, self.drops):
                ledger.write(dropped)
                if kept.num_rows == 0:
                    continue
                rows.add(*self._place(kept, lookup))
                for batch in self._sample(kept).to_batches():
                    sample.write_batch(batch)
                records += kept.num_rows
                count(rows=kept.num_rows, bytes=kept.nbytes)
        ledger.close()
        return Scattered(records=records)

    def _place(self, records: pa.Table, lookup: pl.DataFrame) -> tuple[pa.Table, NDArray[np.int64]]:
        """Add the column `stratum`; return the bucket (n,) of each record too."""
        names = pl.DataFrame(records.select(["source", "task"]))
        placed = names.join(lookup, on=["source", "task"], how="left", maintain_order="left")
        order = keyed_hash(*id_halves(records.column("row_id")), seed=self.seed, purpose="shuffle")
        buckets = bucket_of(order, placed["first"].to_numpy(), placed["span"].to_numpy())
        return records.append_column(ROWS.field("stratum"), placed["stratum"].to_arrow()), buckets

    def _sample(self, records: pa.Table) -> pa.Table:
        draw = keyed_hash(*id_halves(records.column("row_id")), seed=self.seed, purpose="tokenizer sample")
        chosen = (
            np.flatnonzero(draw < np.uint64(self.sample_threshold))
            if self.sample_threshold < 2**64
            else np.arange(len(draw))
        )
        texts = records.select(["instruction", "response"]).take(pa.array(chosen))
        return texts.append_column("draw", pa.array(draw[chosen])).cast(SAMPLE)
