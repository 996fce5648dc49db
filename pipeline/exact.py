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
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest import KEYS, Ingest
from pipeline.progress import report
from pipeline.step import Step, folder

BUCKET_ROWS = 2**20

LOSERS = np.dtype([("partition", np.uint32), ("index", np.uint32), ("twin_high", np.uint64), ("twin_low", np.uint64)])
"""A record that is dropped, and the row id of its survivor."""


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
        order = np.lexsort((keys["index"][lost], partitions[lost]))
        lost, survivor = lost[order], survivor[order]
        losers = np.empty(len(lost), LOSERS)
        losers["partition"], losers["index"] = partitions[lost], keys["index"][lost]
        losers["twin_high"], losers["twin_low"] = keys["id_high"][survivor], keys["id_low"][survivor]
        np.save(out / "losers.npy", losers)
        report(rows=len(keys))
        lost_bytes = np.bincount(partitions[lost], weights=keys["bytes"][lost])
        return {
            "rows": len(keys),
            "lost": len(lost),
            "lost_bytes": {str(number): int(lost_bytes[number]) for number in np.flatnonzero(lost_bytes)},
        }

    def _load(self, work: Path) -> tuple[NDArray[Any], NDArray[np.uint32], NDArray[np.uint32]]:
        begin, end = (2**64 * edge // self.buckets for edge in (self.bucket, self.bucket + 1))
        parts, partitions, priorities = [np.empty(0, KEYS)], [], []
        for partition, (order, key) in enumerate(self.inputs):
            for path in sorted(folder(work, Ingest.stage, key).glob("keys-*.npy")):
                run = np.load(path, mmap_mode="r")
                first, last = _find(run, "key_high", begin), _find(run, "key_high", end)
                parts.append(np.array(run[first:last]))
                partitions.append(np.full(len(parts[-1]), partition, np.uint32))
                priorities.append(np.full(len(parts[-1]), order, np.uint32))
        empty = [np.empty(0, np.uint32)]
        return np.concatenate(parts), np.concatenate(empty + partitions), np.concatenate(empty + priorities)


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


def exact_steps(inputs: Sequence[tuple[int, str]], rows: int) -> list[ExactDuplicates]:
    """The steps that cover all keys of `rows` records, each with about `BUCKET_ROWS` of them."""
    buckets = max(1, math.ceil(rows / BUCKET_ROWS))
    return [ExactDuplicates(inputs=tuple(inputs), bucket=bucket, buckets=buckets) for bucket in range(buckets)]


def losers_of(work: Path, exact_keys: Sequence[str], partition: int) -> NDArray[Any]:
    """`LOSERS` (m,) of one partition, ordered by index."""
    parts = [np.empty(0, LOSERS)]
    for key in exact_keys:
        losers = np.load(folder(work, ExactDuplicates.stage, key) / "losers.npy", mmap_mode="r")
        first, last = _find(losers, "partition", partition), _find(losers, "partition", partition + 1)
        parts.append(np.array(losers[first:last]))
    found = np.concatenate(parts)
    return found[np.argsort(found["index"], kind="stable")]
