"""Shards of a remote dataset, fetched in the order in which the plan will need them.

    place in the plan ─▶ shards by first use, in this chunk and the next ─▶ those within `window` bytes, if not here

Ranks of a node walk the same plan. A shard that one of them is fetching the
others leave alone, so they divide the work among them. What cannot be fetched is
left to the reader, which tries until its deadline and then says why.
"""

import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from trainer.data.plan import Plan
from trainer.data.shards import ShardStore

THREADS = 8
"""Shards that are fetched at a time."""
PATIENCE = 0.5
"""Seconds after which the cache is looked at again although the reader has not moved."""


class Prefetcher:
    """Fetches ahead of a reader, in threads, until it is closed.

    Parameters
    ----------
    store, plan
        What is fetched, and in which order.
    epochs
        Epochs of the run; None: without end.
    window
        Bytes of the shards, from the reader's place on, that are to be on this machine.
    """

    def __init__(self, store: ShardStore, plan: Plan, *, epochs: int | None, window: int):
        self._store = store
        self._plan = plan
        self._epochs = epochs
        self._window = window
        self._place: tuple[int, int, int] | None = None
        self._moved = threading.Event()
        self._stop = False
        self._uses: OrderedDict[tuple[int, int], NDArray[np.int64]] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def at(self, epoch: int, chunk: int, batch: int) -> None:
        """Tell where the reader is."""
        self._place = epoch, chunk, batch
        self._moved.set()

    def close(self) -> None:
        """End the threads, without waiting; what they are fetching may come to its end."""
        self._stop = True
        self._moved.set()

    def _run(self) -> None:
        while not self._stop:
            if not self._fetch(self._missing()[:THREADS]):
                self._moved.wait(PATIENCE)
            self._moved.clear()

    def _fetch(self, numbers: list[int]) -> bool:
        """Try to fetch some shards at once; whether one came. A pool's threads would outlive the end of the run."""
        came: list[bool] = []

        def fetch(number: int) -> None:
            came.append(self._store.prefetch(number))

        threads = [threading.Thread(target=fetch, args=(n,), name="prefetch", daemon=True) for n in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return any(came)

    def _missing(self) -> list[int]:
        """Shards to fetch, the next needed first."""
        if self._place is None:
            return []
        order = self._order(*self._place)
        self._store.expect({number: place for place, number in enumerate(order)})
        missing, size = [], 0
        for number in order:
            size += self._store.size(number)
            if size > self._window:
                break
            if not self._store.is_here(number):
                missing.append(number)
        return missing

    def _order(self, epoch: int, chunk: int, batch: int) -> list[int]:
        """Shards by their first use from a batch on."""
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
        """Which shards each batch of a chunk needs: batch · shards + shard, increasing."""
        key = epoch, chunk
        if key not in self._uses:
            planned = self._plan.chunk(epoch, chunk)
            counts = np.diff(planned.row_begins[:: planned.rows])
            batches = np.repeat(np.arange(planned.batches), counts)
            self._uses[key] = np.unique(batches * self._store.shards + self._store.shards_of(planned.samples))
            while len(self._uses) > 2:
                self._uses.popitem(last=False)
        return self._uses[key]
