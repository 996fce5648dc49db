"""Which sample stands in which row of which batch: the batch plan of an epoch.

The plan is a pure function of (dataset fingerprint, seed, epoch, global batch
tokens G, row length T, truncation). No rank, world size or worker count is in
it, so a run continues with the same batches on any number of devices.

    strata ──trainer.draw──▶ order of the epoch ──trainer.pack──▶ rows of T tokens, K = G/T rows a batch

The plan is kept on disk (`EpochPlan.open_or_build`) as memory-mapped arrays
under a name made of all inputs, checked by hash, and built again when it is
missing or damaged.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray

from trainer.draw import PlanError, Stratum, draw_order
from trainer.pack import pack_rows, target_tokens, total_lengths

PLAN_FORMAT = 1
"""Raised when the algorithm changes, so that plans of older code are not taken for new ones."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """Everything the batches depend on, besides the epoch."""

    fingerprint: str
    """Of the dataset (dataset.json)."""
    seed: int
    batch_tokens: int
    """G: tokens of a global batch."""
    row_tokens: int
    """T: tokens of a row."""
    truncate: bool
    """Whether a sample longer than a row loses the end of its response; otherwise it is an error."""

    @property
    def rows(self) -> int:
        """K: rows of a global batch."""
        return self.batch_tokens // self.row_tokens

    @property
    def key(self) -> str:
        """Hash of these inputs and of the plan's format: what a checkpoint must agree with."""
        text = json.dumps({"format": PLAN_FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def fit_lengths(lengths: NDArray[np.uint16], *, row_tokens: int, truncate: bool) -> NDArray[np.uint16]:
    """Prefix and response length of every sample as it is trained on.

    Parameters
    ----------
    lengths
        [N, 2]: prefix and response length, in tokens.
    row_tokens
        T: no sample may be longer.
    truncate
        Cut the response's end of longer samples instead of refusing them.

    Raises
    ------
    PlanError
        A sample is longer than a row (and may not be, or cannot be, truncated).
    """
    total = lengths.sum(axis=1, dtype=np.int32)
    long = np.flatnonzero(total > row_tokens)
    if not len(long):
        return lengths
    what = f"{len(long):,} of {len(lengths):,} samples are longer than a row of {row_tokens:,} tokens"
    if not truncate:
        raise PlanError(
            f"{what} (the longest, sample {int(total.argmax())}, has {int(total.max()):,}): set batch.row_tokens to at "
            f"least {int(total.max())}, or batch.truncate=true to cut the end of their responses"
        )
    prefix = lengths[long, 0].astype(np.int64)
    no_room = int((prefix >= row_tokens).sum())
    if no_room:
        raise PlanError(
            f"{what}, and {no_room:,} of them have no room for a response (sample {int(long[prefix.argmax()])} has a "
            f"prefix of {int(prefix.max()):,} tokens): set batch.row_tokens above {int(prefix.max())}"
        )
    fitted = lengths.copy()
    fitted[long, 1] = row_tokens - prefix
    return fitted


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochPlan:
    """The batches of one epoch. Row r of batch b is row b·K + r of the arrays."""

    rows: int
    """K: rows of a batch, padding rows of the last one included."""
    samples: NDArray[np.uint32]
    """[M] sample indices, row after row."""
    row_begins: I64
    """[batches·K + 1] where each row begins in `samples`; equal neighbours make a row of padding only."""
    targets: I64
    """[batches] target tokens of each batch: what its loss is divided by."""
    hash: str
    """Of the arrays: a checkpoint that counts batches must have counted these."""

    @property
    def batches(self) -> int:
        """Batches of the epoch."""
        return len(self.targets)

    def row(self, batch: int, row: int) -> NDArray[np.uint32]:
        """Samples of one row, in the order they stand in it."""
        place = batch * self.rows + row
        return self.samples[self.row_begins[place] : self.row_begins[place + 1]]

    def batch(self, batch: int) -> NDArray[np.uint32]:
        """Samples of one batch, row after row."""
        return self.samples[self.row_begins[batch * self.rows] : self.row_begins[(batch + 1) * self.rows]]

    def rows_of_rank(self, batch: int, lengths: NDArray[np.uint16], *, rank: int, world_size: int) -> list[int]:
        """Which rows of a batch a rank computes: as many for each rank, with the Σ length² of ranks balanced.

        Parameters
        ----------
        batch
            Number of the batch in the epoch.
        lengths
            [N, 2] as `fit_lengths` returns them.
        rank, world_size
            K must be a multiple of `world_size`.

        Returns
        -------
        list of int
            Rows in increasing order; over all ranks, each row once.
        """
        if self.rows % world_size:
            raise PlanError(
                f"{self.rows} rows of a batch cannot be shared by {world_size} ranks: set batch.tokens to a multiple "
                f"of {world_size} rows"
            )
        work = [int((lengths[self.row(batch, r)].sum(axis=1, dtype=np.int64) ** 2).sum()) for r in range(self.rows)]
        loads = [0] * world_size
        given: list[list[int]] = [[] for _ in range(world_size)]
        for r in sorted(range(self.rows), key=lambda r: -work[r]):
            open_ranks = (q for q in range(world_size) if len(given[q]) < self.rows // world_size)
            lightest = min(open_ranks, key=lambda q: loads[q])
            loads[lightest] += work[r]
            given[lightest].append(r)
        return sorted(given[rank])

    @classmethod
    def build(
        cls, inputs: PlanInputs, epoch: int, strata: Sequence[Stratum], lengths: NDArray[np.uint16]
    ) -> "EpochPlan":
        """Compute the plan of one epoch; `lengths` [N, 2] as `fit_lengths` returns them."""
        order = draw_order(strata, inputs.seed, epoch)
        if not len(order):
            raise PlanError("the dataset has no samples to draw: its strata are empty or capped to 0 per epoch")
        samples, row_ends = pack_rows(order, total_lengths(order, lengths), inputs.rows, inputs.row_tokens)
        row_begins = np.concatenate((np.zeros(1, np.int64), row_ends))
        targets = target_tokens(samples, lengths, row_begins[:: inputs.rows].copy())
        return cls(
            rows=inputs.rows,
            samples=samples,
            row_begins=row_begins,
            targets=targets,
            hash=_hash(samples, row_begins, targets),
        )

    @classmethod
    def open_or_build(
        cls, folder: Path, inputs: PlanInputs, epoch: int, strata: Sequence[Stratum], lengths: NDArray[np.uint16]
    ) -> "EpochPlan":
        """The plan of one epoch from `folder`, built and stored there if it is missing or damaged.

        Several processes may call this at once; one of them builds. Arrays are memory-mapped.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{inputs.key}-{epoch:04d}"
        with FileLock(f"{path}.lock"):
            plan = cls._open(path, inputs.rows)
            if plan is None:
                cls.build(inputs, epoch, strata, lengths)._write(path)
                plan = cls._open(path, inputs.rows)
        if plan is None:
            raise OSError(f"{path}: the plan does not read back as it was written; check the disk")
        return plan

    @classmethod
    def _open(cls, path: Path, rows: int) -> "EpochPlan | None":
        try:
            expected = json.loads((path / "plan.json").read_text())["hash"]
            names = ("samples", "row_begins", "targets")
            arrays = [np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names]
        except (OSError, EOFError, ValueError, KeyError):
            return None
        if _hash(*arrays) != expected:
            return None
        samples, row_begins, targets = arrays
        return cls(rows=rows, samples=samples, row_begins=row_begins, targets=targets, hash=expected)

    def _write(self, path: Path) -> None:
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for name in ("samples", "row_begins", "targets"):
            np.save(new / f"{name}.npy", getattr(self, name))
        (new / "plan.json").write_text(json.dumps({"hash": self.hash, "batches": self.batches}))
        shutil.rmtree(path, ignore_errors=True)
        new.rename(path)


def _hash(*arrays: NDArray[np.generic]) -> str:
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
