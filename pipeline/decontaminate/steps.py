"""Decontamination of a whole build, in steps of bounded memory.

    records of all eval sources ─ BuildIndex ─▶ index, in shards ─┐
    train records, by file ────────────────────── Decontaminate ◀─┘ ─▶ drops; hits.arrow, examples.arrow for the report

A record that holds several items is dropped once, with its best hit in the
ledger; hits.arrow has all of them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa

from corpus.outcome import Outcome
from pipeline.decontaminate.index import Index
from pipeline.decontaminate.probes import build_index
from pipeline.decontaminate.scan import scan
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.words import words_of
from pipeline.engine.executor import Executor
from pipeline.engine.progress import report
from pipeline.engine.step import Step, folder
from pipeline.records.drops import DropKey, Scope, empty_drops, live_batches, write_drops
from pipeline.shards.shuffle import scatter_groups

HITS = pa.schema(
    [
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("eval_source", pa.string()),
        ("eval_task", pa.string()),
        ("item", pa.string()),
        ("part", pa.string()),
        ("coverage", pa.float64()),
        ("answered", pa.bool_()),
    ]
)
"""A train record and an eval item it holds; `part` is what of it, "question" or "solution"; `answered` tells whether
the item's answer is in the response."""

EXAMPLES = pa.schema([*HITS, ("item_text", pa.string()), ("record_text", pa.string())])
"""Hits side by side: the beginning of the item, and where the record holds it."""

SHARD_BYTES = 32 * 2**20
"""Text of the eval items in one index; an index takes about ten times its text in memory."""

ITEMS = pa.schema(
    [
        ("source", pa.string()),
        ("task", pa.string()),
        ("row_id", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
        ("told", pa.bool_()),
    ]
)
"""items.arrow beside an index: its items in order; `told` is whether any of an item's probes can be looked for."""

SHOWN = 3
"""Examples that a step writes for each eval source."""
SHOWN_CHARS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildIndex(Step):
    """Index the items of some eval sources, in one or several shards of bounded size."""

    stage: ClassVar[str] = "decontaminate-index"

    sources: tuple[tuple[tuple[tuple[int, str], ...], tuple[DropKey, ...]], ...]
    """For each eval source: number of each partition and the key of its `Ingest`; steps that dropped records of it."""
    spec: dict[str, Any]
    """The manifest's `DecontaminateSpec`."""

    @property
    def partition(self) -> str:
        return "all eval sources"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        spec = DecontaminateSpec.model_validate(self.spec)
        shards = 0
        for frame in self._shards(work):
            place = out / f"shard-{shards:05}"
            place.mkdir()
            index, told = build_index(frame, spec)
            index.save(place)
            items = frame.select(ITEMS.names[:-1]).with_columns(told=told).to_arrow().cast(ITEMS)
            with pa.OSFile(str(place / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, ITEMS) as writer:
                writer.write_table(items)
            shards += 1
            report(rows=len(frame))
        return {"shards": shards}

    def _shards(self, work: Path) -> Iterator[pl.DataFrame]:
        waiting: list[pl.DataFrame] = []
        size = 0
        records = (batch for inputs, drops in self.sources for _, _, batch in live_batches(work, inputs, drops))
        for batch in records:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            waiting.append(frame.select("source", "task", "row_id", "instruction", "response", "meta"))
            size += batch.column("instruction").nbytes + batch.column("response").nbytes
            if size >= SHARD_BYTES:
                yield pl.concat(waiting)
                waiting, size = [], 0
        if waiting:
            yield pl.concat(waiting)


def shards_of(work: Path, key: str) -> list[Path]:
    """Folders of the shards that a `BuildIndex` made, in order."""
    return sorted(folder(work, BuildIndex.stage, key).glob("shard-*"))


def read_items(place: Path) -> pl.DataFrame:
    """Items of a shard, `ITEMS`."""
    with pa.memory_map(str(place / "items.arrow")) as file:
        frame = pl.from_arrow(pa.ipc.open_file(file).read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontaminate(Step):
    """Find and drop the records of some partitions that hold an eval item."""

    stage: ClassVar[str] = "decontaminate"

    inputs: tuple[tuple[int, str], ...]
    """Number of each partition and the key of its `Ingest`."""
    drops: tuple[DropKey, ...]
    index: str
    """Key of the `BuildIndex`."""

    @property
    def partition(self) -> str:
        return f"files {self.inputs[0][0] + 1} to {self.inputs[-1][0] + 1}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        shards = [(Index.load(place), read_items(place)) for place in shards_of(work, self.index)]
        (out / "index").write_text(self.index)
        lost, sizes = [empty_drops(0)], [np.empty(0, np.int64)]
        details: list[str] = []
        shown: Counter[str] = Counter()
        examples = [EXAMPLES.empty_table()]
        with pa.OSFile(str(out / "hits.arrow"), "wb") as sink, pa.ipc.new_file(sink, HITS) as file:
            for partition, indices, batch in live_batches(work, self.inputs, self.drops):
                records = pl.from_arrow(batch)
                assert isinstance(records, pl.DataFrame)
                report(rows=len(records), bytes=batch.column("instruction").nbytes + batch.column("response").nbytes)
                hits = find_hits(records, shards)
                if hits.is_empty():
                    continue
                file.write_table(_arrow(hits, HITS))
                examples.append(_arrow(_examples(hits, records, shards, shown), EXAMPLES))
                best = hits.sort("row", "coverage", "answered", descending=[False, True, True], maintain_order=True)
                best = best.unique("row", keep="first", maintain_order=True)
                rows = best["row"].to_numpy()
                drops = empty_drops(len(rows))
                drops["partition"], drops["index"] = partition, indices[rows]
                drops["score"] = best["coverage"]
                drops["detail"] = np.arange(len(details), len(details) + len(rows))
                lost.append(drops)
                sizes.append(records[rows].select(_size()).to_series().to_numpy().astype(np.int64))
                details += [_detail(line) for line in best.iter_rows(named=True)]
        with pa.OSFile(str(out / "examples.arrow"), "wb") as sink, pa.ipc.new_file(sink, EXAMPLES) as file:
            file.write_table(pa.concat_tables(examples))
        return write_drops(out, np.concatenate(lost), np.concatenate(sizes), details)


def find_hits(records: pl.DataFrame, shards: Sequence[tuple[Index, pl.DataFrame]]) -> pl.DataFrame:
    """All pairs of a record and an eval item it holds.

    Parameters
    ----------
    records
        String columns `row_id`, `source`, `task`, `instruction`, `response`.
    shards
        Indexes with their items, as from `build_index`.

    Returns
    -------
    polars.DataFrame
        The columns of `HITS`, and `row`, `shard`, `place`: places of the record, the shard, and the item in it; a pair
        once, in order of them.
    """
    words = words_of(records["instruction"], records["response"])
    found = []
    for number, (index, items) in enumerate(shards):
        held = scan(words, index)
        frame = pl.DataFrame(
            {
                "row": held.row,
                "shard": np.full(len(held.row), number),
                "place": index.item[held.probe].astype(np.int64),
                "part": np.where(index.solution[held.probe], "solution", "question"),
                "coverage": held.coverage,
                "answered": held.answered,
            }
        )
        frame = frame.sort("row", "place", "coverage", "part", descending=[False, False, True, False])
        frame = frame.unique(["row", "place"], keep="first", maintain_order=True)
        item = items[frame["place"]].select(eval_source="source", eval_task="task", item="row_id")
        found.append(pl.concat([frame, item], how="horizontal"))
    hits = pl.concat(found).sort("row", "shard", "place", maintain_order=True)
    return pl.concat([hits, records[hits["row"]].select("row_id", "source", "task")], how="horizontal")


def drop_contaminated(scope: Scope, evals: Sequence[Scope], spec: DecontaminateSpec, executor: Executor) -> Scope:
    """The scope less the records that hold an item of an eval source."""
    found = plan_decontamination(scope, evals, spec)
    if found is None:
        return scope
    index, steps = found
    executor.map([index])
    results = executor.map(steps)
    return scope.without([(step.stage, step.key, Outcome.CONTAMINATED.value) for step in steps], results)


def plan_decontamination(
    scope: Scope, evals: Sequence[Scope], spec: DecontaminateSpec
) -> tuple[BuildIndex, list[Decontaminate]] | None:
    """The steps of decontamination; None where there is nothing to do."""
    evals = [mine for mine in evals if mine.live_rows]
    if not spec.enabled or not evals or scope.live_rows == 0:
        return None
    index = BuildIndex(
        sources=tuple((mine.inputs, mine.drops) for mine in evals),
        spec=spec.model_dump(mode="json", exclude={"enabled"}),
    )
    steps = [
        Decontaminate(inputs=tuple(scope.inputs[number] for number in numbers), drops=scope.drops, index=index.key)
        for numbers in scatter_groups([part.bytes for part in scope.parts])
    ]
    return index, steps


def _arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    return frame.select(schema.names).to_arrow().cast(schema)


def _size() -> pl.Expr:
    return pl.col("instruction").str.len_bytes() + pl.col("response").str.len_bytes()


def _detail(hit: dict[str, Any]) -> str:
    answer = " and its answer" if hit["answered"] and hit["part"] == "question" else ""
    return f"holds the {hit['part']}{answer} of item {hit['item']} of {hit['eval_source']} ({hit['eval_task']})"


def _examples(
    hits: pl.DataFrame, records: pl.DataFrame, shards: Sequence[tuple[Index, pl.DataFrame]], shown: Counter[str]
) -> pl.DataFrame:
    """The first hits of each eval source of which not enough are shown yet, with texts."""
    chosen = []
    for place, name in enumerate(hits["eval_source"]):
        if shown[name] < SHOWN:
            shown[name] += 1
            chosen.append(place)
    mine = hits[chosen]
    items = [shards[shard][1].row(place, named=True) for shard, place in mine.select("shard", "place").iter_rows()]
    texts = [item["instruction"] + "\n" + item["response"] for item in items]
    rows = records[mine["row"]].select(pl.col("instruction") + "\n" + pl.col("response")).to_series()
    return mine.with_columns(
        item_text=pl.Series([text[:SHOWN_CHARS] for text in texts], dtype=pl.String),
        record_text=pl.Series([window(row, text) for row, text in zip(rows, texts, strict=True)], dtype=pl.String),
    )


def window(record: str, item: str, size: int = SHOWN_CHARS, piece: int = 24) -> str:
    """The part of a record, at most `size` characters, where the first piece of the item that it has stands."""
    lower = record.lower()
    for begin in range(0, len(item) - piece + 1, piece):
        place = lower.find(item[begin : begin + piece].lower())
        if place >= 0:
            first = max(0, place - begin)
            return record[first : first + size]
    return record[:size]
