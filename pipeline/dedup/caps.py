"""Caps: of the responses to one instruction, only so many are kept.

    records ─ InstructionKeys ─▶ runs of keys ─ Cap, by range of keys ─▶ drops

Equal instructions are those that exact deduplication takes for equal: up to white
space and letter case. Their sources take turns in choosing, in the manifest's
order, so that no source's style crowds out the others; a source chooses by row
id, which is a hash, so that neither length nor place in a file matters. As with
exact duplicates, a range of keys is gone through twice in parts that fit in
memory, however many responses one instruction has.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.dedup.exact import places_in
from pipeline.engine.budget import pieces
from pipeline.engine.executor import Executor
from pipeline.engine.progress import report
from pipeline.engine.step import Step, folder
from pipeline.ingest.step import id_halves
from pipeline.manifest import CapsSpec
from pipeline.records.drops import DropKey, DropsWriter, Scope, empty_drops, live_batches, write_details
from pipeline.shards.shuffle import scatter_groups
from pipeline.text.folding import fold_all

RUN_ROWS = 2**20
"""Keys sorted together, and examined at once."""
WORKING_COPIES = 5
"""Arrays of the size of a range's keys that are alive together."""

KEYS = np.dtype(
    [
        ("key_high", np.uint64),
        ("key_low", np.uint64),
        ("id_high", np.uint64),
        ("id_low", np.uint64),
        ("partition", np.uint32),
        ("index", np.uint32),
        ("bytes", np.uint32),
    ]
)
"""What a cap knows of a record: hash of its instruction, row id, place, size of both texts in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionKeys(Step):
    """Hash the instructions of some partitions."""

    stage: ClassVar[str] = "caps-keys"

    inputs: tuple[tuple[int, str], ...]
    """Number of each partition and the key of its `Ingest`."""
    drops: tuple[DropKey, ...]

    @property
    def partition(self) -> str:
        return f"files {self.inputs[0][0] + 1} to {self.inputs[-1][0] + 1}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        waiting = [np.empty(0, KEYS)]
        rows = runs = 0

        def write() -> None:
            run = np.concatenate(waiting)
            np.save(out / f"keys-{runs:05}.npy", run[np.argsort(run["key_high"], kind="stable")])

        for partition, indices, batch in live_batches(work, self.inputs, self.drops):
            keys = np.empty(batch.num_rows, KEYS)
            digests = b"".join(map(xxhash.xxh3_128_digest, fold_all(batch.column("instruction"), case=True)))
            halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
            keys["key_high"], keys["key_low"] = halves[:, 0], halves[:, 1]
            keys["id_high"], keys["id_low"] = id_halves(batch.column("row_id"))
            keys["partition"], keys["index"] = partition, indices
            keys["bytes"] = _sizes(batch)
            waiting.append(keys)
            rows += len(keys)
            report(rows=len(keys))
            if rows >= RUN_ROWS:
                write()
                waiting, rows, runs = [np.empty(0, KEYS)], 0, runs + 1
        write()
        return {}


def _sizes(batch: pa.RecordBatch) -> NDArray[np.uint32]:
    frame = pl.from_arrow(batch.select(["instruction", "response"]))
    assert isinstance(frame, pl.DataFrame)
    return frame.select(pl.sum_horizontal(pl.all().str.len_bytes())).to_series().to_numpy().astype(np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap(Step):
    """Drop what is over the cap in one range of keys."""

    stage: ClassVar[str] = "caps"

    inputs: tuple[str, ...]
    """Keys of the `InstructionKeys`, in order of their partitions."""
    orders: tuple[int, ...]
    """For each partition: the place of its source in the manifest."""
    most: int
    """Responses of an instruction that are kept."""
    bucket: int
    buckets: int

    @property
    def partition(self) -> str:
        return f"key range {self.bucket + 1} of {self.buckets}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        orders = np.array(self.orders, np.uint32)
        best = np.empty(0, KEYS)
        for keys in self._parts(work):
            best = first_of_each_source(np.concatenate([best, keys]), orders, self.most)
        best = in_turns(best, orders, self.most)
        kept = np.sort(_places(best))
        firsts = best[_begins(best)]
        writer = DropsWriter(out)
        for keys in self._parts(work):
            places = _places(keys)
            at = np.searchsorted(kept, places)
            lost = keys[(at == len(kept)) | (kept[np.minimum(at, len(kept) - 1)] != places)]
            lost = lost[np.argsort(_places(lost))]
            drops = empty_drops(len(lost))
            twin = firsts[places_in(firsts, lost)]
            drops["partition"], drops["index"], drops["detail"] = lost["partition"], lost["index"], 0
            drops["twin_high"], drops["twin_low"] = twin["id_high"], twin["id_low"]
            writer.add(drops, lost["bytes"])
            report(rows=len(keys))
        responses = "one response" if self.most == 1 else f"{self.most:,} responses"
        write_details(out, [f"more than {responses} to one instruction (caps.responses_per_instruction)"])
        return writer.close()

    def _parts(self, work: Path) -> Iterator[NDArray[Any]]:
        """This range's keys in parts of about `RUN_ROWS`, in order of their partitions; none is empty."""
        begin, end = (2**64 * edge // self.buckets for edge in (self.bucket, self.bucket + 1))
        waiting: list[NDArray[Any]] = []
        rows = 0
        for key in self.inputs:
            for path in sorted(folder(work, InstructionKeys.stage, key).glob("keys-*.npy")):
                run = np.load(path, mmap_mode="r")
                first, last = (bisect.bisect_left(run, edge, key=_high) for edge in (begin, end))
                waiting.append(np.array(run[first:last]))
                rows += last - first
                if rows >= RUN_ROWS:
                    yield np.concatenate(waiting)
                    waiting, rows = [], 0
        if rows:
            yield np.concatenate(waiting)


def _high(entry: Any) -> int:
    return int(entry["key_high"])


def _places(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """(n,): where the records are, as one number each, in order of (partition, index)."""
    return (keys["partition"].astype(np.uint64) << np.uint64(32)) | keys["index"]


def first_of_each_source(keys: NDArray[Any], orders: NDArray[np.uint32], most: int) -> NDArray[Any]:
    """Of the responses that a source has to an instruction, the `most` of the least row ids.

    Parameters
    ----------
    keys
        `KEYS` (n,).
    orders
        uint32: for each partition, the place of its source.
    most
        How many.

    Returns
    -------
    ndarray
        `KEYS` (m,), sorted by instruction, source and row id.
    """
    source = orders[keys["partition"]]
    order = np.lexsort((keys["id_low"], keys["id_high"], source, keys["key_low"], keys["key_high"]))
    keys, source = keys[order], source[order]
    return keys[_ranks(_begins(keys) | _changes(source)) < most]


def in_turns(keys: NDArray[Any], orders: NDArray[np.uint32], most: int) -> NDArray[Any]:
    """Of the responses to an instruction, `most`, chosen by its sources in turns; parameters and order as above."""
    source = orders[keys["partition"]]
    begins = _begins(keys)
    turn = _ranks(begins | _changes(source))
    order = np.lexsort((source, turn, np.cumsum(begins)))
    chosen = order[_ranks(begins) < most]
    return keys[np.sort(chosen)]


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,): whether a value differs from the one before it."""
    changes = np.ones(len(values), bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


def _begins(keys: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,): whether sorted `keys` have another instruction than those before them."""
    return _changes(keys["key_high"]) | _changes(keys["key_low"])


def _ranks(begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,): how many stand before each in its group, given where groups begin."""
    numbers = np.arange(len(begins))
    return numbers - np.maximum.accumulate(np.where(begins, numbers, 0))


def drop_over_caps(scope: Scope, spec: CapsSpec, executor: Executor) -> Scope:
    """The scope less what is over the caps."""
    if spec.responses_per_instruction is None:
        return scope
    groups: Sequence[Sequence[int]] = scatter_groups([part.bytes for part in scope.parts])
    hashes = [
        InstructionKeys(inputs=tuple(scope.inputs[number] for number in group), drops=scope.drops) for group in groups
    ]
    executor.map(hashes)
    buckets = pieces(WORKING_COPIES * KEYS.itemsize * scope.live_rows)
    steps = [
        Cap(
            inputs=tuple(step.key for step in hashes),
            orders=tuple(part.order for part in scope.parts),
            most=spec.responses_per_instruction,
            bucket=bucket,
            buckets=buckets,
        )
        for bucket in range(buckets)
    ]
    results = executor.map(steps)
    return scope.without([(step.stage, step.key, Outcome.OVER_CAP.value) for step in steps], results)
