"""Encode: one bucket of the global order → samples in MDS shards, their texts, lengths and ledger lines.

scattered rows of the bucket ─▶ sort ─▶ tokenize ─▶ length rules ─┬▶ shard-*.mds + shards.json
                                                                   ├▶ lengths.npy, strata counts
                                                                   ├▶ curated.parquet
                                                                   └▶ ledger.parquet (sample = index in the bucket)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numba
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.contract import CONDITION_TAGS, END_OF_PREFIX, END_OF_RESPONSE, START, order_conditions
from corpus.outcome import Outcome
from corpus.record import SCHEMA
from pipeline.engine.progress import report
from pipeline.engine.step import Step, folder
from pipeline.ingest.step import id_halves
from pipeline.records.ledger import LedgerPart
from pipeline.records.seeds import keyed_hash
from pipeline.shards import mds
from pipeline.shards.shuffle import bucket_rows
from pipeline.shards.tokenizer import FAST, FILE, TOKENIZER_STAGE, Encoder, load_encoder

SLICE_ROWS = 16_384
"""Rows tokenized at once."""
GUARD_ROWS = 64
"""Texts per bucket of which the fast engine's ids are compared with the reference's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encode(Step):
    """Tokenize one bucket and cut it into shards."""

    stage: ClassVar[str] = "encode"

    inputs: tuple[str, ...]
    """Keys of all `Scatter`s."""
    tokenizer: str
    """Key of the tokenizer's step."""
    bucket: int
    seed: int
    engine: str
    max_tokens: int
    overlong: str
    min_response_tokens: int
    shard_size: int

    @property
    def partition(self) -> str:
        return f"bucket {self.bucket + 1}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        tokenizer = (folder(work, TOKENIZER_STAGE, self.tokenizer) / FILE).read_text(encoding="utf-8")
        encoder = load_encoder(tokenizer, self.engine)
        rows = self._sorted(bucket_rows(work, self.inputs, self.bucket))
        if self.engine == FAST and (mismatch := _guard(encoder, rows)) is not None:
            return {"mismatch": mismatch}
        ledger = LedgerPart(out)
        samples: list[Samples] = []
        strata: dict[str, int] = {}
        curated = pq.ParquetWriter(out / "curated.parquet", SCHEMA, compression="zstd") if rows.num_rows else None
        first = 0
        for begin in range(0, rows.num_rows, SLICE_ROWS):
            part = rows.slice(begin, SLICE_ROWS)
            encoded = self._encode(part, encoder)
            kept = part.filter(pa.array(encoded.kept))
            if curated is not None:
                curated.write_table(kept.select(SCHEMA.names))
            ledger.write(_lines(part, encoded, first))
            for stratum, count in zip(*np.unique(kept.column("stratum").to_numpy(), return_counts=True), strict=True):
                strata[str(stratum)] = strata.get(str(stratum), 0) + int(count)
            first += kept.num_rows
            samples.append(encoded.samples)
            report(rows=part.num_rows, tokens=len(encoded.samples.tokens))
        if curated is not None:
            curated.close()
        ledger.close()
        lengths = np.concatenate([np.empty((0, 2), np.uint16), *(part.lengths for part in samples)])
        np.save(out / "lengths.npy", lengths)
        shards = self._write_shards(out, samples, lengths)
        totals = lengths.sum(axis=0, dtype=np.int64).tolist()
        return {
            "mismatch": None,
            "kept": len(lengths),
            "prefix_tokens": totals[0],
            "response_tokens": totals[1],
            "max_tokens": int(lengths.sum(axis=1, dtype=np.int64).max(initial=0)),
            "strata": strata,
            "shards": shards,
            "curated": file_facts((out / "curated.parquet").read_bytes()) if curated is not None and first else None,
        }

    def _sorted(self, rows: pa.Table) -> pa.Table:
        high, low = id_halves(rows.column("row_id"))
        order = keyed_hash(high, low, seed=self.seed, purpose="shuffle")
        return rows.take(pa.array(np.lexsort((low, high, order, rows.column("stratum").to_numpy()))))

    def _encode(self, part: pa.Table, encoder: Encoder) -> "Encoded":
        special = encoder.special
        instructions, instruction_bounds = encoder.encode(part.column("instruction").to_pylist())
        responses, response_bounds = encoder.encode(part.column("response").to_pylist())
        tags, tag_bounds = _tags(part.column("condition"), special)
        prefix = 2 + np.diff(tag_bounds) + np.diff(instruction_bounds)
        full = 1 + np.diff(response_bounds)
        room = self.max_tokens - prefix
        long = full > room
        response = np.minimum(full, room) if self.overlong == "truncate" else full
        short = full < self.min_response_tokens
        unfit = ~short & long & ((response < self.min_response_tokens) | (self.overlong == "drop"))
        kept = ~short & ~unfit
        lengths = np.stack([prefix, response], axis=1)
        ids = np.frombuffer(bytes.fromhex("".join(part.column("row_id").to_pylist())), np.uint8).reshape(-1, 16)
        tokens = _join(
            np.flatnonzero(kept),
            lengths,
            (instructions, instruction_bounds),
            (responses, response_bounds),
            (tags, tag_bounds),
            (special[START], special[END_OF_PREFIX], special[END_OF_RESPONSE]),
        )
        return Encoded(
            kept=kept,
            short=short,
            prefix=prefix,
            response=full,
            max_tokens=self.max_tokens,
            min_response_tokens=self.min_response_tokens,
            samples=Samples(tokens=tokens, lengths=lengths[kept].astype(np.uint16), row_ids=ids[kept]),
        )

    def _write_shards(self, out: Path, samples: "list[Samples]", lengths: NDArray[np.uint16]) -> list[dict[str, Any]]:
        if len(lengths) == 0:
            return []
        tokens = np.concatenate([part.tokens for part in samples])
        row_ids = np.concatenate([part.row_ids for part in samples])
        sizes = lengths.sum(axis=1, dtype=np.int64)
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        shards: list[dict[str, Any]] = []
        for begin, end in mds.cut(sizes, self.shard_size):
            content = mds.shard(
                tokens[bounds[begin] : bounds[end]],
                bounds[begin : end + 1] - bounds[begin],
                lengths[begin:end, 0],
                row_ids[begin:end],
                self.shard_size,
            )
            name = f"shard-{len(shards):05}.mds"
            (out / name).write_bytes(content)
            entry = mds.index_entry(content, end - begin, name, self.shard_size)
            shards.append({"entry": entry, **file_facts(content)})
        return shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Finished samples."""

    tokens: NDArray[np.uint16]
    """Tokens of all samples, one after the other."""
    lengths: NDArray[np.uint16]
    """(n, 2): prefix length, response length."""
    row_ids: NDArray[np.uint8]
    """(n, 16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the length rules say about some rows, and the samples that they leave."""

    kept: NDArray[np.bool_]
    short: NDArray[np.bool_]
    """Too few response tokens; what is neither kept nor short has too many tokens."""
    prefix: NDArray[np.int64]
    response: NDArray[np.int64]
    """Lengths before truncation."""
    max_tokens: int
    min_response_tokens: int
    samples: Samples


def file_facts(content: bytes) -> dict[str, Any]:
    """Size and sha256 of a file's content, as `dataset.json` records them."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _guard(encoder: Encoder, rows: pa.Table) -> str | None:
    """Compare both engines on rows spread evenly over the shuffled bucket."""
    chosen = np.unique(np.linspace(0, rows.num_rows - 1, GUARD_ROWS).astype(np.int64)) if rows.num_rows else []
    sample = rows.take(pa.array(chosen, pa.int64()))
    for column in ("instruction", "response"):
        texts = sample.column(column).to_pylist()
        ids, bounds = encoder.encode(texts)
        if (mismatch := encoder.mismatch(texts, ids, bounds)) is not None:
            return mismatch
    return None


def _tags(conditions: pa.ChunkedArray, special: Mapping[str, int]) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Condition tags of all rows, one after the other, and the bounds of each; there are few distinct combinations."""
    series = pl.from_arrow(conditions)
    assert isinstance(series, pl.Series)
    names = series.list.join(" ").fill_null("")
    combinations = {
        name: [special[CONDITION_TAGS[c]] for c in order_conditions(name.split())] for name in names.unique()
    }
    counts = names.replace_strict({name: len(ids) for name, ids in combinations.items()}, return_dtype=pl.Int64)
    bounds = np.concatenate([[0], np.cumsum(counts.to_numpy())]).astype(np.int64)
    if bounds[-1] == 0:
        return np.empty(0, np.uint16), bounds
    flat = names.replace_strict(combinations, return_dtype=pl.List(pl.Int64)).explode().drop_nulls()
    return flat.to_numpy().astype(np.uint16), bounds


_Ragged = tuple[NDArray[np.uint16], NDArray[np.int64]]


@numba.njit(cache=True, nogil=True)
def _join(
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    instructions: _Ragged,
    responses: _Ragged,
    tags: _Ragged,
    marks: tuple[int, int, int],
) -> NDArray[np.uint16]:
    """Tokens of the samples `rows`: start, tags, instruction, end of prefix; response, end of response if it fits."""
    total = 0
    for row in rows:
        total += lengths[row, 0] + lengths[row, 1]
    out = np.empty(total, np.uint16)
    at = 0
    for row in rows:
        out[at] = marks[0]
        at += 1
        for source, bounds in (tags, instructions):
            size = bounds[row + 1] - bounds[row]
            out[at : at + size] = source[bounds[row] : bounds[row + 1]]
            at += size
        out[at] = marks[1]
        at += 1
        source, bounds = responses
        whole = bounds[row + 1] - bounds[row]
        size = min(whole, lengths[row, 1])
        out[at : at + size] = source[bounds[row] : bounds[row] + size]
        at += size
        if lengths[row, 1] > whole:
            out[at] = marks[2]
            at += 1
    return out


def _lines(part: pa.Table, encoded: Encoded, first: int) -> pa.Table:
    """Ledger lines of all rows of a slice; `first` is the index of its first sample in the bucket."""
    frame = pl.from_arrow(part.select(["row_id", "source", "file", "row", "part"]))
    assert isinstance(frame, pl.DataFrame)
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
            .then(
                pl.format("{}; at least {} response tokens are asked for", lengths, pl.lit(encoded.min_response_tokens))
            )
            .when(~pl.col("kept"))
            .then(pl.format("{}; a sample may have {}", lengths, pl.lit(encoded.max_tokens))),
            sample=pl.when("kept").then(pl.col("kept").cast(pl.Int64).cum_sum() + (first - 1)),
        )
        .select("row_id", "source", "file", "row", "part", "outcome", "stage", "detail", "sample")
        .to_arrow()
    )
