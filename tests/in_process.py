"""Records written as by `Ingest`, and an executor in this process: for tests and benchmarks of single stages."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from pipeline.engine.executor import Executor, Task
from pipeline.engine.progress import StageProgress
from pipeline.engine.step import complete
from pipeline.ingest.live import LiveRecords, Part
from pipeline.ingest.step import KEYS, Ingest
from pipeline.records.runs import RunWriter
from pipeline.records.schema import RECORDS, id_halves

BATCH_ROWS = 10_000


class InProcess(Executor):
    """Completes steps one after the other, in this process."""

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, Any]]:
        """See `Executor.complete`."""
        for task in tasks:
            yield task, complete(task.step, self.work, task.key)

    def close(self, *, failed: bool) -> None:
        """See `Executor.close`."""


def row_id(pair: tuple[str, str]) -> str:
    """Return a row id that depends on the pair only, however records are shared out among files."""
    return hashlib.blake2b("\0".join(pair).encode(), digest_size=16).hexdigest()


def as_ingested(work: Path, parts: Sequence[tuple[str, pl.DataFrame]]) -> LiveRecords:
    """Write records as `Ingest` does.

    Parameters
    ----------
    work
        Folder of finished steps.
    parts
        For each file its source, and a table with the columns `instruction` and `response`, and `task` if that
        matters. Sources rank by their first file.

    Returns
    -------
    LiveRecords
    """
    order = list(dict.fromkeys(source for source, _ in parts))
    made = []
    for number, (source, table) in enumerate(parts):
        key = f"file-{number}"
        place = Ingest.folder(work, key)
        place.mkdir(parents=True)
        ids = [row_id(pair) for pair in table.select("instruction", "response").iter_rows()]
        columns: dict[str, Any] = {
            "row_id": pa.array(map(bytes.fromhex, ids), RECORDS.field("row_id").type),
            "source": [source] * len(ids),
            "instruction": table["instruction"].to_arrow(),
            "response": table["response"].to_arrow(),
        }
        if "task" in table.columns:
            columns["task"] = table["task"].to_arrow()
        arrays = [
            pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(len(ids), field.type)
            for field in RECORDS
        ]
        records = pa.table(arrays, schema=RECORDS)
        with pa.OSFile(str(place / "records.arrow"), "wb") as sink, pa.ipc.new_file(sink, RECORDS) as file:
            file.write_table(records, max_chunksize=BATCH_ROWS)
        keys = np.zeros(len(ids), KEYS)
        keys["id_high"], keys["id_low"] = keys["pair_high"], keys["pair_low"] = id_halves(records.column("row_id"))
        keys["index"] = np.arange(len(ids))
        runs = RunWriter(place, "pair_high")
        for begin in range(0, len(ids), BATCH_ROWS):
            runs.add(keys[begin : begin + BATCH_ROWS])
        runs.close()
        size = sum(int(table[name].str.len_bytes().sum()) for name in ("instruction", "response"))
        made.append(Part(source=source, priority=order.index(source), key=key, records=len(ids), bytes=size))
    return LiveRecords(parts=tuple(made))
