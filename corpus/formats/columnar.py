"""Rows of Arrow record batches, for Parquet and Arrow files."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from corpus.formats.base import BrokenFileError, Limits, Row, RowError
from corpus.formats.strict_json import check_depth
from corpus.outcome import Outcome

SLICE_ROWS = 1024
"""Rows converted to Python objects at a time."""


def check_names(schema: pa.Schema) -> None:
    """Raise `BrokenFileError` when two columns have the same name, or a name is not UTF-8."""
    try:
        names = schema.names
    except UnicodeDecodeError as error:
        raise BrokenFileError("the schema", f"the column name {error.object!r} is not UTF-8") from None
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise BrokenFileError("the schema", f"two columns are named {twice!r}; expected distinct names")


def batch_rows(batch: pa.RecordBatch, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the rows of one batch; a row that cannot be converted to Python objects is a `RowError`."""
    average = batch.nbytes // max(batch.num_rows, 1)
    step = max(1, min(SLICE_ROWS, limits.max_row_bytes // max(average, 1)))
    for begin in range(0, batch.num_rows, step):
        try:
            piece = _plain(batch.slice(begin, step))
        except pa.ArrowException as error:
            raise BrokenFileError(f"rows of the batch from {begin + 1:,} on", error_text(error)) from None
        if piece.nbytes <= limits.max_row_bytes:
            try:
                rows = piece.to_pylist()
            except _UNREADABLE:
                pass  # some row is bad: convert them one by one
            else:
                yield from (_checked(row, limits) for row in rows)
                continue
        for index in range(piece.num_rows):
            yield _single(piece.slice(index, 1), limits)


_UNREADABLE = (ValueError, OverflowError, LookupError, pa.ArrowException)
"""What Arrow raises for values that Python cannot represent, such as a date beyond the year 9999."""


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Decode dictionaries, and convert dates and times to text: Python's types have a smaller range than Arrow's.

    NaN and infinities, with which pandas writes a missing value, are null.
    """
    for index, field in enumerate(batch.schema):
        column = batch.column(index)
        if pa.types.is_dictionary(field.type):
            column = column.dictionary_decode()
        elif pa.types.is_duration(field.type):
            column = column.cast(pa.int64())
        elif pa.types.is_temporal(field.type) and not pa.types.is_interval(field.type):
            column = _time_text(column)
        elif field.type in (pa.float32(), pa.float64()):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, field.type))
        else:
            continue
        batch = batch.set_column(index, field.name, column)
    return batch


def _time_text(column: pa.Array) -> pa.Array:
    """Format times as 2024-05-06 07:08:09, with a fraction if it is not zero; times with a zone as UTC, ending in Z."""
    zone = pa.types.is_timestamp(column.type) and column.type.tz is not None
    if zone:
        column = column.cast(pa.timestamp(column.type.unit))
    text = pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    return pc.binary_join_element_wise(text, "Z", "") if zone else text


def _single(row: pa.RecordBatch, limits: Limits) -> Row | RowError:
    if row.nbytes > limits.max_row_bytes:
        return RowError(Outcome.TOO_LARGE, f"a row of {row.nbytes:,} bytes; the limit is {limits.max_row_bytes:,}")
    try:
        return _checked(row.to_pylist()[0], limits)
    except UnicodeDecodeError as error:
        return RowError(
            Outcome.INVALID_UNICODE, f"byte {error.start} of a text, {error.object[error.start]:#04x}, is not UTF-8"
        )
    except _UNREADABLE as error:
        return RowError(Outcome.INVALID_SYNTAX, f"a value that cannot be read: {error}")


def _checked(row: Row, limits: Limits) -> Row | RowError:
    if any(isinstance(value, dict | list) for value in row.values()):
        try:
            check_depth(row, limits.max_depth)
        except RowError as error:
            return error
    return row


def error_text(error: BaseException) -> str:
    """Return the first line of an Arrow error; the others are advice about Arrow."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__
