"""Ingest: one input file → cleaned records, their keys for deduplication, ledger lines of what is dropped.

read_pairs ─▶ batches of bounded size ─▶ clean, rules ─┬▶ records.arrow   records that go on
                                                       ├▶ keys-*.npy      sorted runs of `KEYS`, one entry a record
                                                       └▶ ledger.parquet  rows without a pair, pairs that are dropped
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from corpus.contract import order_conditions
from corpus.discover import SourceFile
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import SCHEMA, FileEnd, Pair, Rejected, row_id
from corpus.source import SourceSpec
from pipeline.engine.progress import report
from pipeline.engine.step import UNHASHED, BuildError, Step
from pipeline.ingest import clean
from pipeline.ingest.inputs import as_hashed, changed
from pipeline.manifest import CleanSpec
from pipeline.records.ledger import READ_STAGE, LedgerPart
from pipeline.rules.apply import apply_rules
from pipeline.rules.spec import RulesSpec
from pipeline.text.folding import fold, fold_all

BATCH_PAIRS = 8192
BATCH_CHARS = 8 * 2**20
RUN_ROWS = 2**20
"""Keys sorted together; what bounds their memory."""

RECORDS = pa.schema([*SCHEMA, ("file", pa.string()), ("row", pa.int64()), ("part", pa.int32())])
"""Schema of records inside a build: with the place they come from."""

KEYS = np.dtype(
    [
        ("key_high", np.uint64),
        ("key_low", np.uint64),
        ("id_high", np.uint64),
        ("id_low", np.uint64),
        ("index", np.uint32),
        ("response", np.uint32),
        ("bytes", np.uint32),
    ]
)
"""What deduplication knows of a record: hash of the normalised pair, row id, index in the partition, length of the
response in characters, size of both texts in bytes."""

IPC = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest(Step):
    """Read and clean one input file."""

    stage: ClassVar[str] = "ingest"

    identity: str
    """Hash of the file's content and of all that the source's spec says about reading it."""
    clean: dict[str, Any]
    """The manifest's `CleanSpec`."""
    rules: RulesSpec | None
    """Quality rules; None for an eval source, whose pairs may also have no response."""
    spec: SourceSpec = field(metadata=UNHASHED)
    file: SourceFile = field(metadata=UNHASHED)
    stamp: str = field(metadata=UNHASHED)
    """Size and time of the file when it was hashed."""
    sha256: str | None = field(metadata=UNHASHED)
    """Hash of its content, part of `identity`."""

    @property
    def partition(self) -> str:
        return f"source {self.spec.name}, file {self.file.path}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        ledger = LedgerPart(out)
        keys = _KeyRuns(out)
        counts: dict[str, Any] = {"pairs": 0, "rejected": 0, "records": 0, "dropped": {}, "tasks": {}}
        with (
            as_hashed(self.spec, self.file, self.stamp, self.sha256, work=work, out=out) as file,
            pa.OSFile(str(out / "records.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, RECORDS, options=IPC) as records,
        ):
            for batch in _batches(self.spec, file):
                pairs, rejected = batch.pairs, batch.rejected
                kept, dropped = self._clean(pairs)
                for columns in kept.to_batches():
                    records.write_batch(columns)
                keys.add(kept, counts["records"])
                ledger.write(dropped)
                ledger.write(self._rejected(rejected))
                _count(counts, pairs, rejected, kept, dropped)
                size = sum(len(pair.instruction) + len(pair.response) for pair in pairs)
                report(rows=len(pairs) + len(rejected), bytes=size)
        keys.close()
        ledger.close()
        end = batch.end
        if end is None:
            raise BuildError("the reader ended without a FileEnd")
        if changed(self.file.url, self.stamp):
            raise BuildError(f"{self.file.shown_url}: changed while the build was reading it; run the build again")
        counts["file"] = {
            "outcome": end.outcome.value,
            "rows": end.rows,
            "position": end.position or None,
            "detail": end.detail or None,
        }
        return counts

    def _clean(self, pairs: list[Pair]) -> tuple[pa.Table, pa.Table]:
        frame = pl.DataFrame(
            {
                "row_id": [row_id(self.spec.name, self.file.path, pair.row, pair.part) for pair in pairs],
                "task": [pair.task for pair in pairs],
                "instruction": [pair.instruction for pair in pairs],
                "response": [pair.response for pair in pairs],
                "condition": [_ordered(tuple(pair.condition)) for pair in pairs],
                "meta": [pair.meta for pair in pairs],
                "row": [pair.row for pair in pairs],
                "part": [pair.part for pair in pairs],
            },
            schema_overrides={
                "row_id": pl.String,
                "task": pl.String,
                "instruction": pl.String,
                "response": pl.String,
                "condition": pl.String,
                "meta": pl.String,
                "row": pl.Int64,
                "part": pl.Int32,
            },
        )
        frame = clean.clean(frame, CleanSpec.model_validate(self.clean), without_response=self.rules is None)
        frame = frame.with_columns(stage=pl.lit(clean.STAGE))
        if self.rules is not None:
            frame = apply_rules(frame, self.rules)
        frame = frame.with_columns(
            pl.col("condition").str.extract_all(r"\S+"),
            source=pl.lit(self.spec.name),
            file=pl.lit(self.file.path),
        )
        kept = frame.filter(pl.col("outcome").is_null()).select(RECORDS.names).to_arrow().cast(RECORDS)
        dropped = frame.filter(pl.col("outcome").is_not_null())
        names = ("row_id", "source", "file", "row", "part", "outcome", "stage", "score", "detail")
        return kept, dropped.select(names).to_arrow()

    def _rejected(self, rejected: list[Rejected]) -> pa.Table:
        return pa.table(
            {
                "row_id": [row_id(self.spec.name, self.file.path, line.row, 0) for line in rejected],
                "source": [self.spec.name] * len(rejected),
                "file": [self.file.path] * len(rejected),
                "row": [line.row for line in rejected],
                "part": [0] * len(rejected),
                "outcome": [line.reason.value for line in rejected],
                "stage": [READ_STAGE] * len(rejected),
                "detail": [f"{line.position}: {line.detail}" for line in rejected],
            }
        )


@lru_cache(maxsize=64)
def _ordered(condition: tuple[str, ...]) -> str:
    return " ".join(order_conditions(condition))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    pairs: list[Pair]
    rejected: list[Rejected]
    end: FileEnd | None = None
    """Of the last batch only."""


def _batches(spec: SourceSpec, file: SourceFile) -> Iterator[_Batch]:
    """What the reader yields, in batches of bounded size."""
    pairs: list[Pair] = []
    rejected: list[Rejected] = []
    chars = 0
    row = part = -1
    for item in read_pairs(spec, file):
        if isinstance(item, FileEnd):
            if item.rows != row + 1 and item.outcome != FileOutcome.SKIPPED_NOT_DATA:
                raise BuildError(f"the reader counts {item.rows} rows but yielded {row + 1}")
            yield _Batch(pairs=pairs, rejected=rejected, end=item)
            return
        expected = (row, part + 1) if item.row == row and isinstance(item, Pair) else (row + 1, 0)
        found = (item.row, item.part if isinstance(item, Pair) else 0)
        if found != expected:
            raise BuildError(f"the reader yielded row {found[0]} part {found[1]} after row {row} part {part}")
        row, part = found
        if isinstance(item, Pair):
            pairs.append(item)
            chars += len(item.instruction) + len(item.response)
        else:
            rejected.append(item)
        if len(pairs) + len(rejected) >= BATCH_PAIRS or chars >= BATCH_CHARS:
            yield _Batch(pairs=pairs, rejected=rejected)
            pairs, rejected, chars = [], [], 0


def _count(
    counts: dict[str, Any], pairs: list[Pair], rejected: list[Rejected], kept: pa.Table, dropped: pa.Table
) -> None:
    counts["pairs"] += len(pairs)
    counts["rejected"] += len(rejected)
    counts["records"] += kept.num_rows
    for reason in [*dropped.column("outcome").to_pylist(), *(line.reason.value for line in rejected)]:
        counts["dropped"][reason] = counts["dropped"].get(reason, 0) + 1
    frame = pl.from_arrow(kept.select(["task", "instruction", "response", "meta"]))
    assert isinstance(frame, pl.DataFrame)
    sizes = pl.col("instruction").str.len_bytes() + pl.col("response").str.len_bytes()
    sums = sizes.sum().alias("bytes"), pl.col("meta").str.len_bytes().sum().alias("meta_bytes")
    for task, rows, size, meta in frame.group_by("task").agg(pl.len(), *sums).iter_rows():
        total = counts["tasks"].setdefault(task, {"rows": 0, "bytes": 0, "meta_bytes": 0})
        total["rows"] += rows
        total["bytes"] += size
        total["meta_bytes"] += meta


class _KeyRuns:
    """Collects keys and writes them as sorted runs of at most `RUN_ROWS` and one batch."""

    def __init__(self, out: Path) -> None:
        self._out, self._parts, self._rows, self._runs = out, [], 0, 0  # type: ignore[var-annotated]

    def add(self, records: pa.Table, first: int) -> None:
        if records.num_rows:
            self._parts.append(_keys(records, first))
            self._rows += records.num_rows
        if self._rows >= RUN_ROWS:
            self.close()

    def close(self) -> None:
        if self._rows:
            run = np.concatenate(self._parts)
            np.save(self._out / f"keys-{self._runs:05}.npy", run[np.argsort(run["key_high"], kind="stable")])
            self._parts, self._rows, self._runs = [], 0, self._runs + 1


def _keys(records: pa.Table, first: int) -> NDArray[Any]:
    instructions = fold_all(records.column("instruction"), case=True)
    responses = fold_all(records.column("response"), case=False)
    digests = b"".join(map(_pair_key, instructions, responses))
    keys = np.empty(records.num_rows, KEYS)
    halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
    keys["key_high"], keys["key_low"] = halves[:, 0], halves[:, 1]
    keys["id_high"], keys["id_low"] = id_halves(records.column("row_id"))
    keys["index"] = np.arange(first, first + records.num_rows)
    frame = pl.from_arrow(records.select(["instruction", "response"]))
    assert isinstance(frame, pl.DataFrame)
    keys["response"] = frame["response"].str.len_chars()
    keys["bytes"] = frame.select(pl.sum_horizontal(pl.all().str.len_bytes())).to_series()
    return keys


def pair_key(instruction: str, response: str) -> bytes:
    """16 bytes equal for pairs that differ only in white space and in the instruction's letter case."""
    return _pair_key(fold(instruction, case=True), fold(response, case=False))


def _pair_key(instruction: bytes, response: bytes) -> bytes:
    return xxhash.xxh3_128_digest(b"%b\0%b" % (instruction, response))


def id_halves(row_ids: pa.ChunkedArray) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Row ids as two uint64 arrays (n,), in an order that agrees with the ids' alphabetical order."""
    halves = np.frombuffer(bytes.fromhex("".join(row_ids.to_pylist())), ">u8").astype(np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]
