"""Batches for one rank, in plan order, prepared ahead of the model by a thread.

    data.plan ─ rows of this rank ─▶ data.shards ─ samples ─▶ PackedBatch ─ bounded queue ─▶ trainer.loop

A checkpoint does not contain the position of the loader, only that of the loop, which counts optimizer steps.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from model.batch import IGNORE, PackedBatch
from trainer.config import Objective
from trainer.data.plan import Chunk, Plan
from trainer.data.prefetch import Prefetcher
from trainer.data.shards import ShardStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Data of one optimizer step on one rank."""

    epoch: int
    chunk: int
    index: int
    """Index of the batch in the chunk of the epoch."""
    batch: PackedBatch
    """This rank's rows."""
    targets: int
    """Target tokens of the global batch."""
    tokens: int
    """Input tokens of the global batch: positions without padding."""
    plan_hash: str
    """Hash of the chunk's plan."""


def pack_batch(
    chunk: Chunk,
    index: int,
    rows: list[int],
    store: ShardStore,
    lengths: NDArray[np.uint16],
    row_tokens: int,
    objective: Objective = "response",
) -> PackedBatch:
    """Pack some rows of a batch into tensors; the last token of a sample is a label and no input.

    Parameters
    ----------
    chunk, index, rows
        The batch of the plan, and the rows of it.
    store
        Reader of samples.
    lengths
        [N, 2] prefix and response length of each sample, as `trainer.data.plan.fit_lengths` returns them.
    row_tokens
        T: positions of a row.
    objective
        Which tokens are targets.
    """
    shape = (len(rows), row_tokens)
    tokens = np.zeros(shape, np.int64)
    labels = np.full(shape, IGNORE, np.int64)
    positions = np.zeros(shape, np.int64)
    segments = []
    for r, row in enumerate(rows):
        begin = 0
        for sample in chunk.row(index, row):
            stored = store.read(int(sample))
            length = stored.prefix_len + int(lengths[sample, 1]) - 1
            end = begin + length
            tokens[r, begin:end] = stored.tokens[:length]
            first = stored.prefix_len if objective == "response" else 1
            labels[r, begin + first - 1 : end] = stored.tokens[first : length + 1]
            positions[r, begin:end] = np.arange(length)
            segments.append((r, begin, min(stored.prefix_len, length), length))  # a response may be empty
            begin = end
    return PackedBatch(
        tokens=torch.from_numpy(tokens),
        labels=torch.from_numpy(labels),
        position_ids=torch.from_numpy(positions),
        segments=torch.from_numpy(np.array(segments, np.int32).reshape(-1, 4)),
    )


class Loader:
    """Iterator over the steps of a run from a position on, for one rank.

    Errors of the thread are raised by the iterator. `close`, or leaving the context of the loader, ends the thread.

    Parameters
    ----------
    plan
        Batches of the run.
    store, lengths
        Reader of samples, and their lengths, as in `pack_batch`.
    epochs
        Epochs of the run; None: endless.
    epoch, chunk, next_batch
        First batch.
    rank, world_size
        Whose rows of a batch are loaded.
    prefetch_batches
        Number of batches prepared ahead.
    prefetch_bytes
        Bytes of shards of a remote dataset that are fetched ahead.
    device
        Device of the model. For CUDA, batches are put into page-locked memory, which is copied from asynchronously.
    objective
        Which tokens are targets.
    """

    def __init__(
        self,
        plan: Plan,
        store: ShardStore,
        lengths: NDArray[np.uint16],
        *,
        epochs: int | None,
        epoch: int,
        chunk: int,
        next_batch: int,
        rank: int,
        world_size: int,
        prefetch_batches: int,
        prefetch_bytes: int,
        device: torch.device,
        objective: Objective = "response",
    ):
        self._plan = plan
        self._store = store
        self._lengths = lengths
        self._epochs = epochs
        self._start = (epoch, chunk, next_batch)
        self._rank = rank
        self._world_size = world_size
        self._objective = objective
        self._device = device
        self._queue: queue.Queue[Step | BaseException | None] = queue.Queue(maxsize=prefetch_batches)
        self._stop = threading.Event()
        self._prefetcher = Prefetcher(store, plan, epochs=epochs, window=prefetch_bytes) if store.remote else None
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether the iterator will return or raise without blocking, after waiting at most this long."""
        with self._queue.not_empty:
            return bool(self._queue.not_empty.wait_for(lambda: self._queue.queue, seconds))

    def __iter__(self) -> Iterator[Step]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the thread and drop prepared batches; does not wait for a fetch in progress."""
        self._stop.set()
        if self._prefetcher is not None:
            self._prefetcher.close()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)
            for step in self._steps():
                if not self._put(step):
                    return
            self._put(None)
        except BaseException as error:  # raised by the iterator
            self._put(error)

    def _put(self, item: Step | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _steps(self) -> Iterator[Step]:
        epoch, first, index = self._start
        while self._epochs is None or epoch < self._epochs:
            for number in range(first, self._plan.chunks):
                chunk = self._plan.chunk(epoch, number)
                for batch in range(index, chunk.batches):
                    yield self._step(epoch, number, chunk, batch)
                index = 0
            epoch, first = epoch + 1, 0

    def _step(self, epoch: int, number: int, chunk: Chunk, index: int) -> Step:
        if self._prefetcher is not None:
            self._prefetcher.at(epoch, number, index)
        samples = chunk.batch(index)
        # Samples of all ranks, so that a missing shard stops every rank at the same batch and with the reason.
        self._store.require(samples)
        rows = chunk.rows_of_rank(index, self._lengths, rank=self._rank, world_size=self._world_size)
        row_tokens = self._plan.inputs.row_tokens
        batch = pack_batch(chunk, index, rows, self._store, self._lengths, row_tokens, self._objective)
        if self._device.type == "cuda":
            batch = PackedBatch(**{f.name: getattr(batch, f.name).pin_memory() for f in fields(batch)})
        tokens = int(self._lengths[samples].sum(dtype=np.int64)) - len(samples)
        return Step(
            epoch=epoch,
            chunk=number,
            index=index,
            batch=batch,
            targets=int(chunk.targets[index]) if self._objective == "response" else tokens,
            tokens=tokens,
            plan_hash=chunk.hash,
        )
