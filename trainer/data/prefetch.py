"""Prefetching: shards of a remote dataset are fetched before the reader needs them, in the order of the plan.

    position of the reader ─▶ shards by first use, in this chunk and the next ─▶ the first `window` bytes, fetched

The ranks of a node follow the same plan. Each skips the shards that another one is fetching, so they divide the work.
A shard that cannot be fetched is left to the reader, which retries it and reports the cause.
"""

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from trainer.data.plan import Plan
from trainer.data.shards import ShardStore

THREADS = 8
"""Shards fetched at a time."""
POLL = 0.5
"""Seconds after which the cache is scanned again although the reader has not moved."""


class Prefetcher:
    """Fetches shards ahead of a reader, in threads, until it is closed.

    Parameters
    ----------
    store
        The shards.
    plan
        The order in which the reader needs them.
    epochs
        Epochs of the run; None: no end.
    window
        Bytes of shards, from the reader's position on, to keep in the cache.
    """

    def __init__(self, store: ShardStore, plan: Plan, *, epochs: int | None, window: int):
        self._store = store
        self._plan = plan
        self._epochs = epochs
        self._window = window
        self._position: tuple[int, int, int] | None = None
        self._moved = threading.Event()
        self._stop = False
        self._uses: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def at(self, epoch: int, chunk: int, batch: int) -> None:
        """Set the position of the reader."""
        self._position = epoch, chunk, batch
        self._moved.set()

    def close(self) -> None:
        """Stop the threads without waiting for them; downloads in progress may complete."""
        self._stop = True
        self._moved.set()

    def _run(self) -> None:
        while not self._stop:
            if not self._fetch(self._missing()[:THREADS]):
                self._moved.wait(POLL)
            self._moved.clear()

    def _fetch(self, numbers: list[int]) -> bool:
        """Attempt to fetch shards concurrently; return whether one was fetched.

        Daemon threads, since those of a pool would keep the process alive after the run.
        """
        fetched: list[bool] = []

        def fetch(number: int) -> None:
            fetched.append(self._store.prefetch(number))

        threads = [threading.Thread(target=fetch, args=(n,), name="prefetch", daemon=True) for n in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return any(fetched)

    def _missing(self) -> list[int]:
        """Shards within the window that are not cached, in order of first use."""
        if self._position is None:
            return []
        order = self._order(*self._position)
        self._store.expect({number: place for place, number in enumerate(order)})
        missing, size = [], 0
        for number in order:
            size += self._store.size(number)
            if size > self._window:
                break
            if not self._store.is_cached(number):
                missing.append(number)
        return missing

    def _order(self, epoch: int, chunk: int, batch: int) -> list[int]:
        """Shards in order of first use, from a batch of a chunk to the end of the next chunk."""
        uses = self._uses_of(epoch, chunk)
        coming = [uses[np.searchsorted(uses, batch * self._store.shards) :]]
        epoch, chunk = (epoch, chunk + 1) if chunk + 1 < self._plan.chunks else (epoch + 1, 0)
        if self._epochs is None or epoch < self._epochs:
            coming.append(self._uses_of(epoch, chunk))
        shards = np.concatenate(coming) % self._store.shards
        _, first = np.unique(shards, return_index=True)
        ordered: list[int] = shards[np.sort(first)].tolist()
        return ordered

    def _uses_of(self, epoch: int, chunk: int) -> NDArray[np.int64]:
        """int64, increasing: batch · shards + shard for each shard that a batch of a chunk needs."""
        key = epoch, chunk
        if key not in self._uses:
            planned = self._plan.chunk(epoch, chunk)
            counts = np.diff(planned.row_begins[:: planned.rows])
            batches = np.repeat(np.arange(planned.batches), counts)
            self._uses[key] = np.unique(batches * self._store.shards + self._store.shards_of(planned.samples))
            while len(self._uses) > 2:
                self._uses.popitem(last=False)
        return self._uses[key]
