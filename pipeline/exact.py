"""Exact duplicates: of equal pairs, all but one are dropped.

Keys are cut into buckets by their leading bits, so a bucket sees every copy of
its pairs over all partitions and fits in memory. The survivor of a group is
that of the earliest source, then of the longest response, then of the least row
id; it depends on nothing else, least of all on partitions or buckets.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.drops import Scope, empty_drops, write_drops
from pipeline.executor import Executor
from pipeline.ingest import KEYS, Ingest
from pipeline.progress import report
from pipeline.step import Step, folder

BUCKET_ROWS = 2**20


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
        keys, partitions, priority = self._load(work)
        lost, survivor = find_losers(keys, priority)
        drops = empty_drops(len(lost))
        drops["partition"], drops["index"] = partitions[lost], keys["index"][lost]
        drops["twin_high"], drops["twin_low"] = keys["id_high"][survivor], keys["id_low"][survivor]
        report(rows=len(keys))
        return {"rows": len(keys), **write_drops(out, drops, keys["bytes"][lost])}

    def _load(self, work: Path) -> tuple[NDArray[Any], NDArray[np.uint32], NDArray[np.uint32]]:
        begin, end = (2**64 * edge // self.buckets for edge in (self.bucket, self.bucket + 1))
        parts, partitions, priorities = [np.empty(0, KEYS)], [], []
        for partition, (order, key) in enumerate(self.inputs):
            for path in sorted(folder(work, Ingest.stage, key).glob("keys-*.npy")):
                run = np.load(path, mmap_mode="r")
                first, last = (bisect.bisect_left(run, edge, key=_high) for edge in (begin, end))
                parts.append(np.array(run[first:last]))
                partitions.append(np.full(len(parts[-1]), partition, np.uint32))
                priorities.append(np.full(len(parts[-1]), order, np.uint32))
        empty = [np.empty(0, np.uint32)]
        return np.concatenate(parts), np.concatenate(empty + partitions), np.concatenate(empty + priorities)


def _high(entry: Any) -> int:
    return int(entry["key_high"])


def find_losers(keys: NDArray[Any], priority: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every entry but the best of each group of equal keys.

    Parameters
    ----------
    keys
        `KEYS` (n,).
    priority
        uint32 (n,): place of an entry's source in the manifest; smaller wins.

    Returns
    -------
    lost, survivor
        int64 (m,): places in `keys` of those that lose, and of what each loses to.
    """
    order = np.argsort(keys["key_high"], kind="stable")
    high = keys["key_high"][order]
    equal = np.zeros(len(order), bool)
    equal[1:] = high[1:] == high[:-1]
    equal[:-1] |= equal[1:]
    few = order[equal]  # only these can have a twin
    group = keys[few]
    best_first = np.lexsort(
        (
            group["id_low"],
            group["id_high"],
            ~group["response"],  # longest first
            priority[few],
            group["key_low"],
            group["key_high"],
        )
    )
    few, group = few[best_first], group[best_first]
    first = np.ones(len(few), bool)
    first[1:] = (group["key_high"][1:] != group["key_high"][:-1]) | (group["key_low"][1:] != group["key_low"][:-1])
    survivor = np.maximum.accumulate(np.where(first, np.arange(len(few)), 0))
    return few[~first], few[survivor[~first]]


def _find(table: NDArray[Any], column: str, value: int) -> int:
    """First entry of a mapped table, sorted by `column`, that is not below `value`; touches only a few pages."""
    return bisect.bisect_left(table, value, key=lambda entry: int(entry[column]))


def drop_exact_duplicates(scopes: Sequence[Scope], executor: Executor) -> list[Scope]:
    """Each scope less the duplicates in it; steps have about `BUCKET_ROWS` keys each."""
    steps = []
    for scope in scopes:
        buckets = max(1, math.ceil(scope.live_rows / BUCKET_ROWS))
        inputs = tuple((part.order, part.key) for part in scope.parts)
        steps.append([ExactDuplicates(inputs=inputs, bucket=bucket, buckets=buckets) for bucket in range(buckets)])
    results = iter(executor.map([step for mine in steps for step in mine]))
    after = []
    for scope, mine in zip(scopes, steps, strict=True):
        drops = [(step.stage, step.key, Outcome.EXACT_DUPLICATE.value) for step in mine]
        after.append(scope.without(drops, list(islice(results, len(mine)))))
    return after
