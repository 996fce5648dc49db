"""Decontamination of a whole build, in steps of bounded memory.

    records of all eval sources ─ BuildIndex ─▶ index, in shards ─┐
    train records, by file ────────────────────── Decontaminate ◀─┘ ─▶ drops; hits.arrow, examples.arrow for the report

A record that contains several items is dropped once, with its best hit in the ledger; hits.arrow has all hits.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa

from corpus.outcome import Outcome
from pipeline.decontaminate.index import Index
from pipeline.decontaminate.probes import build_index
from pipeline.decontaminate.scan import Hits, scan
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.word_hashes import room_for, words_of
from pipeline.engine.counters import count
from pipeline.engine.executor import Executor
from pipeline.engine.step import NoResult, Step
from pipeline.ingest.live import Inputs, LiveRecords, LiveStep, live_batches
from pipeline.records.drops import Dropped, DropRef, empty_drops, write_drops

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
"""A train record and an eval item that it contains: `part` is "question" or "solution", `answered` whether the response
has the item's answer."""

EXAMPLES = pa.schema([*HITS, ("item_text", pa.string()), ("record_text", pa.string())])
"""Hits with texts: the beginning of the item, and the passage of the record that contains it."""

_SCANNED = ("row_id", "source", "task", "instruction", "response")
"""Columns of the records that are searched."""

SHARD_BYTES = 32 * 2**20
"""Text of the eval items in one index, about; an index takes ten times as much memory."""

SCANNED_BYTES = 2**20
"""Text of the records that are searched together, about: their words stay in the processor's cache."""

SHOWN = 3
"""Examples that a step writes for each eval source."""
SHOWN_CHARS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildIndex(Step[NoResult]):
    """Index the items of all eval sources, in one or several shards of bounded size."""

    stage: ClassVar[str] = "decontaminate-index"

    sources: tuple[tuple[Inputs, tuple[DropRef, ...]], ...]
    """For each eval source: its partitions, and the steps that dropped records of them."""
    spec: DecontaminateSpec

    @property
    def partition(self) -> str:
        return "all eval sources"

    @classmethod
    def shards(cls, work: Path, key: str) -> list[tuple[Index, pl.DataFrame]]:
        """Return the shards of a finished step: the index, and its items with `searchable` (see `build_index`)."""
        folders = sorted(cls.folder(work, key).glob("shard-*"))
        return [(Index.load(folder), pl.read_ipc(folder / "items.arrow")) for folder in folders]

    def run(self, work: Path, out: Path) -> NoResult:
        for number, items in enumerate(self._item_tables(work)):
            folder = out / f"shard-{number:05}"
            folder.mkdir()
            index, searchable = build_index(items, self.spec)
            index.save(folder)
            items.drop("meta").with_columns(searchable=searchable).write_ipc(folder / "items.arrow")
            count(rows=len(items))
        return NoResult()

    def _item_tables(self, work: Path) -> Iterator[pl.DataFrame]:
        waiting: list[pl.DataFrame] = []
        size = 0
        columns = ("source", "task", "row_id", "instruction", "response", "meta")
        parts = (live_batches(work, inputs, drops, columns) for inputs, drops in self.sources)
        for _, _, batch in chain.from_iterable(parts):
            waiting.append(pl.DataFrame(batch))
            size += batch.column("instruction").nbytes + batch.column("response").nbytes
            if size >= SHARD_BYTES:
                yield pl.concat(waiting)
                waiting, size = [], 0
        if waiting:
            yield pl.concat(waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontaminate(LiveStep[Dropped]):
    """Find and drop the records of some partitions that contain an eval item."""

    stage: ClassVar[str] = "decontaminate"

    index: str
    """Key of the `BuildIndex`."""

    @classmethod
    def hits(cls, work: Path, key: str) -> pa.Table:
        """Return all hits of a finished step, `HITS`."""
        return _read(cls.folder(work, key) / "hits.arrow")

    @classmethod
    def examples(cls, work: Path, key: str) -> pa.Table:
        """Return some hits of a finished step with their texts, `EXAMPLES`."""
        return _read(cls.folder(work, key) / "examples.arrow")

    @classmethod
    def index_of(cls, work: Path, key: str) -> str:
        """Return the key of the `BuildIndex` that a finished step used."""
        return (cls.folder(work, key) / "index").read_text()

    def run(self, work: Path, out: Path) -> Dropped:
        shards = BuildIndex.shards(work, self.index)
        (out / "index").write_text(self.index)
        lost, sizes = [empty_drops(0)], [np.empty(0, np.int64)]
        details: list[str] = []
        shown: Counter[str] = Counter()
        examples = [EXAMPLES.empty_table()]
        with pa.OSFile(str(out / "hits.arrow"), "wb") as sink, pa.ipc.new_file(sink, HITS) as file:
            for partition, indices, batch in self.live(work, _SCANNED):
                records = pl.DataFrame(batch)
                count(rows=len(records), bytes=batch.column("instruction").nbytes + batch.column("response").nbytes)
                hits = find_hits(records, shards).with_columns(pl.col(pl.Binary).bin.encode("hex"))
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


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def find_hits(records: pl.DataFrame, shards: Sequence[tuple[Index, pl.DataFrame]]) -> pl.DataFrame:
    """Find all pairs of a record and an eval item that it contains.

    Parameters
    ----------
    records
        String columns `source`, `task`, `instruction`, `response`; `row_id` of any type.
    shards
        Indexes of `build_index` with the tables of their items.

    Returns
    -------
    polars.DataFrame
        The columns of `HITS`, and `row`, `shard`, `place`: the positions of the record, of the shard, and of the item
        in it. Each pair once, in order of these.
    """
    hits_of_shard: list[list[Hits]] = [[] for _ in shards]
    rows = max(1, SCANNED_BYTES * len(records) // max(1, records.select(_size().sum()).item()))
    room = room_for(2 * SCANNED_BYTES)
    for first in range(0, max(1, len(records)), rows):
        some = records[first : first + rows]
        words = words_of(some["instruction"], some["response"], room)
        for (index, _), hits in zip(shards, hits_of_shard, strict=True):
            held = scan(words, index)
            hits.append(held._replace(row=first + held.row))
    found = []
    for number, (index, items) in enumerate(shards):
        held = Hits._make(map(np.concatenate, zip(*hits_of_shard[number], strict=True)))
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
    joined = pl.concat(found).sort("row", "shard", "place", maintain_order=True)
    return pl.concat([joined, records[joined["row"]].select("row_id", "source", "task")], how="horizontal")


def drop_contaminated(
    records: LiveRecords, evals: Sequence[LiveRecords], spec: DecontaminateSpec, executor: Executor
) -> LiveRecords:
    """Return the records without those that contain an item of an eval source."""
    evals = [source for source in evals if source.rows]
    if not spec.enabled or not evals or records.rows == 0:
        return records
    index = BuildIndex(sources=tuple((source.inputs, source.drops) for source in evals), spec=spec)
    executor.map([index])
    steps = [Decontaminate(inputs=group, drops=records.drops, index=index.key) for group in records.groups()]
    return records.without(steps, executor.map(steps), Outcome.CONTAMINATED)


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
    """Add texts to the first hits of each eval source, up to `SHOWN` of a step; `shown` counts them."""
    chosen = []
    for place, name in enumerate(hits["eval_source"]):
        if shown[name] < SHOWN:
            shown[name] += 1
            chosen.append(place)
    examples = hits[chosen]
    items = [shards[shard][1].row(place, named=True) for shard, place in examples.select("shard", "place").iter_rows()]
    texts = [item["instruction"] + "\n" + item["response"] for item in items]
    rows = records[examples["row"]].select(pl.col("instruction") + "\n" + pl.col("response")).to_series()
    return examples.with_columns(
        item_text=pl.Series([text[:SHOWN_CHARS] for text in texts], dtype=pl.String),
        record_text=pl.Series([window(row, text) for row, text in zip(rows, texts, strict=True)], dtype=pl.String),
    )


def window(record: str, item: str, size: int = SHOWN_CHARS, piece: int = 24) -> str:
    """Return at most `size` characters of a record, from where it has the first piece of the item that it has."""
    lower = record.lower()
    for begin in range(0, len(item) - piece + 1, piece):
        place = lower.find(item[begin : begin + piece].lower())
        if place >= 0:
            first = max(0, place - begin)
            return record[first : first + size]
    return record[:size]
