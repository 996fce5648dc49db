"""Exact duplicates: of equal pairs, all but one are dropped.

    keys of `Ingest` ─ ExactDuplicates, by range of keys ─▶ drops

A range of keys has every copy of its pairs, from all partitions. The step reads it twice, in parts that fit in memory
however often one pair occurs: first to find the best record of each group of equal ones, then to drop the others. The
best has the earliest source in the manifest, then the longest response, then the smallest row id; neither partitions
nor ranges matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.dedup.entries import ENTRIES, PART_ROWS, begins_group, entries_of, places_in
from pipeline.engine.budget import PIECE_BYTES, pieces
from pipeline.engine.counters import count
from pipeline.engine.executor import Executor
from pipeline.ingest.live import LiveRecords
from pipeline.ingest.step import Ingest
from pipeline.records.drops import Dropped, DropsWriter, empty_drops
from pipeline.records.runs import KeyRangeStep, in_parts, stable_order

WORKING_COPIES = 4
"""Arrays of the size of a range's entries that exist at once."""
SHARED_ROWS = 2**18
"""Entries from which on there are several ranges, which several workers share, even if one would fit in memory."""
SHARED_RANGES = 16
"""Most ranges for that reason; each makes a file that later stages look into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactDuplicates(KeyRangeStep[Dropped]):
    """Find the duplicates in one range of keys."""

    stage: ClassVar[str] = "exact"

    inputs: tuple[tuple[int, str], ...]
    """For each partition: the position of its source in the manifest, and the key of its `Ingest`."""

    def run(self, work: Path, out: Path) -> Dropped:
        best = np.empty(0, ENTRIES)
        for entries in self._parts(work):
            best = survivors(np.concatenate([best, entries]))
        writer = DropsWriter(out)
        for entries in self._parts(work):
            twin = best[places_in(best, entries)]
            lost = np.flatnonzero((twin["id_high"] != entries["id_high"]) | (twin["id_low"] != entries["id_low"]))
            lost = lost[np.lexsort((entries["index"][lost], entries["partition"][lost]))]
            drops = empty_drops(len(lost))
            drops["partition"], drops["index"] = entries["partition"][lost], entries["index"][lost]
            drops["twin_high"], drops["twin_low"] = twin["id_high"][lost], twin["id_low"][lost]
            writer.add(drops, entries["bytes"][lost])
            count(rows=len(entries))
        return writer.close()

    def _parts(self, work: Path) -> Iterator[NDArray[Any]]:
        """Yield `ENTRIES` of this range in parts of about `PART_ROWS`, by partition and index."""
        entries = (
            entries_of(keys, "pair", partition=partition, priority=priority)
            for partition, (priority, key) in enumerate(self.inputs)
            for keys in Ingest.keys_in_range(work, key, self.bucket, self.buckets)
        )
        return in_parts(entries, PART_ROWS)


def survivors(entries: NDArray[Any]) -> NDArray[Any]:
    """Return the best of each group of equal entries, sorted by key.

    Parameters
    ----------
    entries
        `ENTRIES` (n,), in any order.

    Returns
    -------
    ndarray
        `ENTRIES` (m,).
    """
    ordered = entries[stable_order(np.ascontiguousarray(entries["key_high"]))]
    # Most entries have a key of their own, and need no more.
    is_next = ordered["key_high"][1:] == ordered["key_high"][:-1]
    equal = np.flatnonzero(np.append(is_next, False) | np.insert(is_next, 0, False))
    some = ordered[equal]
    ordered[equal] = some[
        np.lexsort(
            [
                some["id_low"],
                some["id_high"],
                ~some["response"],  # the longest first
                some["priority"],
                some["key_low"],
                some["key_high"],
            ]
        )
    ]
    return ordered[begins_group(ordered)]


def drop_exact_duplicates(groups: Sequence[LiveRecords], executor: Executor) -> list[LiveRecords]:
    """Return each group of records without the duplicates inside of it."""
    steps = []
    for records in groups:
        shared = min(pieces(records.rows * PIECE_BYTES // SHARED_ROWS), SHARED_RANGES)
        buckets = max(pieces(WORKING_COPIES * ENTRIES.itemsize * records.rows), shared)
        inputs = tuple((part.priority, part.key) for part in records.parts)
        steps.append([ExactDuplicates(inputs=inputs, bucket=bucket, buckets=buckets) for bucket in range(buckets)])
    results = iter(executor.map([step for of_group in steps for step in of_group]))
    return [
        records.without(of_group, list(islice(results, len(of_group))), Outcome.EXACT_DUPLICATE)
        for records, of_group in zip(groups, steps, strict=True)
    ]
