"""The record inside a build: its schema, and row ids as 16 bytes.

Row ids are hexadecimal digits only in what people read: curated records, the ledger, eval files and the report.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.record import SCHEMA

U64 = NDArray[np.uint64]

ROW_ID = pa.binary(16)

RECORDS = pa.schema(
    [("row_id", ROW_ID), *list(SCHEMA)[1:], ("file", pa.string()), ("row", pa.int64()), ("part", pa.int32())]
)
"""The columns of `corpus.record.SCHEMA`, and where a record comes from."""

IPC = pa.ipc.IpcWriteOptions(compression="lz4")
"""How steps write Arrow files."""


def id_bytes(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """Return row ids as uint8 (n, 16)."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, 16 * len(chunk), 16 * chunk.offset)
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate([np.empty(0, np.uint8), *parts]).reshape(-1, 16)


def id_halves(ids: pa.Array | pa.ChunkedArray) -> tuple[U64, U64]:
    """Return row ids as two uint64 arrays (n,), whose order is that of the ids' hexadecimal digits."""
    halves = id_bytes(ids).view(">u8").astype(np.uint64)
    return halves[:, 0], halves[:, 1]


def ids_of_halves(high: U64, low: U64) -> pa.Array:
    """Return the row ids that `id_halves` split; (0, 0) is null."""
    halves = np.stack([high, low], axis=1).astype(">u8")
    ids = pa.Array.from_buffers(ROW_ID, len(halves), [None, pa.py_buffer(halves.tobytes())])
    return pc.if_else(pa.array(halves.any(axis=1)), ids, None)


def hex_ids(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return row ids as strings of 32 hexadecimal digits; nulls stay null."""
    digits = id_bytes(ids).tobytes().hex().encode()
    offsets = np.arange(0, len(digits) + 1, 32, dtype=np.int32)
    text = pa.Array.from_buffers(pa.string(), len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(digits)])
    if not ids.null_count:
        return text
    valid = ids.is_valid()
    return pc.if_else(valid.combine_chunks() if isinstance(valid, pa.ChunkedArray) else valid, text, None)


def with_hex_ids(table: pa.Table) -> pa.Table:
    """Return the table with all row ids as strings."""
    for number, field in enumerate(table.schema):
        if field.type == ROW_ID:
            table = table.set_column(number, field.name, hex_ids(table.column(number)))
    return table
