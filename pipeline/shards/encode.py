"""Encode: one bucket of the global order → samples in MDS shards, their texts, lengths and ledger lines.

scattered rows of the bucket ─▶ sort ─▶ tokenize ─▶ length rules ─┬▶ shard-*.mds
                                                                   ├▶ lengths.npy, counts of strata
                                                                   ├▶ curated.parquet
                                                                   └▶ ledger.arrow (sample = index in the bucket)
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
GUARD_BYTES = 2 * 2**20
"""Text of a build, about, whose ids from the fast engine are compared with the reference's, which is a hundred times
slower. Engines differ in how they normalize, split or merge some kind of text, so that what matters is that each part
of the order is seen: every bucket has its share."""
FEWEST_GUARDED, MOST_GUARDED = 8, 64
"""Bounds on the pairs of a bucket that are compared. A kind of text that one in a hundred pairs has is seen by one
bucket with a probability of 8 to 47 %, and by 64 buckets with one of more than 99 %."""
GROUP_BYTES = 2 * 2**20
"""Text of a row group of curated records, about: what is read to show one of them."""


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
    buckets: int
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
        if self.engine == FAST:
            mismatch = _guard(encoder, guarded(rows, GUARD_BYTES // self.buckets))
            if mismatch is not None:
                return EncodedBucket(mismatch=mismatch, strata={})
        ledger = LedgerPart(out)
        slices: list[Samples] = []
        strata: Counter[int] = Counter()
        curated = pq.ParquetWriter(out / self.CURATED, SCHEMA, compression="zstd") if rows.num_rows else None
        first = 0
        for begin in range(0, rows.num_rows, SLICE_ROWS):
            part = rows.slice(begin, SLICE_ROWS)
            encoded = self._encode(part, encoder)
            part = with_hex_ids(part)
            kept = part if encoded.kept.all() else part.filter(pa.array(encoded.kept))
            if curated is not None and kept.num_rows:
                group = max(1, kept.num_rows * GROUP_BYTES // kept.nbytes)
                curated.write_table(kept.select(SCHEMA.names), row_group_size=group)
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


def guarded(rows: pa.Table, size: int) -> pa.Table:
    """Return instructions and responses of evenly spread rows: `size` bytes, within the bounds on their number."""
    texts = rows.select(["instruction", "response"])
    number = min(max(size * rows.num_rows // max(texts.nbytes, 1), FEWEST_GUARDED), MOST_GUARDED)
    chosen = np.unique(np.linspace(0, rows.num_rows - 1, number).astype(np.int64)) if rows.num_rows else []
    return texts.take(pa.array(chosen, pa.int64()))


def _guard(encoder: Encoder, sample: pa.Table) -> str | None:
    """Compare both engines on some instructions and responses; see `Encoder.mismatch`."""
    for column in sample.column_names:
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
    kept, count = encoded.kept, part.num_rows
    outcome = np.where(kept, 0, np.where(encoded.short, 1, 2))
    numbers = np.where(kept, np.cumsum(kept) + (first - 1), -1)
    lines = part.select(["row_id", "source", "file", "row", "part"])
    lines = lines.append_column("outcome", pa.array(_OUTCOMES, pa.string()).take(pa.array(outcome)))
    lines = lines.append_column("stage", pa.repeat(pa.scalar(Encode.stage), count))
    lines = lines.append_column("detail", _details(encoded))
    return lines.append_column("sample", pa.array(numbers, mask=~kept))


_OUTCOMES = [Outcome.KEPT.value, Outcome.SHORT_RESPONSE.value, Outcome.TOO_MANY_TOKENS.value]


def _details(encoded: EncodedRows) -> pa.Array:
    """Return a phrase (n,) about each row that is dropped or truncated; null for the others."""
    truncated = encoded.kept & (encoded.prefix + encoded.response > encoded.max_tokens)
    rows = np.flatnonzero(truncated | ~encoded.kept)
    places = np.full(len(encoded.kept), -1, np.int64)
    places[rows] = np.arange(len(rows))
    lengths = pl.format("{} prefix and {} response tokens", pl.col("prefix"), pl.col("response"))
    details = pl.select(
        prefix=pl.Series(encoded.prefix[rows]),
        response=pl.Series(encoded.response[rows]),
        truncated=pl.Series(truncated[rows]),
        short=pl.Series(encoded.short[rows]),
    ).select(
        pl.when("truncated")
        .then(pl.format("{}, truncated to {} in all", lengths, pl.lit(encoded.max_tokens)))
        .when("short")
        .then(pl.format("{}; expected at least {} response tokens", lengths, pl.lit(encoded.min_response_tokens)))
        .otherwise(pl.format("{}; expected at most {}", lengths, pl.lit(encoded.max_tokens)))
    )
    return details.to_series().to_arrow().take(pa.array(places, mask=places < 0))
