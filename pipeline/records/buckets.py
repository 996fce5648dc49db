"""Buckets: records on disk, scattered by the step that will read them.

tables, bucket of each row ─ BucketWriter ─▶ NAME.arrow, a batch per run and bucket; NAME.npy, the bucket of each batch
                                               └─ read_bucket ─▶ rows of one bucket, from several steps
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.records.arrays import by_number
from pipeline.records.schema import IPC

RUN_BYTES = 64 * 2**20
"""Records that are sorted by bucket together, about."""


class BucketWriter:
    """Writes tables by bucket; a context manager.

    Parameters
    ----------
    out
        Folder of the step.
    name
        Name of the files, without suffix.
    schema
        Columns of the tables.
    """

    def __init__(self, out: Path, name: str, schema: pa.Schema) -> None:
        self._index = out / f"{name}.npy"
        self._sink = pa.OSFile(str(out / f"{name}.arrow"), "wb")
        self._file = pa.ipc.new_file(self._sink, schema, options=IPC)
        self._waiting: list[tuple[pa.Table, NDArray[Any]]] = []
        self._bytes = 0
        self._written: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush()
            np.save(self._index, np.array(self._written, np.int64))
        self._file.close()
        self._sink.close()

    def add(self, table: pa.Table, buckets: NDArray[Any]) -> None:
        """Append rows, given the bucket (n,) of each; those with a negative one are left out."""
        self._waiting.append((table, buckets))
        self._bytes += table.nbytes
        if self._bytes >= RUN_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        # Arrow would join the chunks of a text column in each `take`, and keep them beside what it takes.
        table = pa.concat_tables([table for table, _ in self._waiting]).combine_chunks()
        found = by_number(np.concatenate([numbers for _, numbers in self._waiting]))
        groups = [(bucket, rows) for bucket, rows in found if bucket >= 0]
        self._waiting, self._bytes = [], 0
        if not groups:
            return
        table = table.take(pa.array(np.concatenate([rows for _, rows in groups]))).combine_chunks()
        begin = 0
        for bucket, rows in groups:
            self._file.write_batch(table.slice(begin, len(rows)).to_batches()[0])
            self._written.append(bucket)
            begin += len(rows)


def read_bucket(
    folders: Iterable[Path],
    name: str,
    schema: pa.Schema,
    bucket: int,
    columns: Sequence[str] | None = None,
    chosen: NDArray[np.bool_] | None = None,
) -> pa.Table:
    """Return the rows of one bucket from the folders of several steps, in the order in which they were added.

    Only `columns` are read, or all, and only the `chosen` (n,) of the bucket's rows are in memory together, or all.

    Each step has one batch for each of its runs and buckets. With S bytes of text over all steps and buckets of B bytes
    that makes S^2 / (`RUN_BYTES` x B) reads of `RUN_BYTES` x B / S bytes: for 200 GB four million of 45 kB.
    """
    included = [schema.get_field_index(column) for column in columns or schema.names]
    options = pa.ipc.IpcReadOptions(included_fields=included)
    batches = []
    begin = 0
    for folder in folders:
        numbers = np.flatnonzero(np.load(folder / f"{name}.npy") == bucket)
        if len(numbers):
            with pa.OSFile(str(folder / f"{name}.arrow")) as file:
                reader = pa.ipc.open_file(file, options=options)
                for number in numbers.tolist():
                    batch = reader.get_batch(number)
                    end = begin + batch.num_rows
                    if chosen is not None and not chosen[begin:end].all():
                        batch = batch.take(pa.array(np.flatnonzero(chosen[begin:end])))
                    batches.append(batch)
                    begin = end
    return pa.Table.from_batches(batches, pa.schema([schema.field(column) for column in columns or schema.names]))
