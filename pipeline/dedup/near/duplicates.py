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
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.dedup.near.candidates import ENTRIES, proposals
from pipeline.dedup.near.compare import MAX_SURVIVORS, extract_features, find_duplicates
from pipeline.dedup.near.components import LARGE, PART_ROW_BYTES, U32, Members, find_components
from pipeline.dedup.near.examples import COUNT as EXAMPLE_COUNT
from pipeline.dedup.near.examples import EXAMPLES, least_similar, read_examples, write_examples
from pipeline.dedup.near.signatures import band_keys
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.tokens import Vocabulary
from pipeline.dedup.near.vocabulary import count_sample, frequent_sentences, vocabulary
from pipeline.engine.budget import PIECE_BYTES, pieces
from pipeline.engine.counters import count
from pipeline.engine.executor import Executor
from pipeline.engine.step import NoResult, Step
from pipeline.ingest.live import Inputs, LiveRecords, LiveStep
from pipeline.records.arrays import ArrayWriter
from pipeline.records.buckets import BucketWriter, read_bucket
from pipeline.records.drops import Dropped, DropsWriter, empty_drops
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
LARGEST_GROUP = 2**16
"""Most records of a group that are compared together. It bounds the work on texts that occur very often."""
VERIFY_FACTOR = 6
"""Memory for each byte of text while it is compared: the text, its words and its shingles."""
MOST_TOGETHER = PIECE_BYTES // VERIFY_FACTOR
"""Bytes of text that are compared together, about; twice as many at most, but for texts that alone have more."""


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
        """Return the pairs that a finished step found, uint32 (n, 2), mapped from their file."""
        found: U32 = np.load(cls.folder(work, key) / "pairs.npy", mmap_mode="r")
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
    """Buckets of groups that are small enough to be compared together."""
    chunks: tuple[int, ...]
    """Buckets of each group that is not: its records in chunks of equal size. They are numbered from `LARGE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPairs(Step[Grouped]):
    """Join all pairs into groups, and assign the groups to buckets, which `VerifyGroups` steps take."""

    stage: ClassVar[str] = "near-groups"

    inputs: tuple[str, ...]
    """Keys of the `ProposePairs` steps."""
    rows: int
    """Records in all."""
    rows_together: int
    """Records in a bucket, about, and most records in a chunk."""

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
        largest = min(LARGEST_GROUP, self.rows_together)
        buckets = _Buckets(self.rows_together, largest)
        found = find_components(
            (ProposePairs.pairs(work, key) for key in self.inputs),
            out,
            rows=self.rows,
            part_rows=PIECE_BYTES // PART_ROW_BYTES,
            largest=largest,
        )
        rows = 0
        with (
            ArrayWriter(out / "rows.npy", np.uint32) as row_file,
            ArrayWriter(out / "groups.npy", np.uint32) as group_file,
            ArrayWriter(out / "buckets.npy", np.uint32) as bucket_file,
        ):
            for members in found:
                row_file.add(members.rows)
                group_file.add(members.labels)
                bucket_file.add(buckets.of(members))
                rows += len(members.rows)
        return Grouped(rows=rows, buckets=buckets.small, chunks=buckets.chunks)


class _Buckets:
    """Assigns the members of components to buckets, part by part.

    Parameters
    ----------
    rows_together
        Rows of small components in a bucket, about.
    largest
        Rows of a large component in a bucket.
    """

    def __init__(self, rows_together: int, largest: int) -> None:
        self._rows_together, self._largest = rows_together, largest
        self._rows = self._components = 0
        self._first = np.empty(0, np.uint32)
        """First component of each bucket."""
        self._sizes = np.empty(0, np.int64)
        """Rows of each large component…"""
        self._seen = np.empty(0, np.int64)
        """…and how many of them were in earlier parts."""

    @property
    def small(self) -> int:
        """Number of buckets of small components."""
        return len(self._first)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Number of buckets of each large component."""
        return tuple((-(-self._sizes // self._largest)).tolist())

    def of(self, members: Members) -> U32:
        """Return the bucket of each member (n,)."""
        begins = self._rows + np.cumsum(members.small, dtype=np.int64) - members.small
        numbers = begins // self._rows_together
        opens = np.flatnonzero(np.diff(numbers, prepend=len(self._first) - 1))
        self._first = np.append(self._first, (self._components + opens).astype(np.uint32))
        self._rows, self._components = self._rows + int(members.small.sum()), self._components + len(members.small)
        self._sizes = np.append(self._sizes, members.large.astype(np.int64))
        self._seen = np.append(self._seen, np.zeros(len(members.large), np.int64))

        buckets = (np.searchsorted(self._first, members.labels, side="right") - 1).astype(np.uint32)
        large = np.flatnonzero(members.labels >= LARGE)
        component = (members.labels[large] - np.uint32(LARGE)).astype(np.int64)
        order = np.argsort(component, kind="stable")
        here = np.bincount(component, minlength=len(self._sizes))
        place = np.empty(len(large), np.int64)
        place[order] = np.arange(len(large)) - np.repeat(np.cumsum(here) - here, here)
        chunks = -(-self._sizes // self._largest)
        first = np.cumsum(chunks) - chunks
        buckets[large] = LARGE + first[component] + (self._seen[component] + place) // self._largest
        self._seen += here
        return buckets


GATHERED = pa.schema(
    [
        ("partition", pa.uint32()),
        ("index", pa.uint32()),
        ("group", pa.uint32()),
        ("bytes", pa.uint64()),
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
    def bucket(
        cls, work: Path, keys: tuple[str, ...], bucket: int, chosen: NDArray[np.bool_] | None = None
    ) -> pa.Table:
        """Return the records of one bucket from all steps, or the `chosen` (n,) of them, `GATHERED`."""
        folders = [cls.folder(work, key) for key in keys]
        return read_bucket(folders, "texts", GATHERED, bucket, chosen=chosen).combine_chunks()

    @classmethod
    def sizes(cls, work: Path, keys: tuple[str, ...], bucket: int) -> tuple[U32, NDArray[np.int64]]:
        """Return the group (n,) of each record of a bucket, and the bytes of its texts."""
        folders = [cls.folder(work, key) for key in keys]
        found = read_bucket(folders, "texts", GATHERED, bucket, ["group", "bytes"])
        return found.column("group").to_numpy(), found.column("bytes").to_numpy().astype(np.int64)

    def run(self, work: Path, out: Path) -> NoResult:
        rows, groups, buckets = GroupPairs.groups(work, self.groups)
        first = _first_rows(self.inputs, self.first)
        with BucketWriter(out, "texts", GATHERED) as writer:
            for partition, index, batch in self.live(work, GATHERED.names[4:]):
                batch_rows = first[partition] + index.astype(np.int64)
                if not len(batch_rows):
                    continue
                # Edges of the type of the rows, since `searchsorted` would make a copy of all rows in another type.
                edges = np.array([batch_rows[0], batch_rows[-1] + 1], rows.dtype)
                begin, end = np.searchsorted(rows, edges).tolist()
                if begin < end:
                    chosen = np.searchsorted(batch_rows, rows[begin:end])
                    records = batch.take(pa.array(chosen))
                    sizes = _text_bytes(records).astype(np.uint64)
                    places = [np.full(len(chosen), partition, np.uint32), index[chosen], groups[begin:end], sizes]
                    table = pa.table([*map(pa.array, places), *records.columns], schema=GATHERED)
                    writer.add(table, np.array(buckets[begin:end]))
        return NoResult()


_Part = tuple[int, NDArray[np.bool_]]
"""A bucket, and which of its records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyGroups(Step[Dropped]):
    """Compare the records of some groups, and drop the duplicates among them.

    A bucket of much more text than others, since its texts are long, is read in parts, each of whole groups. Of a group
    in several buckets, or of more text than a part, the best records that are no duplicates of each other are found
    first; then each part is compared with these and within itself. So a text that occurs a million times leaves one,
    and every twin is a record that stays.
    """

    stage: ClassVar[str] = "near"

    inputs: tuple[str, ...]
    """Keys of the `GatherTexts` steps."""
    priorities: tuple[int, ...]
    """For each partition: the position of its source in the manifest."""
    frequent: str
    """Key of the `FrequentSentences`."""
    spec: NearDedupSpec
    buckets: tuple[int, ...]
    """A bucket of whole groups, or all buckets of one group."""

    @property
    def partition(self) -> str:
        return f"groups in bucket {self.buckets[0] + 1}"

    @classmethod
    def examples(cls, work: Path, key: str) -> pa.Table:
        """Return the least similar duplicates of a finished step, `EXAMPLES`."""
        return read_examples(cls.folder(work, key))

    def run(self, work: Path, out: Path) -> Dropped:
        known = FrequentSentences.vocabulary(work, self.frequent)
        writer = DropsWriter(out)
        examples = EXAMPLES.empty_table()
        waiting = [(empty_drops(0), np.empty(0, np.int64))]
        for parts in self._parts(work):
            best = self._best(work, parts, known) if len(parts) > 1 else GATHERED.empty_table()
            for bucket, chosen in parts:
                records = _with_others(best, GatherTexts.bucket(work, self.inputs, bucket, chosen))
                order = self._order(records)
                order = np.concatenate([order[order < len(best)], order[order >= len(best)]])
                lost, survivor, score = self._compare(records, order, known)
                high, low = id_halves(records.column("row_id"))
                drops = empty_drops(len(lost))
                for name in ("partition", "index"):
                    drops[name] = records.column(name).to_numpy()[lost]
                drops["twin_high"], drops["twin_low"], drops["score"] = high[survivor], low[survivor], score
                waiting.append((drops, _text_bytes(records)[lost]))
                if len(self.buckets) > 1:  # the records are in order of their places, over all buckets
                    _write(writer, waiting)
                least = np.lexsort((low[lost], high[lost], score))[:EXAMPLE_COUNT]
                shown = _side_by_side(records, lost[least], survivor[least], pa.array(score[least]))
                examples = least_similar([examples, shown])
                count(rows=records.num_rows - len(best))
        _write(writer, waiting)
        write_examples(out, examples)
        return writer.close()

    def _parts(self, work: Path) -> Iterator[list[_Part]]:
        """Yield what is compared together: a part of the bucket's groups, or all parts of one group."""
        sizes = {bucket: GatherTexts.sizes(work, self.inputs, bucket) for bucket in self.buckets}
        if len(self.buckets) > 1:
            yield [(bucket, chosen) for bucket, (_, each) in sizes.items() for chosen in _cut(each)]
            return
        ((bucket, (groups, each)),) = sizes.items()
        _, place = np.unique(groups, return_inverse=True)
        total = np.bincount(place, each).astype(np.int64)
        large = total > MOST_TOGETHER
        for chosen in _cut(np.where(large, 0, total)):
            whole = (chosen & ~large)[place]
            if whole.any():
                yield [(bucket, whole)]
        for group in np.flatnonzero(large).tolist():
            rows = np.flatnonzero(place == group)
            parts = []
            for chosen in _cut(each[rows]):
                part = np.zeros(len(place), bool)
                part[rows[chosen]] = True
                parts.append((bucket, part))
            yield parts

    def _best(self, work: Path, parts: list[_Part], known: Vocabulary) -> pa.Table:
        """Return the best records of a group in several parts that are no duplicates of each other, `GATHERED`."""
        best = GATHERED.empty_table()
        for bucket, chosen in parts:
            records = _with_others(best, GatherTexts.bucket(work, self.inputs, bucket, chosen))
            order = self._order(records)
            lost, _, _ = self._compare(records, order, known)
            best = records.take(pa.array(order[~np.isin(order, lost)][:MAX_SURVIVORS]))
        return best

    def _order(self, records: pa.Table) -> NDArray[np.int64]:
        """Return the indices (n,) of records in the order of survival."""
        priority = np.array(self.priorities)[records.column("partition").to_numpy()]
        length = pc.utf8_length(records.column("response")).to_numpy()
        return best_order(priority, length, *id_halves(records.column("row_id")))

    def _compare(
        self, records: pa.Table, order: NDArray[np.int64], known: Vocabulary
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return indices of the duplicates, of the records that they lose to, and their similarities; all are (m,)."""
        instructions, responses = records.column("instruction"), records.column("response")
        features = extract_features(instructions, responses, known, self.spec.shingle)
        return find_duplicates(features, records.column("group").to_numpy(), np.argsort(order), self.spec.threshold)


def _write(writer: DropsWriter, waiting: list[tuple[NDArray[Any], NDArray[np.int64]]]) -> None:
    """Write drops and their sizes in order of their places, and empty the list."""
    drops, sizes = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
    by_place = np.lexsort((drops["index"], drops["partition"]))
    writer.add(drops[by_place], sizes[by_place])
    del waiting[1:]


def _cut(sizes: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Return parts of things of some sizes (n,): which ones are in each, about `MOST_TOGETHER` bytes.

    A part may be larger by its last thing.
    """
    if sizes.sum() <= 2 * MOST_TOGETHER:
        return [np.ones(len(sizes), bool)]
    part = (np.cumsum(sizes) - sizes) // MOST_TOGETHER
    return [part == number for number in np.unique(part)]


def _text_bytes(records: pa.Table | pa.RecordBatch) -> NDArray[np.int64]:
    """Return the size (n,) of each record's texts."""
    sizes = [
        pc.binary_length(records.column(name)).to_numpy(zero_copy_only=False) for name in ("instruction", "response")
    ]
    return (sizes[0] + sizes[1]).astype(np.int64)


def _with_others(best: pa.Table, records: pa.Table) -> pa.Table:
    """Return records of a group behind the best ones of the whole group, each once; both are `GATHERED`."""
    if not best.num_rows:
        return records
    others = records.filter(pc.invert(pc.is_in(records.column("row_id"), value_set=best.column("row_id"))))
    return pa.concat_tables([best, others]).combine_chunks()


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
    ends = accumulate(grouped.chunks, initial=LARGE)
    of_large = [
        tuple(range(end - chunks, end)) for chunks, end in zip(grouped.chunks, islice(ends, 1, None), strict=True)
    ]
    verifiers = [
        VerifyGroups(
            inputs=tuple(step.key for step in gatherers),
            priorities=tuple(part.priority for part in records.parts),
            frequent=frequent.key,
            spec=spec,
            buckets=buckets,
        )
        for buckets in (*((bucket,) for bucket in range(grouped.buckets)), *of_large)
    ]
    return records.without(verifiers, executor.map(verifiers), Outcome.NEAR_DUPLICATE)
