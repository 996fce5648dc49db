"""Ingest: an input file, or a range of one → cleaned records, their keys for deduplication, ledger lines of drops.

batches ─▶ clean, rules ─┬▶ records.arrow   records that are kept
                         ├▶ dropped.arrow   texts of a few dropped pairs, for the report
                         ├▶ run-*.npy       sorted runs of `KEYS`, one entry per record
                         └▶ ledger.arrow    rows without a pair, dropped pairs
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from corpus.columns import ColumnCounter, ColumnUse, merged
from corpus.discover import SourceFile
from corpus.pairs import ByteRange, joined
from corpus.record import FileEnd, Rejected, row_ids
from corpus.source import SourceSpec
from pipeline.engine.counters import count
from pipeline.engine.step import UNHASHED, BuildError, Step
from pipeline.ingest import clean
from pipeline.ingest.batches import batches
from pipeline.ingest.content import as_hashed, changed
from pipeline.ingest.spec import CleanSpec
from pipeline.records import runs
from pipeline.records.ledger import READ_STAGE, ColumnLine, LedgerPart
from pipeline.records.schema import IPC, RECORDS, ROW_ID, id_halves
from pipeline.rules.apply import apply_rules
from pipeline.rules.spec import RulesSpec
from pipeline.text.columns import copies_kept, large_strings, to_series
from pipeline.text.folding import Buffer, fold, fold_pairs

KEYS = np.dtype(
    [
        ("pair_high", np.uint64),
        ("pair_low", np.uint64),
        ("instruction_high", np.uint64),
        ("instruction_low", np.uint64),
        ("id_high", np.uint64),
        ("id_low", np.uint64),
        ("index", np.uint32),
        ("response", np.uint32),
        ("bytes", np.uint32),
    ]
)
"""What deduplication needs of a record: hash of the folded pair, hash of the folded instruction, row id, index in the
partition, length of the response in characters, size of both texts in bytes. Runs are sorted by `pair_high`."""


DROPPED_TEXTS = pa.schema(
    [("row_id", pa.string()), ("instruction", pa.large_string()), ("response", pa.large_string())]
)
SHOWN_TEXTS = 3
"""Dropped pairs of a file whose texts are written for each reason, the first ones."""
SHOWN_CHARS = 2000
"""Characters of such a text that are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSize:
    """Size of a task's records in one file, in bytes."""

    bytes: int
    """Instructions and responses."""
    meta_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """Result of `Ingest`: what one input file, or a range of one, contained."""

    pairs: int
    rejected: int
    """Rows without a pair."""
    records: int
    """Pairs that are kept."""
    dropped: dict[str, int]
    """Reason (`corpus.outcome.Outcome`) to the number of pairs, and rows without a pair, that end here."""
    examples: dict[str, str]
    """Reason to the position and detail of the first row without a pair."""
    tasks: dict[str, TaskSize]
    adapted: int
    """Rows that yield a pair."""
    columns: tuple[ColumnUse, ...]
    """Columns of these rows."""
    end: FileEnd


def unused_columns(source: str, files: Sequence[Ingested]) -> list[ColumnLine]:
    """Return the columns of a source that are filled in rows whose pairs do not use them, the fullest first."""
    rows = sum(found.adapted for found in files)
    uses = sorted(merged(use for found in files for use in found.columns), key=lambda use: -use.unused)
    uses = [use for use in uses if use.unused]
    return [
        ColumnLine(source=source, column=use.name, rows=rows, unused=use.unused, used=use.used, example=use.example)
        for use in uses
    ]


def whole_file(parts: Sequence[Ingested]) -> Ingested:
    """Return the result of a file from those of its ranges, in their order."""
    if len(parts) == 1:
        return parts[0]
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}
    sizes: dict[str, TaskSize] = {}
    for part in parts:
        dropped.update(part.dropped)
        examples = {**part.examples, **examples}
        for task, size in part.tasks.items():
            before = sizes.get(task, TaskSize(bytes=0, meta_bytes=0))
            sizes[task] = TaskSize(bytes=before.bytes + size.bytes, meta_bytes=before.meta_bytes + size.meta_bytes)
    return Ingested(
        pairs=sum(part.pairs for part in parts),
        rejected=sum(part.rejected for part in parts),
        records=sum(part.records for part in parts),
        dropped=dict(dropped),
        examples=examples,
        tasks=sizes,
        adapted=sum(part.adapted for part in parts),
        columns=tuple(merged(use for part in parts for use in part.columns)),
        end=joined([part.end for part in parts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest(Step[Ingested]):
    """Read and clean one input file, or a range of one."""

    stage: ClassVar[str] = "ingest"

    identity: str
    """Hash of the file's content and of everything in the source's spec that decides how it is read."""
    clean: CleanSpec
    rules: RulesSpec | None
    """None for an eval source, whose pairs may also lack a response."""
    span: ByteRange | None = None
    """The range to read; None: the whole file."""
    spec: SourceSpec = field(metadata=UNHASHED)
    file: SourceFile = field(metadata=UNHASHED)
    stamp: str = field(metadata=UNHASHED)
    """`pipeline.ingest.content.stamp` of the file when it was hashed."""
    sha256: str | None = field(metadata=UNHASHED)
    """Hash of the content, part of `identity`."""

    @property
    def partition(self) -> str:
        place = f"source {self.spec.name}, file {self.file.path}"
        return place if self.span is None else f"{place}, {self.span.shown}"

    @classmethod
    def records(cls, work: Path, key: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the records of a finished step, `RECORDS`; of `columns`, in this order, no others are read."""
        fields = None if columns is None else [RECORDS.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        # Not mapped: pages of a large mapped file stay with the process that reads it.
        with pa.OSFile(str(cls.folder(work, key) / "records.arrow")) as file:
            reader = pa.ipc.open_file(file, options=options)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                yield batch if columns is None else batch.select(columns)

    @classmethod
    def tasks(cls, work: Path, key: str) -> Iterator[pa.Array]:
        """Yield the tasks of the records of a finished step."""
        return (batch.column(0) for batch in cls.records(work, key, ["task"]))

    @classmethod
    def dropped_texts(cls, work: Path, key: str) -> pa.Table:
        """Return the texts of a few pairs that a finished step dropped, `DROPPED_TEXTS`."""
        with pa.OSFile(str(cls.folder(work, key) / "dropped.arrow")) as file:
            return pa.ipc.open_file(file).read_all()

    @classmethod
    def keys(cls, work: Path, key: str) -> Iterator[NDArray[Any]]:
        """Yield the runs of `KEYS` of a finished step; a run has smaller indices than the next."""
        return runs.runs(cls.folder(work, key))

    @classmethod
    def keys_in_range(cls, work: Path, key: str, bucket: int, buckets: int) -> Iterator[NDArray[Any]]:
        """Yield the `KEYS` of each run whose pair hash is in range `bucket` of `buckets`."""
        return runs.in_range(cls.folder(work, key), "pair_high", bucket, buckets)

    def run(self, work: Path, out: Path) -> Ingested:
        ledger, keys = LedgerPart(out), runs.RunWriter(out, "pair_high")
        pairs = rejected = records = 0
        dropped: Counter[str] = Counter()
        examples: dict[str, str] = {}
        texts = _DroppedTexts()
        usage = ColumnCounter()
        sizes: Counter[str] = Counter()
        meta_sizes: Counter[str] = Counter()
        with (
            as_hashed(self.spec, self.file, self.stamp, self.sha256, span=self.span, work=work, out=out) as (
                file,
                span,
            ),
            pa.OSFile(str(out / "records.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, RECORDS, options=IPC) as writer,
        ):
            for batch in batches(self.spec, file, span, self.clean.markup, usage):
                with copies_kept():
                    kept, lost = self._clean(batch.pairs, texts)
                for columns in kept.to_batches():
                    writer.write_batch(columns)
                if kept.num_rows:
                    keys.add(_keys(kept, records))
                ledger.write(lost)
                ledger.write(self._rejected(batch.rejected))
                pairs, rejected = pairs + batch.pairs.num_rows, rejected + len(batch.rejected)
                records += kept.num_rows
                dropped.update(lost.column("outcome").to_pylist())
                dropped.update(line.reason.value for line in batch.rejected)
                for line in batch.rejected:
                    examples.setdefault(line.reason.value, f"{line.position}: {line.detail}")
                for task, size, meta_size in _task_sizes(kept):
                    sizes[task] += size
                    meta_sizes[task] += meta_size
                count(rows=batch.pairs.num_rows + len(batch.rejected), bytes=batch.bytes)
        keys.close()
        ledger.close()
        texts.write(out / "dropped.arrow")
        if batch.end is None:
            raise BuildError("the reader ended without a FileEnd")
        if self.file.skipped is None and changed(self.file.url, self.stamp):
            raise BuildError(
                f"{self.file.shown_url}: changed or vanished while the build was reading it; run the build again"
            )
        if self.span is not None and (batch.end.rows != self.span.rows or batch.end.bytes_read != self.span.size):
            raise BuildError(
                f"{self.file.shown_url}: {self.span.shown} are not as they were when the file was hashed "
                f"({batch.end.detail or f'{batch.end.rows:,} rows, expected {self.span.rows:,}'}); run the build again"
            )
        return Ingested(
            pairs=pairs,
            rejected=rejected,
            records=records,
            dropped=dict(dropped),
            examples=examples,
            tasks={task: TaskSize(bytes=size, meta_bytes=meta_sizes[task]) for task, size in sizes.items()},
            adapted=usage.rows,
            columns=usage.all_columns,
            end=batch.end,
        )

    def _clean(self, pairs: pa.Table, texts: "_DroppedTexts") -> tuple[pa.Table, pa.Table]:
        """Clean pairs and apply the rules; return records (`RECORDS`) and ledger lines of dropped pairs."""
        frame = pl.DataFrame([to_series(name, pairs.column(name).combine_chunks()) for name in _TEXTS])
        frame = clean.clean(frame, self.clean, without_response=self.rules is None)
        frame = frame.with_columns(stage=pl.lit(clean.STAGE))
        if self.rules is not None:
            frame = apply_rules(frame, self.rules)
        places = zip(pairs.column("row").to_pylist(), pairs.column("part").to_pylist(), strict=True)
        ids = pa.array(row_ids(self.spec.name, self.file.path, places), ROW_ID)
        others = pairs.drop_columns(_TEXTS).append_column("row_id", ids)
        for name, value in (("source", self.spec.name), ("file", self.file.path)):
            others = others.append_column(name, pa.repeat(value, pairs.num_rows))
        is_kept = frame["outcome"].is_null()
        if is_kept.all():
            return _records(others, frame), _lost(others.slice(0, 0), frame.clear())
        kept = _records(others.filter(is_kept.to_arrow()), frame.filter(is_kept))
        others, frame = others.filter((~is_kept).to_arrow()), frame.filter(~is_kept)
        texts.add(others.column("row_id"), frame)
        return kept, _lost(others, frame)

    def _rejected(self, rejected: list[Rejected]) -> pa.Table:
        """Ledger lines of rows without a pair."""
        places = [(line.row, line.part) for line in rejected]
        return pa.table(
            {
                "row_id": pa.array(row_ids(self.spec.name, self.file.path, places), ROW_ID),
                "source": [self.spec.name] * len(rejected),
                "file": [self.file.path] * len(rejected),
                "row": [line.row for line in rejected],
                "part": [line.part for line in rejected],
                "outcome": [line.reason.value for line in rejected],
                "stage": [READ_STAGE] * len(rejected),
                "detail": [f"{line.position}: {line.detail}" for line in rejected],
            }
        )


_TEXTS = ["instruction", "response"]


def _records(others: pa.Table, frame: pl.DataFrame) -> pa.Table:
    """Join cleaned texts with the other columns of their records, `RECORDS`."""
    for name in _TEXTS:
        others = others.append_column(name, large_strings(frame[name]))
    return others.select(RECORDS.names).cast(RECORDS)


def _lost(others: pa.Table, frame: pl.DataFrame) -> pa.Table:
    """Return ledger lines of pairs with an outcome."""
    lines = others.select(["row_id", "source", "file", "row", "part"])
    for name in ("outcome", "stage", "score", "detail"):
        lines = lines.append_column(name, frame[name].to_arrow())
    return lines


class _DroppedTexts:
    """Keeps the texts of the first pairs that are dropped for each reason."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._rows: list[tuple[str, str | None, str | None]] = []

    def add(self, ids: pa.ChunkedArray, dropped: pl.DataFrame) -> None:
        """Look through cleaned pairs that have an outcome, and their row ids."""
        dropped = dropped.with_columns(row_id=pl.Series(ids.to_pylist(), dtype=pl.Binary))
        first = dropped.group_by("outcome", maintain_order=True).head(SHOWN_TEXTS)
        texts = (pl.col(name).str.slice(0, SHOWN_CHARS) for name in ("instruction", "response"))
        for outcome, identity, *shown in first.select("outcome", "row_id", *texts).iter_rows():
            if self._seen[outcome] < SHOWN_TEXTS:
                self._seen[outcome] += 1
                self._rows.append((identity.hex(), *shown))

    def write(self, path: Path) -> None:
        """Write the texts, `DROPPED_TEXTS`."""
        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[], [], []]
        table = pa.table(dict(zip(DROPPED_TEXTS.names, columns, strict=True)), schema=DROPPED_TEXTS)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, DROPPED_TEXTS) as file:
            file.write_table(table)


def _task_sizes(records: pa.Table) -> Iterator[tuple[str, int, int]]:
    """Task, bytes of texts and bytes of `meta` of each task."""
    texts = pc.add(*(pc.binary_length(records.column(name)) for name in _TEXTS))
    table = pa.table({"task": records.column("task"), "bytes": texts, "meta": pc.binary_length(records.column("meta"))})
    sums = table.group_by("task", use_threads=False).aggregate([("bytes", "sum"), ("meta", "sum")])
    for sizes in sums.to_pylist():
        yield sizes["task"], sizes["bytes_sum"], sizes["meta_sum"] or 0


def _keys(records: pa.Table, first: int) -> NDArray[Any]:
    """Return `KEYS` of records, of which the first has index `first`."""
    folded = fold_pairs(records.column("instruction"), records.column("response"))
    keys = np.empty(records.num_rows, KEYS)
    keys["pair_high"], keys["pair_low"] = _halves(folded.pairs)
    keys["instruction_high"], keys["instruction_low"] = _halves(folded.instructions)
    keys["id_high"], keys["id_low"] = id_halves(records.column("row_id"))
    keys["index"] = np.arange(first, first + records.num_rows)
    keys["response"] = pc.utf8_length(records.column("response"))
    keys["bytes"] = pc.add(*(pc.binary_length(records.column(name)) for name in ("instruction", "response")))
    return keys


def _halves(texts: Iterable[Buffer]) -> NDArray[Any]:
    """Return the hashes of texts as two uint64 arrays, (2, n)."""
    return np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, texts)), ">u8").reshape(-1, 2).T


def pair_key(instruction: str, response: str) -> bytes:
    """Return 16 bytes that are equal for pairs that differ only in white space other than indentation."""
    return xxhash.xxh3_128_digest(b"%b\0%b" % (fold(instruction), fold(response)))
