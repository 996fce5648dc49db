"""Near duplicates of a whole build, in steps of bounded memory.

    records ─┬─ CountSentences ─▶ FrequentSentences ─┐ boilerplate of the corpus
             ├──────────────── WriteBands ◀──────────┤ entries (key, order, row), sorted by key, on disk
             │                     ▼                 │
             │                ProposePairs           │ in one range of keys: pairs to compare
             │                     ▼                 │
             │                 GroupPairs            │ which records belong together, and which `VerifyGroups`
             │                     ▼                 │ compares them
             └─────────────▶ GatherTexts             │ texts of those records, by `VerifyGroups`
                                   ▼                 │
                             VerifyGroups ◀──────────┘ ─▶ drops; the least similar of them, for the report

The steps pass on 16 bytes for each band of each record, 12 bytes for each record in a group, and the texts of those. A
*row* is a record's number over all partitions.
"""

from collections.abc import Collection, Iterator
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
from pipeline.dedup.near.examples import COUNT as EXAMPLE_COUNT
from pipeline.dedup.near.examples import EXAMPLES, read_examples, write_examples
from pipeline.dedup.near.signatures import band_keys
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.tokens import Vocabulary
from pipeline.dedup.near.vocabulary import count_sample, frequent_sentences, vocabulary
from pipeline.engine.budget import PIECE_BYTES, pieces
from pipeline.engine.counters import count
from pipeline.engine.executor import Executor
from pipeline.engine.step import NoResult, Step
from pipeline.ingest.live import Inputs, LiveRecords, LiveStep
from pipeline.records.buckets import BucketWriter, read_bucket
from pipeline.records.drops import Dropped, empty_drops, write_drops
from pipeline.records.runs import KeyRangeStep, RunWriter, in_range
from pipeline.records.schema import ROW_ID, id_halves, with_hex_ids
from pipeline.records.seeds import keyed_hash
from pipeline.text.hashing import U64

_COMPARED = ("row_id", "instruction", "response")
"""Columns that signatures are made of."""
SAMPLE_ROWS = 200_000
"""Records whose sentences are counted, about."""
RUN_ENTRIES = 2**21
"""Entries that are sorted together, about."""
PROPOSE_BYTES = 8 * ENTRIES.itemsize
"""Memory for each entry while pairs are found: the entry, its sorted copy, and its pairs."""
VERIFY_FACTOR = 6
"""Memory for each byte of text while it is compared: the text, its words and its shingles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Result of `CountSentences`."""

    records: int
    """Records of the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountSentences(LiveStep[Counted]):
    """Count how many records of a sample have each sentence that may be boilerplate."""

    stage: ClassVar[str] = "near-sentences"

    threshold: int
    """Records whose draw is below this (of 2^64) are in the sample."""

    @classmethod
    def counts(cls, work: Path, key: str) -> tuple[U64, NDArray[np.int64]]:
        """Return hashes of the sentences, sorted, and the number of records that have each."""
        folder = cls.folder(work, key)
        return np.load(folder / "sentences.npy"), np.load(folder / "counts.npy")

    def run(self, work: Path, out: Path) -> Counted:
        sentences = np.empty(0, np.uint64), np.empty(0, np.int64)
        records = 0
        for _, _, batch in self.live(work, _COMPARED):
            draw = keyed_hash(*id_halves(batch.column("row_id")), seed=0, purpose="words")
            sample = batch if self.threshold == 2**64 else batch.take(pa.array(np.flatnonzero(draw < self.threshold)))
            sentences = _add(sentences, count_sample(sample.column("instruction"), sample.column("response")))
            records += sample.num_rows
            count(rows=batch.num_rows)
        np.save(out / "sentences.npy", sentences[0])
        np.save(out / "counts.npy", sentences[1])
        return Counted(records=records)


def _add(counted: tuple[U64, NDArray[np.int64]], more: U64) -> tuple[U64, NDArray[np.int64]]:
    """Return sorted hashes and their counts, with each hash in `more` counted once more."""
    found, times = np.unique(more, return_counts=True)
    hashes, where = np.unique(np.concatenate([counted[0], found]), return_inverse=True)
    return hashes, np.bincount(where, np.concatenate([counted[1], times]), len(hashes)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequentSentences(Step[NoResult]):
    """Find the boilerplate of the whole corpus."""

    stage: ClassVar[str] = "near-boilerplate"

    inputs: tuple[str, ...]
    """Keys of the `CountSentences` steps."""
    records: int
    """Records in all of their samples."""

    @property
    def partition(self) -> str:
        return "the whole corpus"

    @classmethod
    def vocabulary(cls, work: Path, key: str) -> Vocabulary:
        """Return what a finished step found."""
        return vocabulary(np.load(cls.folder(work, key) / "sentences.npy"))

    def run(self, work: Path, out: Path) -> NoResult:
        hashes, counts = zip(*(CountSentences.counts(work, key) for key in self.inputs), strict=True)
        found = frequent_sentences(np.concatenate(hashes), np.concatenate(counts), self.records)
        np.save(out / "sentences.npy", found)
        return NoResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBands(LiveStep[NoResult]):
    """Write the entries of each record's bands, in runs sorted by key."""

    stage: ClassVar[str] = "near-bands"

    first: tuple[int, ...]
    """Row of each partition's first record."""
    frequent: str
    """Key of the `FrequentSentences`."""
    spec: NearDedupSpec

    @classmethod
    def in_range(cls, work: Path, key: str, bucket: int, buckets: int) -> Iterator[NDArray[Any]]:
        """Yield the `ENTRIES` of each run whose key is in range `bucket` of `buckets`."""
        return in_range(cls.folder(work, key), "key", bucket, buckets)

    def run(self, work: Path, out: Path) -> NoResult:
        known = FrequentSentences.vocabulary(work, self.frequent)
        first = _first_rows(self.inputs, self.first)
        writer = RunWriter(out, "key", RUN_ENTRIES)
        for partition, index, batch in self.live(work, _COMPARED):
            keys = band_keys(batch.column("instruction"), batch.column("response"), known, self.spec)
            entries = np.empty(keys.shape, ENTRIES)
            entries["key"] = keys
            entries["order"] = (id_halves(batch.column("row_id"))[0] >> np.uint64(32))[:, None]
            entries["row"] = (first[partition] + index.astype(np.int64))[:, None]
            writer.add(entries.ravel())
            count(rows=batch.num_rows, bytes=batch.column("instruction").nbytes + batch.column("response").nbytes)
        writer.close()
        return NoResult()


def _first_rows(inputs: Inputs, first: tuple[int, ...]) -> dict[int, int]:
    return {partition: row for (partition, _), row in zip(inputs, first, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposePairs(KeyRangeStep[NoResult]):
    """Find the pairs of rows that share a key, in one range of keys."""

    stage: ClassVar[str] = "near-pairs"

    inputs: tuple[str, ...]
    """Keys of the `WriteBands` steps."""

    @classmethod
    def pairs(cls, work: Path, key: str) -> U32:
        """Return the pairs that a finished step found, uint32 (n, 2)."""
        found: U32 = np.load(cls.folder(work, key) / "pairs.npy")
        return found

    def run(self, work: Path, out: Path) -> NoResult:
        runs = (run for key in self.inputs for run in WriteBands.in_range(work, key, self.bucket, self.buckets))
        entries = np.concatenate([np.empty(0, ENTRIES), *runs])
        np.save(out / "pairs.npy", proposals(entries))
        count(rows=len(entries))
        return NoResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Result of `GroupPairs`."""

    rows: int
    """Records in groups."""
    buckets: int
    """Number of `VerifyGroups` steps to share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPairs(Step[Grouped]):
    """Join all pairs into groups, and assign the groups to `VerifyGroups` steps.

    Takes 24 bytes of memory for each record in a group, and a byte for each record in all.
    """

    stage: ClassVar[str] = "near-groups"

    inputs: tuple[str, ...]
    """Keys of the `ProposePairs` steps."""
    rows: int
    """Records in all."""
    rows_together: int
    """Rows that a `VerifyGroups` takes, about, and most rows in a group."""

    @property
    def partition(self) -> str:
        return "all pairs"

    @classmethod
    def groups(cls, work: Path, key: str) -> tuple[U32, U32, U32]:
        """Return, mapped from files, the sorted rows (n,) in groups, the group of each, and its bucket."""
        rows, groups, buckets = (
            np.load(cls.folder(work, key) / f"{name}.npy", mmap_mode="r") for name in ("rows", "groups", "buckets")
        )
        return rows, groups, buckets

    def run(self, work: Path, out: Path) -> Grouped:
        found = np.zeros(self.rows, bool)
        for key in self.inputs:
            found[ProposePairs.pairs(work, key).ravel()] = True
        groups = Groups(np.flatnonzero(found).astype(np.uint32), min(LARGEST_GROUP, self.rows_together))
        for key in self.inputs:
            groups.join(ProposePairs.pairs(work, key))
        numbers = groups.numbers()
        sizes = np.bincount(numbers)
        buckets = ((np.cumsum(sizes) - sizes) // self.rows_together).astype(np.uint32)
        np.save(out / "rows.npy", groups.rows)
        np.save(out / "groups.npy", numbers)
        np.save(out / "buckets.npy", buckets[numbers] if len(numbers) else numbers)
        return Grouped(rows=len(numbers), buckets=int(buckets.max(initial=0)) + 1 if len(numbers) else 0)


GATHERED = pa.schema(
    [
        ("partition", pa.uint32()),
        ("index", pa.uint32()),
        ("group", pa.uint32()),
        ("row_id", ROW_ID),
        ("source", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherTexts(LiveStep[NoResult]):
    """Write the records that are in groups, by the `VerifyGroups` that compares them."""

    stage: ClassVar[str] = "near-texts"

    first: tuple[int, ...]
    """Row of each partition's first record."""
    groups: str
    """Key of the `GroupPairs`."""

    @classmethod
    def bucket(cls, work: Path, keys: tuple[str, ...], bucket: int) -> pa.Table:
        """Return the records of one bucket from all steps, `GATHERED`."""
        return read_bucket([cls.folder(work, key) for key in keys], "texts", GATHERED, bucket).combine_chunks()

    def run(self, work: Path, out: Path) -> NoResult:
        rows, groups, buckets = GroupPairs.groups(work, self.groups)
        first = _first_rows(self.inputs, self.first)
        with BucketWriter(out, "texts", GATHERED) as writer:
            for partition, index, batch in self.live(work, GATHERED.names[3:]):
                batch_rows = first[partition] + index.astype(np.int64)
                begin, end = np.searchsorted(rows, [batch_rows[0], batch_rows[-1] + 1]) if len(batch_rows) else (0, 0)
                if begin < end:
                    chosen = np.searchsorted(batch_rows, rows[begin:end])
                    places = [np.full(len(chosen), partition, np.uint32), index[chosen], groups[begin:end]]
                    records = batch.take(pa.array(chosen))
                    table = pa.table([*map(pa.array, places), *records.columns], schema=GATHERED)
                    writer.add(table, np.array(buckets[begin:end]))
        return NoResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyGroups(Step[Dropped]):
    """Compare the records of some groups, and drop the duplicates among them."""

    stage: ClassVar[str] = "near"

    inputs: tuple[str, ...]
    """Keys of the `GatherTexts` steps."""
    priorities: tuple[int, ...]
    """For each partition: the position of its source in the manifest."""
    frequent: str
    """Key of the `FrequentSentences`."""
    spec: NearDedupSpec
    bucket: int
    buckets: int

    @property
    def partition(self) -> str:
        return f"groups {self.bucket + 1} of {self.buckets}"

    @classmethod
    def examples(cls, work: Path, key: str) -> pa.Table:
        """Return the least similar duplicates of a finished step, `EXAMPLES`."""
        return read_examples(cls.folder(work, key))

    def run(self, work: Path, out: Path) -> Dropped:
        records = GatherTexts.bucket(work, self.inputs, self.bucket)
        known = FrequentSentences.vocabulary(work, self.frequent)
        features = extract_features(records.column("instruction"), records.column("response"), known, self.spec.shingle)
        high, low = id_halves(records.column("row_id"))
        partitions = records.column("partition").to_numpy()
        best_first = best_order(
            np.array(self.priorities)[partitions], pc.utf8_length(records.column("response")).to_numpy(), high, low
        )
        lost, survivor, score = find_duplicates(
            features, records.column("group").to_numpy(), np.argsort(best_first), self.spec.threshold
        )
        drops = empty_drops(len(lost))
        drops["partition"], drops["index"] = partitions[lost], records.column("index").to_numpy()[lost]
        drops["twin_high"], drops["twin_low"], drops["score"] = high[survivor], low[survivor], score
        sizes = sum(pc.binary_length(records.column(name)).to_numpy() for name in ("instruction", "response"))
        least = np.lexsort((low[lost], high[lost], score))[:EXAMPLE_COUNT]
        write_examples(out, _side_by_side(records, lost[least], survivor[least], pa.array(score[least])))
        count(rows=records.num_rows)
        return write_drops(out, drops, sizes[lost])


def _side_by_side(records: pa.Table, lost: NDArray[np.int64], survivor: NDArray[np.int64], score: pa.Array) -> pa.Table:
    """Return duplicates beside their twins, `EXAMPLES`, given the indices (m,) of both in `records`."""
    columns = [score]
    for rows in (pa.array(lost), pa.array(survivor)):
        chosen = records.select(["row_id", "source", "instruction", "response"]).take(rows)
        columns += with_hex_ids(chosen).columns
    return pa.table(columns, schema=EXAMPLES)


def best_order(
    priority: NDArray[Any], length: NDArray[Any], id_high: NDArray[np.uint64], id_low: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return indices (n,) of records in order of survival among duplicates: by source, longer response, row id."""
    return np.lexsort((id_low, id_high, -length.astype(np.int64), priority))


def drop_near_duplicates(
    records: LiveRecords, spec: NearDedupSpec, executor: Executor, left_out: Collection[str] = ()
) -> LiveRecords:
    """Return the records without their near duplicates; those of the sources in `left_out` are not compared."""
    inputs = [
        compared
        for group in records.groups()
        if (compared := tuple(entry for entry in group if records.parts[entry[0]].source not in left_out))
    ]
    if not spec.enabled or records.rows == 0 or not inputs:
        return records
    first = list(accumulate((part.records for part in records.parts), initial=0))
    firsts = [tuple(first[partition] for partition, _ in group) for group in inputs]

    threshold = min(2**64, (SAMPLE_ROWS << 64) // records.rows)
    counts = [CountSentences(inputs=group, drops=records.drops, threshold=threshold) for group in inputs]
    sampled = sum(result.records for result in executor.map(counts))
    frequent = FrequentSentences(inputs=tuple(step.key for step in counts), records=sampled)
    executor.map([frequent])

    bands = [
        WriteBands(inputs=group, drops=records.drops, first=rows, frequent=frequent.key, spec=spec)
        for group, rows in zip(inputs, firsts, strict=True)
    ]
    executor.map(bands)
    buckets = pieces(PROPOSE_BYTES * records.rows * spec.bands)
    banded = tuple(step.key for step in bands)
    proposers = [ProposePairs(inputs=banded, bucket=bucket, buckets=buckets) for bucket in range(buckets)]
    executor.map(proposers)

    mean = max(1, VERIFY_FACTOR * records.bytes // records.rows)
    group_pairs = GroupPairs(
        inputs=tuple(step.key for step in proposers), rows=first[-1], rows_together=max(1, PIECE_BYTES // mean)
    )
    (grouped,) = executor.map([group_pairs])
    if not grouped.rows:
        return records
    gatherers = [
        GatherTexts(inputs=group, drops=records.drops, first=rows, groups=group_pairs.key)
        for group, rows in zip(inputs, firsts, strict=True)
    ]
    executor.map(gatherers)
    verifiers = [
        VerifyGroups(
            inputs=tuple(step.key for step in gatherers),
            priorities=tuple(part.priority for part in records.parts),
            frequent=frequent.key,
            spec=spec,
            bucket=bucket,
            buckets=grouped.buckets,
        )
        for bucket in range(grouped.buckets)
    ]
    return records.without(verifiers, executor.map(verifiers), Outcome.NEAR_DUPLICATE)
