"""Records that lie there as if ingested, and an executor in this process: for tests and benchmarks of single stages."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pipeline.engine.executor import Executor, Task
from pipeline.engine.progress import StageProgress
from pipeline.engine.step import complete, folder
from pipeline.ingest.step import RECORDS, Ingest
from pipeline.records.drops import Part, Scope

BATCH_ROWS = 10_000


class InProcess(Executor):
    """Completes steps one after the other, here."""

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, dict[str, Any]]]:
        """See `Executor.complete`."""
        for task in tasks:
            yield task, complete(task.step, self.work, task.key)

    def close(self, *, failed: bool) -> None:
        """See `Executor.close`."""


def row_id(pair: tuple[str, str]) -> str:
    """A row id that follows from the pair, so that it stays when records are dealt out otherwise."""
    return hashlib.blake2b("\0".join(pair).encode(), digest_size=16).hexdigest()


def as_ingested(work: Path, parts: Sequence[tuple[str, pl.DataFrame]]) -> Scope:
    """Write records as `Ingest` does.

    Parameters
    ----------
    work
        Folder of finished steps.
    parts
        For each file its source, and a table with the columns `instruction` and `response`. Sources rank by their
        first file.

    Returns
    -------
    pipeline.records.drops.Scope
    """
    order = list(dict.fromkeys(source for source, _ in parts))
    made = []
    for number, (source, table) in enumerate(parts):
        key = f"file-{number}"
        place = folder(work, Ingest.stage, key)
        place.mkdir(parents=True)
        ids = [row_id(pair) for pair in table.select("instruction", "response").iter_rows()]
        columns: dict[str, Any] = {
            "row_id": ids,
            "source": [source] * len(ids),
            "instruction": table["instruction"].to_arrow(),
            "response": table["response"].to_arrow(),
        }
        arrays = [
            pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(len(ids), field.type)
            for field in RECORDS
        ]
        records = pa.table(arrays, schema=RECORDS)
        with pa.OSFile(str(place / "records.arrow"), "wb") as sink, pa.ipc.new_file(sink, RECORDS) as file:
            file.write_table(records, max_chunksize=BATCH_ROWS)
        size = sum(int(table[name].str.len_bytes().sum()) for name in ("instruction", "response"))
        made.append(Part(source=source, order=order.index(source), key=key, records=len(ids), bytes=size))
    return Scope(parts=tuple(made))
