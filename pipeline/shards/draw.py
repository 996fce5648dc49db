"""Draw: of each stratum, the pairs that the epochs of a training run can draw; the others are dropped.

    keys of `Ingest` ─ DrawKeys ─▶ entries by bucket of the global order ─ Draw, by bucket ─▶ drops

A run of `epochs` draws at most epochs x `max_per_epoch` samples of a stratum, and draws them in the global order
(`pipeline.shards.shuffle`), so the first ones of that order are kept. Which these are does not depend on `epochs`
otherwise: a dataset for fewer epochs has the beginning of each stratum of a dataset for more.

With `draw_margin`, `draw_ahead` does the same before curation, and keeps that many times more.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.engine.counters import count
from pipeline.engine.executor import Executor
from pipeline.engine.step import BuildError, Step
from pipeline.ingest.live import LiveRecords, LiveStep
from pipeline.ingest.step import Ingest, TaskSize
from pipeline.manifest import Mix
from pipeline.records.buckets import BucketWriter, read_bucket
from pipeline.records.drops import Dropped, drops_of_partition, empty_drops, is_dropped, write_drops
from pipeline.records.runs import in_lengths
from pipeline.records.seeds import keyed_hash
from pipeline.shards.shuffle import PlannedStratum, bucket_of, plan

ENTRIES = pa.schema(
    [
        ("stratum", pa.int32()),
        ("order", pa.uint64()),
        ("id_high", pa.uint64()),
        ("id_low", pa.uint64()),
        ("partition", pa.uint32()),
        ("index", pa.uint32()),
        ("bytes", pa.uint32()),
    ]
)
"""Number of the stratum, place in its shuffled order, row id, place of the record, size of its texts."""

MAX_LISTED = 10
"""Strata that a message lists."""
ENTRY_BYTES = 200
"""Memory that `Draw` takes for an entry, sorting included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumRows:
    """Live records of a stratum in one bucket."""

    stratum: int
    bucket: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnKeys:
    """Result of `DrawKeys`."""

    found: tuple[StratumRows, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawKeys(LiveStep[DrawnKeys]):
    """Write the entries of live records of some strata by bucket of the global order."""

    stage: ClassVar[str] = "draw-keys"

    sources: tuple[str, ...]
    """For each of the `inputs`: its source."""
    strata: tuple[PlannedStratum, ...]
    """Strata of which not all can be drawn; records of others have no entries."""
    seed: int

    @classmethod
    def bucket(cls, work: Path, keys: Sequence[str], bucket: int) -> pa.Table:
        """Return the `ENTRIES` of one bucket from finished steps."""
        return read_bucket([cls.folder(work, key) for key in keys], "entries", ENTRIES, bucket)

    def run(self, work: Path, out: Path) -> DrawnKeys:
        found: Counter[tuple[int, int]] = Counter()
        with BucketWriter(out, "entries", ENTRIES) as writer:
            for (partition, key), source in zip(self.inputs, self.sources, strict=True):
                strata = {stratum.task: stratum for stratum in self.strata if stratum.source == source}
                numbers = in_lengths(_numbers(Ingest.tasks(work, key), strata), Ingest.keys(work, key))
                drops = drops_of_partition(work, self.drops, partition)
                planned = {stratum.number: stratum for stratum in strata.values()}
                first = 0
                for keys, number in zip(Ingest.keys(work, key), numbers, strict=True):
                    number[is_dropped(drops, first, first + len(keys))] = -1
                    stratum = number[keys["index"] - first]
                    first += len(keys)
                    live = np.array(keys[stratum >= 0])
                    stratum = stratum[stratum >= 0]
                    order = keyed_hash(
                        np.ascontiguousarray(live["id_high"]),
                        np.ascontiguousarray(live["id_low"]),
                        seed=self.seed,
                        purpose="shuffle",
                    )
                    buckets = _buckets(order, stratum, planned)
                    columns = {
                        "stratum": stratum,
                        "order": order,
                        **{name: live[name] for name in ("id_high", "id_low", "index", "bytes")},
                        "partition": np.full(len(live), partition, np.uint32),
                    }
                    if len(live):
                        writer.add(pa.table({name: columns[name] for name in ENTRIES.names}, schema=ENTRIES), buckets)
                        pairs, rows = np.unique(np.stack([stratum, buckets]), axis=1, return_counts=True)
                        for number, bucket, size in zip(*pairs.tolist(), rows.tolist(), strict=True):
                            found[number, bucket] += size
                    count(rows=len(keys))
        return DrawnKeys(
            found=tuple(
                StratumRows(stratum=number, bucket=bucket, rows=rows)
                for (number, bucket), rows in sorted(found.items())
            )
        )


def _numbers(tasks: Iterator[pa.Array], strata: Mapping[str, PlannedStratum]) -> Iterator[NDArray[np.int32]]:
    """Yield the stratum of the records of a partition, in order; -1 for a task that has no stratum here."""
    lookup = pl.DataFrame(
        [(task, stratum.number) for task, stratum in strata.items()],
        schema={"task": pl.String, "number": pl.Int32},
        orient="row",
    )
    for batch in tasks:
        names = pl.DataFrame({"task": pl.Series(batch)})
        yield names.join(lookup, on="task", how="left", maintain_order="left")["number"].fill_null(-1).to_numpy()


def _buckets(
    order: NDArray[np.uint64], stratum: NDArray[np.int32], planned: Mapping[int, PlannedStratum]
) -> NDArray[np.int64]:
    """Return the bucket of each entry (n,)."""
    numbers, places = np.unique(stratum, return_inverse=True)
    first = np.array([planned[number].first for number in numbers.tolist()], np.int64)
    span = np.array([planned[number].span for number in numbers.tolist()], np.int64)
    return bucket_of(order, first[places], span[places])


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many entries of a stratum a bucket keeps: the first ones."""

    stratum: int
    keep: int
    detail: str
    """Of the others, in the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw(Step[Dropped]):
    """Drop the records of one bucket that no epoch draws."""

    stage: ClassVar[str] = "draw"

    inputs: tuple[str, ...]
    """Keys of all `DrawKeys`."""
    bucket: int
    quotas: tuple[Quota, ...]
    """Of strata with more entries in this bucket; those of others are all kept."""

    @property
    def partition(self) -> str:
        return f"bucket {self.bucket + 1}"

    def run(self, work: Path, out: Path) -> Dropped:
        table = DrawKeys.bucket(work, self.inputs, self.bucket)
        quota = {each.stratum: number for number, each in enumerate(self.quotas)}
        stratum = table.column("stratum").to_numpy()
        count(rows=len(stratum))
        number = np.full(max([*quota, int(stratum.max(initial=-1))], default=0) + 1, -1, np.int64)
        number[list(quota)] = list(quota.values())
        chosen = np.flatnonzero(number[stratum] >= 0)
        entries = {name: table.column(name).to_numpy()[chosen] for name in ENTRIES.names}
        ranked = np.lexsort([entries[name] for name in ("id_low", "id_high", "order", "stratum")])
        _, begins, places = np.unique(entries["stratum"][ranked], return_index=True, return_inverse=True)
        rank = np.arange(len(ranked)) - begins[places]
        keep = np.array([each.keep for each in self.quotas], np.int64)
        of = number[entries["stratum"][ranked]]
        lost = ranked[rank >= keep[of]]
        drops = empty_drops(len(lost))
        for name in ("partition", "index"):
            drops[name] = entries[name][lost]
        drops["detail"] = number[entries["stratum"][lost]]
        return write_drops(out, drops, entries["bytes"][lost], [each.detail for each in self.quotas])


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawAhead(Draw):
    """Drop the records of one bucket that are not curated, because enough others of their stratum are."""

    stage: ClassVar[str] = "draw-ahead"


Stratum = tuple[str, str]
"""Source and task."""
Tasks = Mapping[str, Mapping[str, TaskSize]]
"""Key of each `Ingest` to the sizes of its tasks."""


def draw_ahead(
    records: LiveRecords, mix: Mix, tasks: Tasks, executor: Executor
) -> tuple[LiveRecords, frozenset[Stratum]]:
    """Drop what need not be curated, by `mix.draw_margin`.

    Parameters
    ----------
    records
        What is about to be curated.
    mix
        Its `epochs` and `draw_margin`; without the latter all records are curated.
    tasks
        Key of each `Ingest` to the sizes of its tasks.
    executor
        Completes steps.

    Returns
    -------
    records, strata
        The records that are left, and the strata that others were dropped from.
    """
    if mix.epochs is None or mix.draw_margin is None:
        return records, frozenset()
    drawn = _limits(mix, mix.epochs)
    limits = {source: _ahead(mix.draw_margin, limit) for source, limit in drawn.items()}

    def detail(source: str, rows: int) -> str:
        return (
            f"{limits[source]:,} of the stratum's {rows:,} pairs are curated: {_times(mix.epochs)} at most "
            f"{drawn[source]:,} (epochs, max_per_epoch, draw_margin)"
        )

    left, rows = _draw(DrawAhead, records, mix.seed, tasks, executor, limits, detail)
    return left, frozenset(stratum for stratum, count in rows.items() if count > limits[stratum[0]])


def drop_undrawn(
    records: LiveRecords, mix: Mix, tasks: Tasks, executor: Executor, ahead: Collection[Stratum] = ()
) -> LiveRecords:
    """Return the records without those that `mix.epochs` epochs never draw.

    Parameters
    ----------
    records
        What curation left.
    mix
        Its `epochs`; None keeps all.
    tasks
        Key of each `Ingest` to the sizes of its tasks.
    executor
        Completes steps.
    ahead
        Strata that `draw_ahead` dropped pairs of.

    Raises
    ------
    BuildError
        One of these strata has fewer pairs left than the epochs draw.
    """
    if mix.epochs is None:
        return records
    limits = _limits(mix, mix.epochs)

    def detail(source: str, rows: int) -> str:
        most = f"at most {limits[source]:,} of the stratum's {rows:,} pairs"
        return f"{_times(mix.epochs)} {most} (epochs, max_per_epoch)"

    left, rows = _draw(Draw, records, mix.seed, tasks, executor, limits, detail, ahead)
    short = {stratum: rows[stratum] for stratum in sorted(ahead) if rows[stratum] < limits[stratum[0]]}
    if short:
        raise BuildError(_shortage(mix, short, limits))
    return left


def _shortage(mix: Mix, short: Mapping[Stratum, int], limits: Mapping[str, int]) -> str:
    """Return what to do about strata of which too few pairs are left."""
    margin = mix.draw_margin or 1.0
    lines = [
        f"  source {source}, task {task}: {rows:,} of {_ahead(margin, limits[source]):,} pairs are left, "
        f"{_times(mix.epochs)} {limits[source]:,}"
        for (source, task), rows in short.items()
    ]
    more = [f"  and {len(lines) - MAX_LISTED:,} more strata"] if len(lines) > MAX_LISTED else []
    needed = max(margin * limits[source] / max(rows, 1) for (source, _), rows in short.items())
    return "\n".join(
        [
            f"draw_margin={margin:g} is too small: curation leaves fewer pairs of these strata than the epochs draw, "
            "and pairs that were not curated could take their place",
            *lines[:MAX_LISTED],
            *more,
            f"Set draw_margin to {math.ceil(needed * 10.5) / 10:g} or more, or leave it out, which curates all pairs",
        ]
    )


def _limits(mix: Mix, epochs: int) -> dict[str, int]:
    """Return the pairs of a stratum that the epochs draw at most, for sources that have a maximum."""
    return {spec.name: epochs * spec.max_per_epoch for spec in mix.sources if spec.max_per_epoch is not None}


def _ahead(margin: float, limit: int) -> int:
    return math.ceil(round(margin * limit, 6))  # 1.1 x 200 is a little more than 220


def _times(epochs: int | None) -> str:
    return "one epoch draws" if epochs == 1 else f"{epochs:,} epochs draw"


def _draw(
    step: type[Draw],
    records: LiveRecords,
    seed: int,
    tasks: Tasks,
    executor: Executor,
    limits: Mapping[str, int],
    detail: Callable[[str, int], str],
    counted: Collection[Stratum] = (),
) -> tuple[LiveRecords, Counter[Stratum]]:
    """Keep the first records of each stratum.

    Parameters
    ----------
    step
        What drops the others.
    limits
        Number of records to keep, by source; all of a source without.
    detail
        Text in the ledger, by source and the number of records of a stratum.
    counted
        Strata that are counted even if they cannot have more than the limit.

    Returns
    -------
    records, rows
        What is left, and the records that each stratum had, of those that may exceed the limit or are `counted`.
    """
    # A file's tasks are known, but not how many of its records each has left: at most all of them.
    most: Counter[tuple[int, str]] = Counter()
    for number, part in enumerate(records.parts):
        for task in tasks[part.key]:
            most[part.priority, task] += part.records - records.lost_rows.get(number, 0)
    names = {part.priority: part.source for part in records.parts}
    bounded = [
        (names[priority], task, rows * ENTRY_BYTES)
        for (priority, task), rows in sorted(most.items())
        if rows > limits.get(names[priority], rows) or (names[priority], task) in counted
    ]
    if not bounded:
        return records, Counter()
    strata, _ = plan(bounded, sum(size for _, _, size in bounded))
    sorters = _sorters(records, strata, seed, tasks)
    found = executor.map(sorters)
    rows: dict[int, Counter[int]] = {stratum.number: Counter() for stratum in strata}
    for each in (each for result in found for each in result.found):
        rows[each.stratum][each.bucket] += each.rows
    totals = Counter({(each.source, each.task): rows[each.number].total() for each in strata})
    quotas: dict[int, list[Quota]] = {}
    for stratum in strata:
        left = limits[stratum.source]
        text = detail(stratum.source, totals[stratum.source, stratum.task])
        for bucket, size in sorted(rows[stratum.number].items()):
            if size > left:
                quotas.setdefault(bucket, []).append(Quota(stratum=stratum.number, keep=left, detail=text))
            left = max(0, left - size)
    keys = tuple(each.key for each in sorters)
    steps = [step(inputs=keys, bucket=bucket, quotas=tuple(quotas[bucket])) for bucket in sorted(quotas)]
    return records.without(steps, executor.map(steps), Outcome.NOT_DRAWN), totals


def _sorters(records: LiveRecords, strata: Sequence[PlannedStratum], seed: int, tasks: Tasks) -> list[DrawKeys]:
    """Plan a step for each group of partitions that has a record of some of the strata."""
    by_name = {(stratum.source, stratum.task): stratum for stratum in strata}
    steps = []
    for group in records.groups():
        inputs, chosen = [], set()
        for number, key in group:
            here = {(records.parts[number].source, task) for task in tasks[key]} & by_name.keys()
            if here:
                inputs.append((number, key))
                chosen |= here
        if inputs:
            steps.append(
                DrawKeys(
                    inputs=tuple(inputs),
                    drops=records.drops,
                    sources=tuple(records.parts[number].source for number, _ in inputs),
                    strata=tuple(sorted((by_name[name] for name in chosen), key=lambda stratum: stratum.number)),
                    seed=seed,
                )
            )
    return steps
