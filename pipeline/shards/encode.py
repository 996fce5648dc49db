"""Encode: one bucket of the global order → samples in MDS shards, their texts, lengths and ledger lines.

scattered rows of the bucket ─▶ sort ─▶ tokenize ─▶ length rules ─┬▶ shard-*.mds
                                                                   ├▶ lengths.npy, counts of strata
                                                                   ├▶ curated.parquet
                                                                   └▶ ledger.parquet (sample = index in the bucket)
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numba
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.contract import (
    CONDITION_TAGS,
    END_OF_PREFIX,
    END_OF_RESPONSE,
    START,
    FileInfo,
    TokenDtype,
    order_conditions,
)
from corpus.outcome import Outcome
from corpus.record import SCHEMA
from pipeline.engine.counters import count
from pipeline.engine.step import Step
from pipeline.records.files import file_info
from pipeline.records.ledger import LedgerPart
from pipeline.records.schema import id_bytes, id_halves, with_hex_ids
from pipeline.records.seeds import keyed_hash
from pipeline.shards import mds
from pipeline.shards.mds import ShardInfo, Tokens
from pipeline.shards.shuffle import Scatter
from pipeline.shards.tokenizer import FAST, Encoder, TokenizerStep, load_encoder

SLICE_ROWS = 16_384
"""Rows that are tokenized together."""
GUARD_ROWS = 64
"""Texts of a bucket whose ids from the fast engine are compared with the reference's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBucket:
    """Result of `Encode`."""

    mismatch: str | None = None
    """How the fast engine differs from the reference; then the bucket has no samples."""
    samples: int = 0
    max_tokens: int = 0
    """Tokens of the longest sample."""
    strata: dict[int, int]
    """Number of a planned stratum to its samples."""
    shards: tuple[ShardInfo, ...] = ()
    curated: FileInfo | None = None
    """None if the bucket has no samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode(Step[EncodedBucket]):
    """Tokenize one bucket and cut it into shards."""

    stage: ClassVar[str] = "encode"

    inputs: tuple[str, ...]
    """Keys of all `Scatter`s."""
    tokenizer: str
    """Key of the `TokenizerStep`."""
    bucket: int
    seed: int
    engine: str
    max_tokens: int
    overlong: Literal["truncate", "drop"]
    min_response_tokens: int
    shard_size: int

    CURATED: ClassVar[str] = "curated.parquet"

    @property
    def partition(self) -> str:
        return f"bucket {self.bucket + 1}"

    @staticmethod
    def shard_file(number: int) -> str:
        """Name of a step's shard."""
        return f"shard-{number:05}.mds"

    @classmethod
    def lengths(cls, work: Path, key: str) -> NDArray[np.uint16]:
        """Return prefix and response length of each sample of a finished step, (n, 2)."""
        found: NDArray[np.uint16] = np.load(cls.folder(work, key) / "lengths.npy")
        return found

    def run(self, work: Path, out: Path) -> EncodedBucket:
        encoder = load_encoder(TokenizerStep.text(work, self.tokenizer), self.engine)
        rows = self._sorted(Scatter.bucket(work, self.inputs, self.bucket))
        if self.engine == FAST and (mismatch := _guard(encoder, rows)) is not None:
            return EncodedBucket(mismatch=mismatch, strata={})
        ledger = LedgerPart(out)
        slices: list[Samples] = []
        strata: Counter[int] = Counter()
        curated = pq.ParquetWriter(out / self.CURATED, SCHEMA, compression="zstd") if rows.num_rows else None
        first = 0
        for begin in range(0, rows.num_rows, SLICE_ROWS):
            part = rows.slice(begin, SLICE_ROWS)
            encoded = self._encode(part, encoder)
            kept = part.filter(pa.array(encoded.kept))
            if curated is not None:
                curated.write_table(with_hex_ids(kept.select(SCHEMA.names)))
            ledger.write(_lines(part, encoded, first))
            numbers, counts = np.unique(kept.column("stratum").to_numpy(), return_counts=True)
            strata.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            first += kept.num_rows
            slices.append(encoded.samples)
            count(rows=part.num_rows, tokens=len(encoded.samples.tokens))
        if curated is not None:
            curated.close()
        ledger.close()
        lengths = np.concatenate([np.empty((0, 2), np.uint16), *(samples.lengths for samples in slices)])
        np.save(out / "lengths.npy", lengths)
        return EncodedBucket(
            samples=len(lengths),
            max_tokens=int(lengths.sum(axis=1, dtype=np.int64).max(initial=0)),
            strata=dict(strata),
            shards=tuple(self._write_shards(out, slices, lengths, encoder.dtype)),
            curated=file_info(out / self.CURATED) if first else None,
        )

    def _sorted(self, rows: pa.Table) -> pa.Table:
        high, low = id_halves(rows.column("row_id"))
        order = keyed_hash(high, low, seed=self.seed, purpose="shuffle")
        return rows.take(pa.array(np.lexsort((low, high, order, rows.column("stratum").to_numpy()))))

    def _encode(self, part: pa.Table, encoder: Encoder) -> "EncodedRows":
        special = encoder.special
        instructions, instruction_bounds = encoder.encode(part.column("instruction").to_pylist())
        responses, response_bounds = encoder.encode(part.column("response").to_pylist())
        tags, tag_bounds = _tags(part.column("condition"), encoder)
        prefix = 2 + np.diff(tag_bounds) + np.diff(instruction_bounds)
        full = 1 + np.diff(response_bounds)
        room = self.max_tokens - prefix
        long = full > room
        response = np.minimum(full, room) if self.overlong == "truncate" else full
        short = full < self.min_response_tokens
        unfit = ~short & long & ((response < self.min_response_tokens) | (self.overlong == "drop"))
        kept = ~short & ~unfit
        lengths = np.stack([prefix, response], axis=1)
        tokens = _join(
            np.flatnonzero(kept),
            lengths,
            (instructions, instruction_bounds),
            (responses, response_bounds),
            (tags, tag_bounds),
            (special[START], special[END_OF_PREFIX], special[END_OF_RESPONSE]),
        )
        return EncodedRows(
            kept=kept,
            short=short,
            prefix=prefix,
            response=full,
            max_tokens=self.max_tokens,
            min_response_tokens=self.min_response_tokens,
            samples=Samples(
                tokens=tokens, lengths=lengths[kept].astype(np.uint16), row_ids=id_bytes(part.column("row_id"))[kept]
            ),
        )

    def _write_shards(
        self, out: Path, slices: "list[Samples]", lengths: NDArray[np.uint16], dtype: TokenDtype
    ) -> Iterator[ShardInfo]:
        if len(lengths) == 0:
            return
        tokens = np.concatenate([samples.tokens for samples in slices])
        row_ids = np.concatenate([samples.row_ids for samples in slices])
        sizes = lengths.sum(axis=1, dtype=np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        for number, (begin, end) in enumerate(mds.cut(sizes, self.shard_size, dtype)):
            content = mds.shard(
                tokens[bounds[begin] : bounds[end]],
                bounds[begin : end + 1] - bounds[begin],
                lengths[begin:end, 0],
                row_ids[begin:end],
                self.shard_size,
            )
            (out / self.shard_file(number)).write_bytes(content)
            yield mds.describe(content, end - begin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Finished samples."""

    tokens: Tokens
    """Tokens of all samples, concatenated."""
    lengths: NDArray[np.uint16]
    """(n, 2): prefix length, response length."""
    row_ids: NDArray[np.uint8]
    """(n, 16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRows:
    """What the length rules decide about some rows, and the samples of those that are kept."""

    kept: NDArray[np.bool_]
    short: NDArray[np.bool_]
    """Rows with too few response tokens; those neither kept nor short have too many tokens."""
    prefix: NDArray[np.int64]
    response: NDArray[np.int64]
    """Lengths before truncation."""
    max_tokens: int
    min_response_tokens: int
    samples: Samples


def _guard(encoder: Encoder, rows: pa.Table) -> str | None:
    """Compare both engines on rows spread evenly over the shuffled bucket; see `Encoder.mismatch`."""
    chosen = np.unique(np.linspace(0, rows.num_rows - 1, GUARD_ROWS).astype(np.int64)) if rows.num_rows else []
    sample = rows.take(pa.array(chosen, pa.int64()))
    for column in ("instruction", "response"):
        texts = sample.column(column).to_pylist()
        ids, bounds = encoder.encode(texts)
        if (mismatch := encoder.mismatch(texts, ids, bounds)) is not None:
            return mismatch
    return None


def _tags(conditions: pa.ChunkedArray, encoder: Encoder) -> "_Ragged":
    """Return the ids of the condition tags of all rows, concatenated, and the bounds (n + 1,) of each row."""
    # There are few distinct combinations.
    names = pl.Series(conditions).list.join(" ").fill_null("")
    combinations = {
        name: [encoder.special[CONDITION_TAGS[c]] for c in order_conditions(name.split())] for name in names.unique()
    }
    counts = names.replace_strict({name: len(ids) for name, ids in combinations.items()}, return_dtype=pl.Int64)
    bounds = np.concatenate([[0], np.cumsum(counts.to_numpy())]).astype(np.int64)
    if bounds[-1] == 0:
        return np.empty(0, encoder.dtype), bounds
    flat = names.replace_strict(combinations, return_dtype=pl.List(pl.Int64)).explode().drop_nulls()
    return flat.to_numpy().astype(encoder.dtype), bounds


_Ragged = tuple[Tokens, NDArray[np.int64]]


@numba.njit(cache=True, nogil=True)
def _join(
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    instructions: _Ragged,
    responses: _Ragged,
    tags: _Ragged,
    marks: tuple[int, int, int],
) -> Tokens:
    """Join tokens of samples `rows`: start, tags, instruction, end of prefix, response, end of response if it fits."""
    total = 0
    for row in rows:
        total += lengths[row, 0] + lengths[row, 1]
    out = np.empty(total, instructions[0].dtype)
    at = 0
    for row in rows:
        out[at] = marks[0]
        at += 1
        for source, bounds in (tags, instructions):
            for place in range(bounds[row], bounds[row + 1]):  # numba takes seconds to compile assignments of slices
                out[at] = source[place]
                at += 1
        out[at] = marks[1]
        at += 1
        source, bounds = responses
        whole = bounds[row + 1] - bounds[row]
        for place in range(bounds[row], bounds[row] + min(whole, lengths[row, 1])):
            out[at] = source[place]
            at += 1
        if lengths[row, 1] > whole:
            out[at] = marks[2]
            at += 1
    return out  # type: ignore[return-value]


def _lines(part: pa.Table, encoded: EncodedRows, first: int) -> pa.Table:
    """Return ledger lines of all rows of a slice; `first` is the index of its first sample in the bucket."""
    frame = pl.DataFrame(with_hex_ids(part.select(["row_id", "source", "file", "row", "part"])))
    lengths = pl.format("{} prefix and {} response tokens", pl.col("prefix"), pl.col("response"))
    return (
        frame.with_columns(
            pl.Series("kept", encoded.kept),
            pl.Series("short", encoded.short),
            pl.Series("prefix", encoded.prefix),
            pl.Series("response", encoded.response),
        )
        .with_columns(long=pl.col("prefix") + pl.col("response") > encoded.max_tokens)
        .with_columns(
            outcome=pl.when("kept")
            .then(pl.lit(Outcome.KEPT.value))
            .when("short")
            .then(pl.lit(Outcome.SHORT_RESPONSE.value))
            .otherwise(pl.lit(Outcome.TOO_MANY_TOKENS.value)),
            stage=pl.lit(Encode.stage),
            detail=pl.when(pl.col("kept") & pl.col("long"))
            .then(pl.format("{}, truncated to {} in all", lengths, pl.lit(encoded.max_tokens)))
            .when("short")
            .then(pl.format("{}; expected at least {} response tokens", lengths, pl.lit(encoded.min_response_tokens)))
            .when(~pl.col("kept"))
            .then(pl.format("{}; expected at most {}", lengths, pl.lit(encoded.max_tokens))),
            sample=pl.when("kept").then(pl.col("kept").cast(pl.Int64).cum_sum() + (first - 1)),
        )
        .select("row_id", "source", "file", "row", "part", "outcome", "stage", "detail", "sample")
        .to_arrow()
    )
