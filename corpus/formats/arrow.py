"""Arrow IPC files and streams, batch by batch. Each batch is validated before it is used."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from corpus.formats.base import BrokenFileError, Format, Limits, Rows, TextBlock
from corpus.formats.columnar import (
    ARROW_ERRORS,
    Unpacked,
    batch_rows,
    distinct_names,
    error_text,
    raise_if_out_of_memory,
    with_names,
)
from corpus.formats.stream import Input
from corpus.storage import StorageError

_FILE_MAGIC = b"ARROW1"


def read(source: Input, limits: Limits) -> Rows:
    """Rows of an Arrow IPC file (also Feather 2) or stream; positions are row numbers from 1.

    Raises
    ------
    BrokenFileError
        The schema cannot be read, or a column name is not UTF-8.
    """
    file = source.whole().seekable(limits)
    try:
        is_file = file.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        file.seek(0)
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
    except StorageError:
        raise
    except ARROW_ERRORS as error:
        raise_if_out_of_memory(error)
        file.close()
        detail = f"not a complete Arrow file: {error_text(error)}; download or write it again"
        raise BrokenFileError("the schema", detail) from None
    names, note = distinct_names(reader.schema)
    rows, blocks = (_rows(reader, names, limits, Unpacked(file), blocks=blocks) for blocks in (False, True))
    return Rows("row", rows, {}, note, blocks=blocks)


def _batches(reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        yield from reader
    else:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def _validate(batch: pa.RecordBatch) -> None:
    """Raise `ArrowInvalid` when an (untrusted) offset or index in the batch points outside its buffers.

    Texts are validated as bytes, so that one that is not UTF-8 invalidates its row, not the batch.
    """
    for column in batch.columns:
        if pa.types.is_string(column.type):
            column = column.view(pa.binary())
        elif pa.types.is_large_string(column.type):
            column = column.view(pa.large_binary())
        elif pa.types.is_string_view(column.type):
            column = column.view(pa.binary_view())
        column.validate(full=True)


def _rows(
    reader: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader,
    names: Sequence[str],
    limits: Limits,
    unpacked: Unpacked,
    *,
    blocks: bool,
) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        for batch in _batches(reader):
            _validate(batch)
            for item in batch_rows(with_names(batch, names), limits, unpacked, blocks=blocks):
                yield number + 1, item
                number += item.rows if isinstance(item, TextBlock) else 1
    except StorageError:
        raise
    except (BrokenFileError, *ARROW_ERRORS) as error:
        if isinstance(error, BrokenFileError):
            raise
        raise_if_out_of_memory(error)
        detail = f"the next batch is damaged: {error_text(error)}; download or write the file again"
        raise BrokenFileError(f"after row {number:,}", detail) from None


ARROW = Format(
    name="arrow", suffixes=(".arrow", ".feather"), read=read, magic=((0, b"ARROW1\0\0"), (0, b"\xff\xff\xff\xff"))
)
