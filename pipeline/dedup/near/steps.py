"""Near duplicates of a whole build, in steps of bounded memory.

    records ─┬─ CountWords ─▶ FindOrdinary ─┐ the corpus's ordinary words and its boilerplate
             ├──────────── WriteBands ◀─────┤ entries (key, order, row), sorted by key, on disk
             │                 ▼            │
             │             Propose          │ one range of keys each: pairs to be compared
             │                 ▼            │
             │              Group           │ which records belong together, and which `Verify` gets them
             │                 ▼            │
             └────────────▶ Gather          │ those records' texts, by `Verify`
                               ▼            │
                            Verify ◀────────┘ ─▶ drops; the least similar of them, for the report

What moves is 16 bytes for each band of each record, 12 bytes for each record
that is in a group, and the texts of those. A *row* is a record's number over
all partitions. Steps over records take one large partition or several small
neighbours.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.dedup.near.candidates import ENTRIES, LARGEST_GROUP, U32, Groups, proposals
from pipeline.dedup.near.compare import extract_features, find_duplicates
from pipeline.dedup.near.examples import write_examples
from pipeline.dedup.near.signatures import band_keys
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.tokens import Vocabulary
from pipeline.dedup.near.vocabulary import count_sample, frequent_sentences, frequent_words, vocabulary
from pipeline.engine.budget import PIECE_BYTES, pieces
from pipeline.engine.executor import Executor
from pipeline.engine.progress import report
from pipeline.engine.step import Step, folder
from pipeline.ingest.step import IPC, id_halves
from pipeline.records.drops import DropKey, Scope, empty_drops, live_batches, write_drops
from pipeline.records.seeds import keyed_hash
from pipeline.shards.shuffle import scatter_groups
from pipeline.text.hashing import U64

SAMPLE_ROWS = 200_000
"""Records, about, in which words are counted."""
RUN_BYTES = 128 * 2**20
"""Texts that a `Gather` sorts in memory at once."""
RUN_ENTRIES = 2**21
"""Entries sorted together, about."""
PROPOSE_BYTES = 8 * ENTRIES.itemsize
"""Memory for each entry while pairs are found: itself, its sorted copy, and the pairs."""
VERIFY_FACTOR = 6
"""Memory for each byte of text while it is compared: itself, its words and its shingles."""

Inputs = tuple[tuple[int, str], ...]
"""Number of each partition and the key of its `Ingest`."""


def _files(inputs: Inputs) -> str:
    return f"files {inputs[0][0] + 1} to {inputs[-1][0] + 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountWords(Step):
    """Count how many records of a sample have each word in lower case, and each sentence."""

    stage: ClassVar[str] = "near-words"

    inputs: Inputs
    drops: tuple[DropKey, ...]
    threshold: int
    """Records whose draw is below this (of 2^64) are part of the sample."""

    @property
    def partition(self) -> str:
        return _files(self.inputs)

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        nothing = np.empty(0, np.uint64), np.empty(0, np.int64)
        words, sentences = nothing, nothing
        records = 0
        for _, _, batch in live_batches(work, self.inputs, self.drops):
            draw = keyed_hash(*id_halves(batch.column("row_id")), seed=0, purpose="words")
            sample = batch if self.threshold == 2**64 else batch.take(pa.array(np.flatnonzero(draw < self.threshold)))
            more_words, more_sentences = count_sample(sample.column("instruction"), sample.column("response"))
            words, sentences = _add(words, more_words), _add(sentences, more_sentences)
            records += sample.num_rows
            report(rows=batch.num_rows)
        for name, (hashes, counts) in (("words", words), ("sentences", sentences)):
            np.save(out / f"{name}.npy", hashes)
            np.save(out / f"{name}-counts.npy", counts)
        return {"records": records}


def _add(counted: tuple[U64, NDArray[np.int64]], more: U64) -> tuple[U64, NDArray[np.int64]]:
    """Counts of hashes, sorted, with each hash of `more` counted once more."""
    found, times = np.unique(more, return_counts=True)
    hashes, where = np.unique(np.concatenate([counted[0], found]), return_inverse=True)
    return hashes, np.bincount(where, np.concatenate([counted[1], times]), len(hashes)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindOrdinary(Step):
    """The corpus's ordinary words and its boilerplate, from all counts."""

    stage: ClassVar[str] = "near-ordinary"

    inputs: tuple[str, ...]
    """Keys of the `CountWords` steps."""
    records: int
    """Records in which they counted."""

    @property
    def partition(self) -> str:
        return "the whole corpus"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        words = frequent_words(*self._counts(work, "words"), self.records)
        sentences = frequent_sentences(*self._counts(work, "sentences"), self.records)
        np.save(out / "words.npy", words)
        np.save(out / "sentences.npy", sentences)
        return {"words": len(words), "sentences": len(sentences)}

    def _counts(self, work: Path, name: str) -> tuple[U64, NDArray[np.int64]]:
        places = [folder(work, CountWords.stage, key) for key in self.inputs]
        hashes, counts = (
            np.concatenate([np.load(place / f"{file}.npy") for place in places]) for file in (name, f"{name}-counts")
        )
        return hashes, counts


def _vocabulary(work: Path, ordinary: str) -> Vocabulary:
    place = folder(work, FindOrdinary.stage, ordinary)
    return vocabulary(np.load(place / "words.npy"), np.load(place / "sentences.npy"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBands(Step):
    """Write the entries of each record's bands, in runs sorted by key."""

    stage: ClassVar[str] = "near-bands"

    inputs: Inputs
    drops: tuple[DropKey, ...]
    first: tuple[int, ...]
    """Row of each partition's first record."""
    ordinary: str
    """Key of the `FindOrdinary`."""
    spec: dict[str, Any]
    """The manifest's `NearDedupSpec`."""

    @property
    def partition(self) -> str:
        return _files(self.inputs)

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        spec = NearDedupSpec.model_validate(self.spec)
        known = _vocabulary(work, self.ordinary)
        first = {number: row for (number, _), row in zip(self.inputs, self.first, strict=True)}
        waiting: list[NDArray[np.void]] = []
        runs = 0
        for number, index, batch in live_batches(work, self.inputs, self.drops):
            keys = band_keys(batch.column("instruction"), batch.column("response"), known, spec)
            entries = np.empty(keys.shape, ENTRIES)
            entries["key"] = keys
            entries["order"] = (id_halves(batch.column("row_id"))[0] >> np.uint64(32))[:, None]
            entries["row"] = (first[number] + index.astype(np.int64))[:, None]
            waiting.append(entries.ravel())
            report(rows=batch.num_rows, bytes=batch.column("instruction").nbytes + batch.column("response").nbytes)
            if sum(map(len, waiting)) >= RUN_ENTRIES:
                self._write(out, runs, waiting)
                waiting, runs = [], runs + 1
        self._write(out, runs, waiting)
        return {}

    def _write(self, out: Path, number: int, waiting: list[NDArray[np.void]]) -> None:
        run = np.concatenate([np.empty(0, ENTRIES), *waiting])
        np.save(out / f"bands-{number:05}.npy", run[np.argsort(run["key"], kind="stable")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose(Step):
    """Pairs of rows that share a key, in one range of keys."""

    stage: ClassVar[str] = "near-pairs"

    inputs: tuple[str, ...]
    """Keys of the `WriteBands` steps."""
    bucket: int
    buckets: int

    @property
    def partition(self) -> str:
        return f"key range {self.bucket + 1} of {self.buckets}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        begin, end = (2**64 * edge // self.buckets for edge in (self.bucket, self.bucket + 1))
        entries = [np.empty(0, ENTRIES)]
        for key in self.inputs:
            for path in sorted(folder(work, WriteBands.stage, key).glob("bands-*.npy")):
                run = np.load(path, mmap_mode="r")
                first, last = (
                    bisect.bisect_left(run, edge, key=lambda entry: int(entry["key"])) for edge in (begin, end)
                )
                entries.append(np.array(run[first:last]))
        mine = np.concatenate(entries)
        pairs = proposals(mine)
        np.save(out / "pairs.npy", pairs)
        report(rows=len(mine))
        return {"pairs": len(pairs)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Step):
    """Join all pairs into groups, and share the groups out among `Verify` steps.

    Its memory is 17 bytes for each record in a group, and a byte for each record in all.
    """

    stage: ClassVar[str] = "near-groups"

    inputs: tuple[str, ...]
    """Keys of the `Propose` steps."""
    rows: int
    """Records in all."""
    rows_together: int
    """Rows that a `Verify` takes, about, and most in a group."""

    @property
    def partition(self) -> str:
        return "all pairs"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        found = np.zeros(self.rows, bool)
        for pairs in self._pairs(work):
            found[pairs.ravel()] = True
        groups = Groups(np.flatnonzero(found).astype(np.uint32), min(LARGEST_GROUP, self.rows_together))
        for pairs in self._pairs(work):
            groups.join(pairs)
        numbers = groups.numbers()
        sizes = np.bincount(numbers)
        buckets = ((np.cumsum(sizes) - sizes) // self.rows_together).astype(np.uint32)
        np.save(out / "rows.npy", groups.rows)
        np.save(out / "groups.npy", numbers)
        np.save(out / "buckets.npy", buckets[numbers] if len(numbers) else numbers)
        return {
            "rows": len(numbers),
            "groups": len(sizes),
            "largest": int(sizes.max(initial=0)),
            "buckets": int(buckets.max(initial=0)) + 1 if len(numbers) else 0,
        }

    def _pairs(self, work: Path) -> Iterator[NDArray[np.uint32]]:
        for key in self.inputs:
            yield np.load(folder(work, Propose.stage, key) / "pairs.npy")


GATHERED = pa.schema(
    [
        ("partition", pa.uint32()),
        ("index", pa.uint32()),
        ("group", pa.uint32()),
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Step):
    """Write the records that are in groups, a batch for each `Verify` that wants any."""

    stage: ClassVar[str] = "near-texts"

    inputs: Inputs
    drops: tuple[DropKey, ...]
    first: tuple[int, ...]
    """Row of each partition's first record."""
    groups: str
    """Key of the `Group`."""

    @property
    def partition(self) -> str:
        return _files(self.inputs)

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        place = folder(work, Group.stage, self.groups)
        rows, groups, buckets = (
            np.load(place / f"{name}.npy", mmap_mode="r") for name in ("rows", "groups", "buckets")
        )
        first = {number: row for (number, _), row in zip(self.inputs, self.first, strict=True)}
        waiting: list[tuple[pa.Table, U32]] = []
        size = 0
        written: list[int] = []
        with pa.OSFile(str(out / "texts.arrow"), "wb") as sink, pa.ipc.new_file(sink, GATHERED, options=IPC) as file:
            for number, index, batch in live_batches(work, self.inputs, self.drops):
                mine = first[number] + index.astype(np.int64)
                begin, end = np.searchsorted(rows, [mine[0], mine[-1] + 1]) if len(mine) else (0, 0)
                if begin < end:
                    wanted = np.searchsorted(mine, rows[begin:end])
                    columns = {
                        "partition": np.full(len(wanted), number, np.uint32),
                        "index": index[wanted],
                        "group": groups[begin:end],
                    }
                    chosen = batch.select(["row_id", "source", "instruction", "response"]).take(pa.array(wanted))
                    table = pa.table([*map(pa.array, columns.values()), *chosen.columns], schema=GATHERED)
                    waiting.append((table, np.array(buckets[begin:end])))
                    size += table.nbytes
                if size >= RUN_BYTES:
                    self._write(waiting, file, written)
                    waiting, size = [], 0
            self._write(waiting, file, written)
        np.save(out / "buckets.npy", np.array(written, np.int64))
        return {}

    def _write(
        self, waiting: Sequence[tuple[pa.Table, U32]], file: pa.RecordBatchFileWriter, written: list[int]
    ) -> None:
        if not waiting:
            return
        table = pa.concat_tables([table for table, _ in waiting])
        buckets = np.concatenate([mine for _, mine in waiting])
        order = np.argsort(buckets, kind="stable")
        edges = np.flatnonzero(np.diff(buckets[order].astype(np.int64), prepend=-1)).tolist()
        for begin, end in zip(edges, [*edges[1:], len(order)], strict=True):
            file.write_batch(table.take(pa.array(order[begin:end])).combine_chunks().to_batches()[0])
            written.append(int(buckets[order[begin]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify(Step):
    """Compare the records of some groups, and drop the duplicates among them."""

    stage: ClassVar[str] = "near"

    inputs: tuple[str, ...]
    """Keys of the `Gather` steps."""
    priorities: tuple[int, ...]
    """For each partition: the place of its source in the manifest."""
    ordinary: str
    spec: dict[str, Any]
    bucket: int
    buckets: int

    @property
    def partition(self) -> str:
        return f"groups {self.bucket + 1} of {self.buckets}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        spec = NearDedupSpec.model_validate(self.spec)
        records = self._records(work)
        features = extract_features(
            records.column("instruction"), records.column("response"), _vocabulary(work, self.ordinary), spec.shingle
        )
        high, low = id_halves(records.column("row_id"))
        partitions = records.column("partition").to_numpy()
        best_first = best_order(
            np.array(self.priorities)[partitions], pc.utf8_length(records.column("response")).to_numpy(), high, low
        )
        lost, survivor, score = find_duplicates(
            features, records.column("group").to_numpy(), np.argsort(best_first), spec.threshold
        )
        drops = empty_drops(len(lost))
        drops["partition"], drops["index"] = partitions[lost], records.column("index").to_numpy()[lost]
        drops["twin_high"], drops["twin_low"], drops["score"] = high[survivor], low[survivor], score
        sizes = sum(pc.binary_length(records.column(name)).to_numpy() for name in ("instruction", "response"))
        write_examples(out, records, lost, survivor, score)
        report(rows=records.num_rows)
        return write_drops(out, drops, sizes[lost])

    def _records(self, work: Path) -> pa.Table:
        batches = []
        for key in self.inputs:
            place = folder(work, Gather.stage, key)
            wanted = np.flatnonzero(np.load(place / "buckets.npy") == self.bucket)
            if len(wanted):
                with pa.OSFile(str(place / "texts.arrow")) as file:
                    reader = pa.ipc.open_file(file)
                    batches += [reader.get_batch(int(index)) for index in wanted]
        return pa.Table.from_batches(batches, GATHERED).combine_chunks()


def best_order(
    priority: NDArray[Any], length: NDArray[Any], id_high: NDArray[np.uint64], id_low: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Places (n,) of records, those first that survive among duplicates: by source, longer response, row id."""
    return np.lexsort((id_low, id_high, -length.astype(np.int64), priority))


def drop_near_duplicates(scope: Scope, spec: NearDedupSpec, executor: Executor) -> Scope:
    """The scope less its near duplicates."""
    if not spec.enabled or scope.live_rows == 0:
        return scope
    parameters = spec.model_dump(mode="json", exclude={"enabled"})
    first = list(accumulate((part.records for part in scope.parts), initial=0))
    together = scatter_groups([part.bytes for part in scope.parts])
    inputs = [tuple(scope.inputs[number] for number in numbers) for numbers in together]
    firsts = [tuple(first[number] for number in numbers) for numbers in together]

    threshold = min(2**64, (SAMPLE_ROWS << 64) // scope.live_rows)
    counts = [CountWords(inputs=mine, drops=scope.drops, threshold=threshold) for mine in inputs]
    records = sum(result["records"] for result in executor.map(counts))
    ordinary = FindOrdinary(inputs=tuple(step.key for step in counts), records=records)
    executor.map([ordinary])

    bands = [
        WriteBands(inputs=mine, drops=scope.drops, first=rows, ordinary=ordinary.key, spec=parameters)
        for mine, rows in zip(inputs, firsts, strict=True)
    ]
    executor.map(bands)
    buckets = pieces(PROPOSE_BYTES * scope.live_rows * spec.bands)
    band_keys = tuple(step.key for step in bands)
    proposed = [Propose(inputs=band_keys, bucket=bucket, buckets=buckets) for bucket in range(buckets)]
    executor.map(proposed)

    mean = max(1, VERIFY_FACTOR * scope.live_bytes // scope.live_rows)
    group = Group(
        inputs=tuple(step.key for step in proposed), rows=first[-1], rows_together=max(1, PIECE_BYTES // mean)
    )
    (grouped,) = executor.map([group])
    gathers = [
        Gather(inputs=mine, drops=scope.drops, first=rows, groups=group.key)
        for mine, rows in zip(inputs, firsts, strict=True)
    ]
    if grouped["rows"]:
        executor.map(gathers)
    verify = [
        Verify(
            inputs=tuple(step.key for step in gathers),
            priorities=tuple(part.order for part in scope.parts),
            ordinary=ordinary.key,
            spec=parameters,
            bucket=bucket,
            buckets=grouped["buckets"],
        )
        for bucket in range(grouped["buckets"])
    ]
    results = executor.map(verify)
    return scope.without([(step.stage, step.key, Outcome.NEAR_DUPLICATE.value) for step in verify], results)
