"""Shuffle: survivors on their way to their place in the global sample order.

The order is by stratum (source as in the manifest, then task), and inside a
stratum by a keyed hash of the row id: a shuffle that needs no state. `plan`
cuts this order into buckets of bounded size before any text moves: a large
stratum spans several buckets, each a range of the hash; small neighbours share
one. `Scatter` then writes each partition's survivors by bucket, and draws the
tokenizer's sample on the way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.engine.progress import report
from pipeline.engine.step import Step, folder
from pipeline.ingest.step import IPC, RECORDS, id_halves
from pipeline.records.drops import LOST, DropKey, batches
from pipeline.records.ledger import LedgerPart
from pipeline.records.seeds import U64, keyed_hash

SMALLEST_BUCKET = 8 * 2**20
LARGEST_BUCKET = 128 * 2**20
"""Bounds on a bucket's text in bytes; between them a build has 64 buckets."""
RUN_BYTES = 128 * 2**20
"""Text that a `Scatter` sorts by bucket at once."""

LARGEST_GROUP = 2**30
"""Most text that a `Scatter` takes from small partitions together."""

ROWS = pa.schema([*RECORDS, ("stratum", pa.int32())])
"""Schema of scattered records: `stratum` is the place in the plan's strata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Where a stratum's samples go: buckets `first`, …, `first + span - 1`."""

    source: str
    task: str
    first: int
    span: int


def plan(sizes: Sequence[tuple[str, str, int]], total: int) -> tuple[list[Stratum], int]:
    """Cut the global order into buckets.

    Parameters
    ----------
    sizes
        For each stratum in order: source, task, bytes of text.
    total
        Bytes of all strata together.

    Returns
    -------
    The strata with their buckets, and the number of buckets.
    """
    target = min(max(total // 64, SMALLEST_BUCKET), LARGEST_BUCKET)
    strata: list[Stratum] = []
    bucket, filled = 0, 0
    for source, task, size in sizes:
        if filled and filled + size > target:
            bucket, filled = bucket + 1, 0
        span = max(1, -(-size // target))
        strata.append(Stratum(source=source, task=task, first=bucket, span=span))
        if span > 1:
            bucket, filled = bucket + span, 0
        else:
            filled += size
    return strata, max((stratum.first + stratum.span for stratum in strata), default=1)


def bucket_of(order: U64, first: NDArray[np.int64], span: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bucket (n,) of samples with hash `order` in strata that take `span` buckets from `first`, all (n,)."""
    # order * span / 2^64 without overflow: the hash's upper 32 bits are enough to choose among buckets.
    return first + (((order >> np.uint64(32)).astype(np.int64) * span) >> 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter(Step):
    """Write the survivors of some partitions by bucket; lines for the dropped go to the ledger."""

    stage: ClassVar[str] = "scatter"

    inputs: tuple[tuple[int, str], ...]
    """Number of each partition and the key of its `Ingest`."""
    drops: tuple[DropKey, ...]
    """Steps that dropped records."""
    strata: tuple[tuple[int, str, str, int, int], ...]
    """Of the strata that occur here: number, source, task, first bucket, span."""
    seed: int
    sample_threshold: int
    """Pairs whose draw is below this (of 2^64) are part of the tokenizer's sample."""

    @property
    def partition(self) -> str:
        return f"files {self.inputs[0][0] + 1} to {self.inputs[-1][0] + 1}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        ledger = LedgerPart(out)
        buckets: list[int] = []
        kept = 0
        lookup = pl.DataFrame(
            self.strata,
            schema={"stratum": pl.Int32, "source": pl.String, "task": pl.String, "first": pl.Int64, "span": pl.Int64},
            orient="row",
        )
        with (
            pa.OSFile(str(out / "rows.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, ROWS, options=IPC) as rows,
            pa.OSFile(str(out / "sample.arrow"), "wb") as sample_sink,
            pa.ipc.new_file(sample_sink, SAMPLE, options=IPC) as sample,
        ):
            for run, dropped in survivors(work, self.inputs, self.drops):
                ledger.write(dropped)
                kept += run.num_rows
                if run.num_rows == 0:
                    continue
                table, where = self._place(run, lookup)
                for bucket, batch in _by_bucket(table, where):
                    rows.write_batch(batch)
                    buckets.append(bucket)
                for batch in self._sample(run).to_batches():
                    sample.write_batch(batch)
                report(rows=run.num_rows, bytes=run.nbytes)
        np.save(out / "buckets.npy", np.array(buckets, np.int64))
        ledger.close()
        return {"survivors": kept}

    def _place(self, run: pa.Table, lookup: pl.DataFrame) -> tuple[pa.Table, NDArray[np.int64]]:
        names = pl.from_arrow(run.select(["source", "task"]))
        assert isinstance(names, pl.DataFrame)
        placed = names.join(lookup, on=["source", "task"], how="left", maintain_order="left")
        order = keyed_hash(*id_halves(run.column("row_id")), seed=self.seed, purpose="shuffle")
        where = bucket_of(order, placed["first"].to_numpy(), placed["span"].to_numpy())
        return run.append_column(ROWS.field("stratum"), placed["stratum"].to_arrow()), where

    def _sample(self, run: pa.Table) -> pa.Table:
        draw = keyed_hash(*id_halves(run.column("row_id")), seed=self.seed, purpose="tokenizer sample")
        chosen = (
            np.flatnonzero(draw < np.uint64(self.sample_threshold))
            if self.sample_threshold < 2**64
            else np.arange(len(draw))
        )
        texts = run.select(["instruction", "response"]).take(pa.array(chosen))
        return texts.append_column("draw", pa.array(draw[chosen])).cast(SAMPLE)


SAMPLE = pa.schema([("instruction", pa.large_string()), ("response", pa.large_string()), ("draw", pa.uint64())])
"""Schema of the tokenizer's sample; it is read in the order of `draw`."""


def survivors(
    work: Path, inputs: Sequence[tuple[int, str]], drops: Sequence[DropKey]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Records of some partitions that no step has dropped, in tables of bounded size with the lines of the others.

    Parameters
    ----------
    work
        Folder of finished steps.
    inputs
        Number of each partition and the key of its `Ingest`.
    drops
        Steps that have dropped records.
    """
    kept: list[pa.RecordBatch] = []
    lines = [LOST.empty_table()]
    size = 0
    for _, _, batch, live, lost in batches(work, inputs, drops):
        kept.append(batch.filter(pa.array(live)))
        lines.append(lost)
        size += kept[-1].nbytes + lost.nbytes
        if size >= RUN_BYTES:
            yield pa.Table.from_batches(kept, RECORDS), pa.concat_tables(lines)
            kept, lines, size = [], [LOST.empty_table()], 0
    yield pa.Table.from_batches(kept, RECORDS), pa.concat_tables(lines)


def bucket_rows(work: Path, scatter_keys: Sequence[str], bucket: int) -> pa.Table:
    """All scattered records of one bucket, in no particular order.

    Each `Scatter` has one batch of it for each of its runs: with S bytes of text, S^2 / (`RUN_BYTES` x
    `LARGEST_BUCKET`) reads over all buckets, of `RUN_BYTES` / buckets each. For 200 GB those are two million reads of
    90 kB.
    """
    batches = []
    for key in scatter_keys:
        place = folder(work, Scatter.stage, key)
        wanted = np.flatnonzero(np.load(place / "buckets.npy") == bucket)
        if len(wanted):
            with pa.OSFile(str(place / "rows.arrow")) as file:
                reader = pa.ipc.open_file(file)
                batches += [reader.get_batch(int(index)) for index in wanted]
    return pa.Table.from_batches(batches, ROWS)


def scatter_groups(sizes: Sequence[int]) -> list[list[int]]:
    """Which partitions, of `sizes` bytes of text, one `Scatter` takes together.

    Small neighbours share one, so that a bucket has few files to look into: not above a 64th of all text, so that there
    is work for many workers, but at least a run's worth, and not above `LARGEST_GROUP`.
    """
    most = min(max(sum(sizes) // 64, RUN_BYTES), LARGEST_GROUP)
    groups: list[list[int]] = []
    room = 0
    for number, size in enumerate(sizes):
        if not groups or size > room:
            groups.append([])
            room = most
        groups[-1].append(number)
        room -= size
    return groups


def _by_bucket(table: pa.Table, where: NDArray[np.int64]) -> Iterator[tuple[int, pa.RecordBatch]]:
    order = np.argsort(where, kind="stable")
    edges = np.flatnonzero(np.diff(where[order], prepend=-1)).tolist()
    for begin, end in zip(edges, [*edges[1:], len(order)], strict=True):
        part = table.take(pa.array(order[begin:end])).combine_chunks()
        yield int(where[order[begin]]), part.to_batches()[0]
