"""Caps: a bounded number of responses to one instruction is kept.

    keys of `Ingest` ─ InstructionKeys ─▶ runs sorted by instruction ─ Cap, by range of keys ─▶ drops

Instructions are equal as in exact deduplication: up to white space and letter case. Their sources choose in turns, in
the manifest's order, so that no source's style displaces the others; a source chooses by row id, which is a hash, so
that neither length nor place in a file matters. As with exact duplicates, a range of keys is read twice, in parts that
fit in memory however many responses one instruction has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.dedup.entries import ENTRIES, PART_ROWS, begins_group, changes, entries_of, places_in
from pipeline.engine.budget import pieces
from pipeline.engine.counters import count
from pipeline.engine.executor import Executor
from pipeline.engine.step import NoResult
from pipeline.ingest.live import LiveRecords, LiveStep
from pipeline.ingest.step import Ingest
from pipeline.manifest import CapsSpec
from pipeline.records.drops import (
    Dropped,
    DropsWriter,
    drops_of_partition,
    empty_drops,
    is_dropped,
    write_details,
)
from pipeline.records.runs import KeyRangeStep, RunWriter, in_parts, in_range

WORKING_COPIES = 5
"""Arrays of the size of a range's entries that exist at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionKeys(LiveStep[NoResult]):
    """Sort the entries of live records by instruction."""

    stage: ClassVar[str] = "caps-keys"

    priorities: tuple[int, ...]
    """For each of the `inputs`: the position of its source in the manifest."""

    @classmethod
    def in_range(cls, work: Path, key: str, bucket: int, buckets: int) -> Iterator[NDArray[Any]]:
        """Yield the `ENTRIES` of each run whose key is in range `bucket` of `buckets`."""
        return in_range(cls.folder(work, key), "key_high", bucket, buckets)

    def run(self, work: Path, out: Path) -> NoResult:
        writer = RunWriter(out, "key_high")
        for (partition, key), priority in zip(self.inputs, self.priorities, strict=True):
            drops = drops_of_partition(work, self.drops, partition)
            first = 0
            for keys in Ingest.keys(work, key):
                live = keys[~is_dropped(drops, first, first + len(keys))[keys["index"] - first]]
                first += len(keys)
                writer.add(entries_of(live, "instruction", partition=partition, priority=priority))
                count(rows=len(keys))
        writer.close()
        return NoResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap(KeyRangeStep[Dropped]):
    """Drop the responses over the cap in one range of keys."""

    stage: ClassVar[str] = "caps"

    inputs: tuple[str, ...]
    """Keys of the `InstructionKeys`, in order of their partitions."""
    max_responses: int
    """Responses to an instruction that are kept."""

    def run(self, work: Path, out: Path) -> Dropped:
        best = np.empty(0, ENTRIES)
        for entries in self._parts(work):
            best = first_of_each_source(np.concatenate([best, entries]), self.max_responses)
        best = in_turns(best, self.max_responses)
        kept = np.sort(_places(best))
        firsts = best[begins_group(best)]
        writer = DropsWriter(out)
        for entries in self._parts(work):
            lost = entries[np.isin(_places(entries), kept, invert=True)]
            lost = lost[np.argsort(_places(lost))]
            drops = empty_drops(len(lost))
            twin = firsts[places_in(firsts, lost)]
            drops["partition"], drops["index"], drops["detail"] = lost["partition"], lost["index"], 0
            drops["twin_high"], drops["twin_low"] = twin["id_high"], twin["id_low"]
            writer.add(drops, lost["bytes"])
            count(rows=len(entries))
        responses = "one response" if self.max_responses == 1 else f"{self.max_responses:,} responses"
        write_details(out, [f"more than {responses} to one instruction (caps.responses_per_instruction)"])
        return writer.close()

    def _parts(self, work: Path) -> Iterator[NDArray[Any]]:
        """Yield `ENTRIES` of this range in parts of about `PART_ROWS`, by partition and index."""
        runs = (run for key in self.inputs for run in InstructionKeys.in_range(work, key, self.bucket, self.buckets))
        return in_parts(runs, PART_ROWS)


def _places(entries: NDArray[Any]) -> NDArray[np.uint64]:
    """Return (partition, index) of each entry (n,) as one number that sorts alike."""
    return (entries["partition"].astype(np.uint64) << np.uint64(32)) | entries["index"]


def first_of_each_source(entries: NDArray[Any], max_responses: int) -> NDArray[Any]:
    """Return the responses with the smallest row ids, `max_responses` for each instruction and source.

    Parameters
    ----------
    entries
        `ENTRIES` (n,), in any order.
    max_responses
        Number to keep.

    Returns
    -------
    ndarray
        `ENTRIES` (m,), sorted by instruction, source and row id.
    """
    names = ("id_low", "id_high", "priority", "key_low", "key_high")
    entries = entries[np.lexsort([entries[name] for name in names])]
    return entries[_ranks(begins_group(entries) | changes(entries["priority"])) < max_responses]


def in_turns(entries: NDArray[Any], max_responses: int) -> NDArray[Any]:
    """Return `max_responses` responses to each instruction, chosen by its sources in turns.

    Parameters and order are those of `first_of_each_source`, whose result this takes.
    """
    begins = begins_group(entries)
    turn = _ranks(begins | changes(entries["priority"]))
    order = np.lexsort((entries["priority"], turn, np.cumsum(begins)))
    return entries[np.sort(order[_ranks(begins) < max_responses])]


def _ranks(begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return each position (n,) counted from the beginning of its group."""
    numbers = np.arange(len(begins))
    return numbers - np.maximum.accumulate(np.where(begins, numbers, 0))


def drop_over_caps(records: LiveRecords, spec: CapsSpec, executor: Executor) -> LiveRecords:
    """Return the records without those over the caps."""
    if spec.responses_per_instruction is None:
        return records
    sorters = [
        InstructionKeys(
            inputs=group, drops=records.drops, priorities=tuple(records.parts[number].priority for number, _ in group)
        )
        for group in records.groups()
    ]
    executor.map(sorters)
    buckets = pieces(WORKING_COPIES * ENTRIES.itemsize * records.rows)
    steps = [
        Cap(
            inputs=tuple(step.key for step in sorters),
            max_responses=spec.responses_per_instruction,
            bucket=bucket,
            buckets=buckets,
        )
        for bucket in range(buckets)
    ]
    return records.without(steps, executor.map(steps), Outcome.OVER_CAP)
