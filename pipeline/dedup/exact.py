"""Exact duplicates: of equal pairs, all but one are dropped.

Keys are cut into buckets by their leading bits, so a bucket sees every copy of
its pairs over all partitions. It goes through them twice, in parts that fit in
memory however often one pair occurs: to find the best of each group of equal
ones, then to drop the others. The best is that of the earliest source, then of
the longest response, then of the least row id; it depends on nothing else,
least of all on partitions or buckets.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.engine.budget import pieces
from pipeline.engine.executor import Executor
from pipeline.engine.progress import report
from pipeline.engine.step import Step, folder
from pipeline.ingest.step import KEYS, Ingest
from pipeline.records.drops import DropsWriter, Scope, empty_drops

PART_ROWS = 2**20
"""Keys examined at once."""
WORKING_COPIES = 4
"""Arrays of the size of a bucket's keys that are alive together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactDuplicates(Step):
    """Find the duplicates in one range of keys."""

    stage: ClassVar[str] = "exact"

    inputs: tuple[tuple[int, str], ...]
    """For each partition: the place of its source in the manifest, the key of its `Ingest`."""
    bucket: int
    buckets: int

    @property
    def partition(self) -> str:
        return f"key range {self.bucket + 1} of {self.buckets}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        best, priority = np.empty(0, KEYS), np.empty(0, np.uint32)
        rows = 0
        for _, keys, mine in self._parts(work):
            best, priority = survivors(np.concatenate([best, keys]), np.concatenate([priority, mine]))
            rows += len(keys)
        writer = DropsWriter(out)
        for partitions, keys, _ in self._parts(work):
            twin = best[places_in(best, keys)]
            lost = np.flatnonzero((twin["id_high"] != keys["id_high"]) | (twin["id_low"] != keys["id_low"]))
            lost = lost[np.lexsort((keys["index"][lost], partitions[lost]))]
            drops = empty_drops(len(lost))
            drops["partition"], drops["index"] = partitions[lost], keys["index"][lost]
            drops["twin_high"], drops["twin_low"] = twin["id_high"][lost], twin["id_low"][lost]
            writer.add(drops, keys["bytes"][lost])
        report(rows=rows)
        return {"rows": rows, **writer.close()}

    def _parts(self, work: Path) -> Iterator[tuple[NDArray[np.uint32], NDArray[Any], NDArray[np.uint32]]]:
        """This bucket's keys in parts of about `PART_ROWS`, by partition and index: partitions, keys, priorities."""
        begin, end = (2**64 * edge // self.buckets for edge in (self.bucket, self.bucket + 1))
        waiting: list[NDArray[Any]] = []
        partitions: list[int] = []
        rows = 0
        for partition, (_, key) in enumerate(self.inputs):
            for path in sorted(folder(work, Ingest.stage, key).glob("keys-*.npy")):
                run = np.load(path, mmap_mode="r")
                first, last = (bisect.bisect_left(run, edge, key=_high) for edge in (begin, end))
                waiting.append(np.array(run[first:last]))
                partitions.append(partition)
                rows += last - first
                if rows >= PART_ROWS:
                    yield self._part(waiting, partitions)
                    waiting, partitions, rows = [], [], 0
        yield self._part(waiting, partitions)

    def _part(
        self, runs: list[NDArray[Any]], partitions: list[int]
    ) -> tuple[NDArray[np.uint32], NDArray[Any], NDArray[np.uint32]]:
        orders = [self.inputs[partition][0] for partition in partitions]
        sizes = [len(run) for run in runs]
        numbers, priorities = (np.repeat(np.array(values, np.uint32), sizes) for values in (partitions, orders))
        return numbers, np.concatenate([np.empty(0, KEYS), *runs]), priorities


def _high(entry: Any) -> int:
    return int(entry["key_high"])


def survivors(keys: NDArray[Any], priority: NDArray[np.uint32]) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    """The best of each group of equal keys.

    Parameters
    ----------
    keys
        `KEYS` (n,).
    priority
        uint32 (n,): place of an entry's source in the manifest; smaller wins.

    Returns
    -------
    keys, priority
        Those of the best, (m,), sorted by key.
    """
    longest_first = ~keys["response"]
    order = np.lexsort((keys["id_low"], keys["id_high"], longest_first, priority, keys["key_low"], keys["key_high"]))
    high, low = keys["key_high"][order], keys["key_low"][order]
    first = np.ones(len(order), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    best = order[first]
    return keys[best], priority[best]


def places_in(best: NDArray[Any], keys: NDArray[Any]) -> NDArray[np.int64]:
    """Place (n,) in `best`, sorted by key and without equal ones, of each of `keys` (n,); all of them are there."""
    places = np.searchsorted(np.ascontiguousarray(best["key_high"]), keys["key_high"])
    low = best["key_low"]
    # Different keys rarely share their upper half.
    while len(wrong := np.flatnonzero(low[places] != keys["key_low"])):
        places[wrong] += 1
    return places


def drop_exact_duplicates(scopes: Sequence[Scope], executor: Executor) -> list[Scope]:
    """Each scope less the duplicates in it."""
    steps = []
    for scope in scopes:
        buckets = pieces(WORKING_COPIES * KEYS.itemsize * scope.live_rows)
        inputs = tuple((part.order, part.key) for part in scope.parts)
        steps.append([ExactDuplicates(inputs=inputs, bucket=bucket, buckets=buckets) for bucket in range(buckets)])
    results = iter(executor.map([step for mine in steps for step in mine]))
    after = []
    for scope, mine in zip(scopes, steps, strict=True):
        drops = [(step.stage, step.key, Outcome.EXACT_DUPLICATE.value) for step in mine]
        after.append(scope.without(drops, list(islice(results, len(mine)))))
    return after
