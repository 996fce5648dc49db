"""Batch plan of a run: the samples of every row of every batch.

The plan is a pure function of (dataset fingerprint, seed, epoch, global batch
tokens G, row length T, truncation). It does not depend on rank, world size or
worker count, so a run continues with the same batches on any number of devices.

A sample of n tokens takes n - 1 positions of a row: its last token, the end tag, is a target and
never an input, so it has no position of its own.

    strata ──trainer.data.draw──▶ order of a chunk ──trainer.data.pack──▶ rows of T tokens, K = G/T per batch

An epoch is planned in chunks of about `CHUNK_BATCHES` batches, each from its own
share of every stratum and independent of the others. So a run starts or resumes
after planning one chunk, and memory is that of a chunk, however large the epoch.
The cost is one partly filled batch per chunk.

Chunks are stored on disk under the hash of all inputs, verified by their own hash,
and planned again when they are missing or damaged.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray

from trainer.data.draw import PlanError, Stratum, draw_order
from trainer.data.pack import pack_rows, positions, share_rows, square_sums, target_tokens

PLAN_FORMAT = 4
"""Version of the algorithm; part of the key, so that plans of other versions are not used."""
CHUNK_BATCHES = 2048
"""Approximate number of batches of a chunk, of which the last one is partly filled."""
CHUNK_SAMPLES = 1 << 22
"""Largest number of samples of a chunk; bounds memory and the time to the first batch."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """Everything that determines the batches, besides the epoch."""

    fingerprint: str
    """Fingerprint of the dataset (dataset.json)."""
    seed: int
    batch_tokens: int
    """G: positions of a global batch."""
    row_tokens: int
    """T: positions of a row."""
    truncate: bool
    """Whether the end of the response of a sample that does not fit into a row is cut; otherwise it is an error."""

    @property
    def rows(self) -> int:
        """K: rows of a global batch."""
        return self.batch_tokens // self.row_tokens

    @property
    def key(self) -> str:
        """Hash of these inputs and of `PLAN_FORMAT`, which a checkpoint must match."""
        text = json.dumps({"format": PLAN_FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def fit_lengths(lengths: NDArray[np.uint16], *, row_tokens: int, truncate: bool) -> NDArray[np.uint16]:
    """Compute the prefix and response length of every sample as it is trained on.

    Parameters
    ----------
    lengths
        [N, 2]: prefix and response length, in tokens.
    row_tokens
        T: no sample may have more than T + 1, the last of which is only a target.
    truncate
        Cut the end of the response of longer samples instead of refusing them.

    Raises
    ------
    PlanError
        A sample does not fit into a row, and `truncate` is not set or its prefix alone is longer than the row.
    """
    long = np.concatenate(
        [
            begin + np.flatnonzero(_positions(lengths[begin : begin + _BLOCK]) > row_tokens)
            for begin in range(0, len(lengths), _BLOCK)
        ]
        or [np.empty(0, np.int64)]
    )
    if not len(long):
        return lengths
    taken = _positions(lengths[long])
    what = f"{len(long):,} of {len(lengths):,} samples do not fit into a row of {row_tokens:,} positions"
    if not truncate:
        raise PlanError(
            f"{what} (the longest, sample {int(long[taken.argmax()])}, takes {int(taken.max()):,}): set "
            f"batch.row_tokens to at least {int(taken.max())}, batch.truncate=true to cut the end of their "
            f"responses, or build the dataset with samples.overlong=drop and samples.max_tokens={row_tokens}"
        )
    prefix = lengths[long, 0].astype(np.int64)
    no_room = int((prefix > row_tokens).sum())
    if no_room:
        raise PlanError(
            f"{what}, and {no_room:,} of them have no room for a response (sample {int(long[prefix.argmax()])} has a "
            f"prefix of {int(prefix.max()):,} tokens): set batch.row_tokens to at least {int(prefix.max())}, or leave "
            f"long samples out: build the dataset with samples.overlong=drop and samples.max_tokens={row_tokens}"
        )
    fitted = lengths.copy()
    fitted[long, 1] = row_tokens + 1 - prefix
    return fitted


_BLOCK = 1 << 20
"""Samples whose lengths are checked at once; bounds memory."""


def _positions(lengths: NDArray[np.uint16]) -> NDArray[np.int32]:
    return lengths[:, 0].astype(np.int32) + lengths[:, 1] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Plan of consecutive batches of an epoch. Row r of batch b is row b·K + r of the arrays."""

    rows: int
    """K: rows of a batch, padding rows of the last one included."""
    samples: NDArray[np.uint32]
    """[M] sample indices, row by row."""
    row_begins: I64
    """[batches·K + 1] begin of each row in `samples`; equal neighbours are a row of padding only."""
    targets: I64
    """[batches] response tokens of each batch, by which its loss is divided."""
    hash: str
    """Hash of the arrays, which a checkpoint must match."""

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self.targets)

    def row(self, batch: int, row: int) -> NDArray[np.uint32]:
        """Samples of a row, in order."""
        place = batch * self.rows + row
        return self.samples[self.row_begins[place] : self.row_begins[place + 1]]

    def batch(self, batch: int) -> NDArray[np.uint32]:
        """Samples of a batch, row by row."""
        return self.samples[self.row_begins[batch * self.rows] : self.row_begins[(batch + 1) * self.rows]]

    def rows_of_rank(self, batch: int, lengths: NDArray[np.uint16], *, rank: int, world_size: int) -> list[int]:
        """Select the rows of a batch for a rank: equal numbers for all ranks, balanced by Σ positions².

        Parameters
        ----------
        batch
            Index of the batch in the chunk.
        lengths
            [N, 2] as `fit_lengths` returns them.
        rank, world_size
            K must be a multiple of `world_size`.

        Returns
        -------
        list of int
            Rows in increasing order; each row belongs to one rank.

        Raises
        ------
        PlanError
            It is not.
        """
        if self.rows % world_size:
            raise PlanError(
                f"{self.rows} rows of a batch cannot be shared by {world_size} ranks: set batch.tokens to a multiple "
                f"of {world_size} rows"
            )
        begins = self.row_begins[batch * self.rows : (batch + 1) * self.rows + 1]
        owner = share_rows(square_sums(self.samples, lengths, begins), world_size)
        return [int(row) for row in np.flatnonzero(owner == rank)]


class Plan:
    """The batches of all epochs of a run.

    Parameters
    ----------
    inputs
        Everything that determines the batches.
    strata, lengths
        Those of the dataset; `lengths` [N, 2] as `fit_lengths` returns them.
    folder
        Folder that stores chunks for other processes and later runs; None: they are not stored.

    Raises
    ------
    PlanError
        No stratum has a sample to draw.
    """

    def __init__(
        self, inputs: PlanInputs, strata: Sequence[Stratum], lengths: NDArray[np.uint16], folder: Path | None = None
    ):
        self.inputs = inputs
        self._strata = strata
        self._lengths = lengths
        self._folder = folder
        self.draws = sum(stratum.per_epoch for stratum in strata)
        """Number of draws of an epoch."""
        if not self.draws:
            raise PlanError("the dataset has no samples to draw: its strata are empty or capped to 0 per epoch")
        self.tokens = sum(_first_epoch(stratum, lengths) for stratum in strata if stratum.per_epoch)
        """Positions of the first epoch, without padding; those of others differ a little if strata are capped."""
        self.chunks = max(
            1, round(self.tokens / (CHUNK_BATCHES * inputs.batch_tokens)), -(-self.draws // CHUNK_SAMPLES)
        )
        """Number of chunks of an epoch."""
        self.chunk = lru_cache(maxsize=4)(self._chunk)  # those of loop, loader and prefetcher, and the first

    @property
    def batches(self) -> int:
        """Approximate number of batches of an epoch, as if all chunks had as many as the first."""
        return self.chunks * self.chunk(0, 0).batches

    def ends(self, epoch: int, chunk: int, batch: int) -> bool:
        """Whether an epoch has no batch at or after this one."""
        return chunk >= self.chunks - 1 and batch >= self.chunk(epoch, chunk).batches

    def _chunk(self, epoch: int, number: int) -> Chunk:
        """Read a chunk of an epoch, or plan and store it; safe to call from several processes at once."""
        if self._folder is None:
            return self._plan_chunk(epoch, number)
        folder = self._folder / self.inputs.key
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{epoch:04d}-{number:05d}.npz"
        with FileLock(folder / "lock"):
            chunk = _read(path, self.inputs.rows)
            if chunk is None:
                chunk = self._plan_chunk(epoch, number)
                _write(chunk, path)
        return chunk

    def _plan_chunk(self, epoch: int, number: int) -> Chunk:
        inputs = self.inputs
        order = draw_order(self._strata, inputs.seed, epoch, chunk=number, chunks=self.chunks)
        samples, row_ends = pack_rows(order, positions(order, self._lengths), inputs.rows, inputs.row_tokens)
        row_begins = np.concatenate((np.zeros(1, np.int64), row_ends))
        targets = target_tokens(samples, self._lengths, row_begins[:: inputs.rows].copy())
        return Chunk(
            rows=inputs.rows,
            samples=samples,
            row_begins=row_begins,
            targets=targets,
            hash=_hash(samples, row_begins, targets),
        )


def _first_epoch(stratum: Stratum, lengths: NDArray[np.uint16]) -> int:
    """Positions of what the first epoch draws of a stratum: its first samples, after whole passes if it is repeated."""
    passes, rest = divmod(stratum.per_epoch, stratum.samples)
    whole, part = (
        int(lengths[stratum.begin : stratum.begin + count].sum(dtype=np.int64)) - count
        for count in (stratum.samples, rest)
    )
    return passes * whole + part


def _read(path: Path, rows: int) -> Chunk | None:
    """Read a stored chunk; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = [stored[name] for name in ("samples", "row_begins", "targets")]
            expected = str(stored["hash"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None
    if _hash(*arrays) != expected:
        return None
    samples, row_begins, targets = arrays
    return Chunk(rows=rows, samples=samples, row_begins=row_begins, targets=targets, hash=expected)


def _write(chunk: Chunk, path: Path) -> None:
    new = path.with_suffix(f".{os.getpid()}.new")
    with new.open("wb") as file:
        np.savez(file, samples=chunk.samples, row_begins=chunk.row_begins, targets=chunk.targets, hash=chunk.hash)
    new.replace(path)


def _hash(*arrays: NDArray[np.generic]) -> str:
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
