"""Parquet, batch by batch. The schema is at the file's end, so a truncated file has no readable row."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.formats.base import BrokenFileError, Format, Limits, Rows, TextBlock, shorten
from corpus.formats.columnar import (
    ARROW_ERRORS,
    SLICE_ROWS,
    Unpacked,
    batch_rows,
    distinct_names,
    error_text,
    raise_if_out_of_memory,
    with_names,
)
from corpus.formats.stream import Input
from corpus.storage import StorageError

_BATCH_BYTES = 16 << 20
_COMPRESSIONS = frozenset({"UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4"})
_ENCODINGS = frozenset(
    {"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "BIT_PACKED", "BYTE_STREAM_SPLIT"}
    | {"DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"}
)


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a Parquet file; positions are row numbers from 1.

    Raises
    ------
    BrokenFileError
        The file has no valid footer, or a column name is not UTF-8.
    """
    # A head cannot be read without the footer, so the whole file is opened.
    file = source.whole().seekable(limits)
    try:
        parquet = pq.ParquetFile(file)
    except StorageError:
        raise
    except ARROW_ERRORS as error:
        raise_if_out_of_memory(error)
        detail = _why_not_open(file, error)
        file.close()
        raise BrokenFileError("the footer", detail) from None
    names, note = distinct_names(parquet.schema_arrow)
    rows, blocks = (_rows(parquet, names, limits, Unpacked(file), blocks=blocks) for blocks in (False, True))
    return Rows("row", rows, {}, note, blocks=blocks)


def _rows(
    parquet: pq.ParquetFile, names: Sequence[str], limits: Limits, unpacked: Unpacked, *, blocks: bool
) -> Iterator[tuple[int, Any]]:
    number = 0
    with parquet:
        for group in range(parquet.num_row_groups):
            about = parquet.metadata.row_group(group)
            average = about.total_byte_size // max(about.num_rows, 1)
            size = max(1, min(SLICE_ROWS, _BATCH_BYTES // max(average, 1)))
            try:
                for batch in parquet.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                    for item in batch_rows(with_names(batch, names), limits, unpacked, blocks=blocks):
                        yield number + 1, item
                        number += item.rows if isinstance(item, TextBlock) else 1
            except StorageError:
                raise
            except (BrokenFileError, *ARROW_ERRORS) as error:
                if isinstance(error, BrokenFileError):
                    raise
                raise_if_out_of_memory(error)
                lost = f"{parquet.metadata.num_rows - number:,} of {parquet.metadata.num_rows:,} rows are not read"
                detail = f"{_why_not_read(parquet, group, error)}; {lost}"
                raise BrokenFileError(f"row group {group}, after row {number:,}", detail) from None


def _why_not_open(file: BinaryIO, error: BaseException) -> str:
    """Explain why a file cannot be opened as Parquet: its first and last bytes tell most causes."""
    file.seek(0)
    first = file.read(4)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4))
    last = file.read(4)
    if b"PARE" in (first, last):
        return "the Parquet file is encrypted; decrypt it first"
    if first != b"PAR1":
        return f"not a complete Parquet file: found {first!r} at its begin; expected b'PAR1'"
    if last != b"PAR1":
        return "not a complete Parquet file: no footer, so it is cut off; download or write it again"
    return f"not a complete Parquet file: its footer is damaged: {error_text(error)}; download or write it again"


def _why_not_read(parquet: pq.ParquetFile, group: int, error: BaseException) -> str:
    """Explain why a row group cannot be read; name the columns whose compression or encodings are not known."""
    unknown = _unknown_columns(parquet, group) if _is_unsupported(error) else []
    if unknown:
        return f"a compression or encoding that is not read, in {', '.join(unknown)}; write the file again without it"
    if isinstance(error, pa.ArrowNotImplementedError) or "encoding" in str(error).lower():
        return f"a page whose encoding is not read or damaged: {error_text(error)}; write the file again"
    return f"its pages are damaged: {error_text(error)}; download or write the file again"


def _unknown_columns(parquet: pq.ParquetFile, group: int) -> list[str]:
    """Return the columns that Arrow cannot decode, with their compression and encodings.

    Each column is read first: asking for the properties of one that is damaged ends the process.
    """
    unknown: dict[str, None] = {}
    about = parquet.metadata.row_group(group)
    for index in range(min(about.num_columns, len(parquet.schema))):
        path = parquet.schema.column(index).path
        try:
            next(parquet.iter_batches(batch_size=1, row_groups=[group], columns=[path], use_threads=False), None)
        except ARROW_ERRORS as error:
            raise_if_out_of_memory(error)
            if not _is_unsupported(error):
                continue
            column = about.column(index)
            if column.compression not in _COMPRESSIONS or not set(column.encodings) <= _ENCODINGS:
                unknown[f"{shorten(path)} ({column.compression}, {', '.join(sorted(column.encodings))})"] = None
    return list(unknown)


def _is_unsupported(error: BaseException) -> bool:
    """Whether Arrow knows what a column is compressed or encoded by, and cannot read it."""
    return isinstance(error, pa.ArrowNotImplementedError) or "not supported" in str(error)


PARQUET = Format(name="parquet", suffixes=(".parquet",), read=read, magic=((0, b"PAR1"),))
