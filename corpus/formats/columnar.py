"""Rows of Arrow record batches, for Parquet and Arrow files."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from corpus.formats.base import BrokenFileError, Limits, Row, RowError, TextBlock, distinguish
from corpus.formats.stream import ALWAYS_ALLOWED_BYTES, check_ratio
from corpus.formats.strict_json import check_depth
from corpus.outcome import Outcome

SLICE_ROWS = 1024
"""Rows converted to Python objects at a time."""
_ROW_BYTES = 64
"""Bytes that a row counts for by itself."""


def distinct_names(schema: pa.Schema) -> tuple[list[str], str]:
    """Return a name for each column, of repeated ones with the column's number, and a remark about these.

    Raises
    ------
    BrokenFileError
        A name is not UTF-8.
    """
    try:
        names = schema.names
    except UnicodeDecodeError as error:
        raise BrokenFileError("the schema", f"the column name {error.object!r} is not UTF-8") from None
    found, remarks = distinguish(names, "the schema")
    return found, "; ".join(remarks)


def with_names(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Return a batch whose columns have other names."""
    return batch if batch.schema.names == names else pa.RecordBatch.from_arrays(batch.columns, names=names)


class Unpacked:
    """Count of what the rows of a file take, which a few bytes of runs or of a dictionary can make any number of.

    Parameters
    ----------
    file
        The file, with random access.
    """

    def __init__(self, file: BinaryIO):
        at = file.tell()
        self._packed = file.seek(0, os.SEEK_END)
        file.seek(at)
        self._bytes = self._rows = 0

    def add(self, rows: int, size: int) -> None:
        """Count rows and their bytes; `BrokenFileError` where they are too many for the file: see `check_ratio`."""
        self._rows += rows
        self._bytes += size + rows * _ROW_BYTES
        check_ratio(self._bytes, self._packed, ALWAYS_ALLOWED_BYTES, f"row {self._rows:,}", "write it as JSON lines")


def batch_rows(
    batch: pa.RecordBatch, limits: Limits, unpacked: Unpacked, *, blocks: bool
) -> Iterator[Row | RowError | TextBlock]:
    """Yield the rows of one batch; a row that cannot be converted to Python objects is a `RowError`.

    With `blocks`, rows that have only texts come together.
    """
    average = _size(batch) // max(batch.num_rows, 1)
    step = max(1, min(SLICE_ROWS, limits.max_row_bytes // max(average, 1)))
    for begin, part in _parts(batch, step, limits.max_row_bytes):
        size = _expanded_size(part)
        unpacked.add(part.num_rows, size + _size(part))
        if size > limits.max_row_bytes:
            yield RowError(Outcome.TOO_LARGE, f"a row of {size:,} bytes; the limit is {limits.max_row_bytes:,}")
            continue
        if blocks and (block := _text_block(part, limits)) is not None:
            yield block
            continue
        try:
            piece = _plain(part)
        except MemoryError:
            raise
        except pa.ArrowException as error:
            detail = f"the batch is damaged: {error_text(error)}; write the file again"
            raise BrokenFileError(f"rows of the batch from {begin + 1:,} on", detail) from None
        converters = {field.name: convert for field in piece.schema if (convert := _converter(field.type)) is not None}
        if _size(piece) <= limits.max_row_bytes:
            try:
                rows = piece.to_pylist()
            except MemoryError:
                raise
            except _UNREADABLE:
                pass  # some row is bad: convert them one by one
            else:
                yield from (_checked(row, converters, limits) for row in rows)
                continue
        for index in range(piece.num_rows):
            yield _single(piece.slice(index, 1), converters, limits)


def _text_block(batch: pa.RecordBatch, limits: Limits) -> TextBlock | None:
    """Return the rows of a batch of texts without nulls; None for any other batch."""
    columns = batch.columns
    is_of_texts = all(_is_string(column.type) and not column.null_count for column in columns)
    if not columns or not is_of_texts or _size(batch) > limits.max_row_bytes:
        return None
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return TextBlock(tuple(batch.schema.names), [column.cast(pa.large_string()) for column in columns])


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _parts(batch: pa.RecordBatch, step: int, max_bytes: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield first row and rows of parts of a batch that expand to no more than a limit, unless they are one row."""
    for begin in range(0, batch.num_rows, step):
        part = batch.slice(begin, step)
        if part.num_rows == 1 or _expanded_size(part) <= max_bytes:
            yield begin, part
        else:
            yield from ((begin + row, part.slice(row, 1)) for row in range(part.num_rows))


def _expanded_size(batch: pa.RecordBatch) -> int:
    """Bytes that the shared values of a batch, of dictionaries and runs, take once each row has its own."""
    return sum(_shared_bytes(column) for column in batch.columns)


def _shared_bytes(column: pa.Array) -> int:
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _shared_bytes(column.storage)
    if pa.types.is_dictionary(kind):
        values = column.dictionary
        if pa.types.is_nested(kind.value_type) or not len(values):
            return len(column) * (values.nbytes // max(len(values), 1))
        if not _is_text(kind.value_type):
            return 0
        return int(pc.sum(pc.take(pc.binary_length(values), column.indices.cast(pa.int64()))).as_py() or 0)
    if pa.types.is_run_end_encoded(kind):
        values = column.values
        longest = pc.max(pc.binary_length(values)).as_py() if _is_text(kind.value_type) and len(values) else 0
        return len(column) * int(longest or 0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _shared_bytes(column.flatten())
    if pa.types.is_struct(kind):
        return sum(map(_shared_bytes, column.flatten()))
    return 0


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )  # fmt: skip


_UNREADABLE = (ValueError, OverflowError, LookupError, pa.ArrowException)
"""What Arrow raises for values that Python cannot represent, such as a date beyond the year 9999."""


# Types, in Arrow


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Decode dictionaries, and convert dates and times to text: Python's types have a smaller range than Arrow's.

    NaN and infinities, with which pandas writes a missing value, are null.
    """
    return pa.RecordBatch.from_arrays([_plain_column(column) for column in batch.columns], names=batch.schema.names)


def _plain_column(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray) and not pa.types.is_fixed_size_binary(column.type.storage_type):
        column = column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
        column = _time_text(column)
    elif column.type in (pa.float32(), pa.float64()):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    elif pa.types.is_nested(column.type) and (plain := _plain_type(column.type)) != column.type:
        with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            column = column.cast(plain)
    return column


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type to which `_plain` converts values in lists and objects.

    Of times only those in nanoseconds become text, since Python has no type for them.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return kind if pa.types.is_fixed_size_binary(kind.storage_type) else _plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain_type(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if _is_list(kind):
        value = _plain_type(kind.value_type)
        if value == kind.value_type or "view" in str(kind).partition("<")[0]:  # casts of views lose values
            return kind
        return pa.large_list(value) if pa.types.is_large_list(kind) else pa.list_(value)
    if pa.types.is_duration(kind):
        return pa.int64()
    is_fine = (pa.types.is_timestamp(kind) or pa.types.is_time64(kind)) and kind.unit == "ns"
    return pa.string() if is_fine else kind


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) and hasattr(kind, "value_type") and not pa.types.is_map(kind)


# Types, in Python


Convert = Callable[[Any], Any]


def _converter(kind: pa.DataType) -> Convert | None:
    """Return the function from a value of a type, as pyarrow makes it, to the value in a row; None for no change.

    Maps become objects, binary values text if they are UTF-8, and decimal numbers text.
    """
    if pa.types.is_map(kind):
        return partial(_object, _converter(kind.key_type) or _same, _converter(kind.item_type) or _same)
    if pa.types.is_struct(kind):
        fields = {field.name: convert for field in kind if (convert := _converter(field.type)) is not None}
        return partial(_fields, fields) if fields else None
    if _is_list(kind):
        inner = _converter(kind.value_type)
        return None if inner is None else partial(_items, inner)
    if isinstance(kind, pa.BaseExtensionType):
        return None
    if pa.types.is_decimal(kind):
        return lambda value: value if value is None else format(value, "f")
    is_binary = str(kind).startswith(("binary", "large_binary", "fixed_size_binary"))
    return _text_if_utf8 if is_binary else None


def _same(value: Any) -> Any:
    return value


def _object(key: Convert, item: Convert, pairs: list[tuple[Any, Any]] | None) -> dict[str, Any] | None:
    if pairs is None:
        return None
    found = {str(key(name)): item(value) for name, value in pairs}
    if len(found) < len(pairs):
        raise RowError(Outcome.DUPLICATE_KEY, "a map has one key twice")
    return found


def _fields(converters: Mapping[str, Convert], value: dict[str, Any] | None) -> dict[str, Any] | None:
    return value and {**value, **{name: convert(value[name]) for name, convert in converters.items()}}


def _items(convert: Convert, values: list[Any] | None) -> list[Any] | None:
    return values and [convert(value) for value in values]


def _text_if_utf8(value: bytes | None) -> str | bytes | None:
    if value is None or b"\0" in value:
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value  # refuses its row only if an adapter needs it


def _time_text(column: pa.Array) -> pa.Array:
    """Format times as 2024-05-06 07:08:09, with a fraction if it is not zero; times with a zone as UTC, ending in Z.

    A time in a year that Arrow cannot write is null.
    """
    zone = pa.types.is_timestamp(column.type) and column.type.tz is not None
    if zone:
        column = column.cast(pa.timestamp(column.type.unit))
    text = pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    text = pc.if_else(pc.starts_with(text, "<value out of range"), None, text)  # Arrow's mark for years it cannot write
    return pc.binary_join_element_wise(text, "Z", "") if zone else text


def _single(row: pa.RecordBatch, converters: Mapping[str, Convert], limits: Limits) -> Row | RowError:
    if (size := _size(row)) > limits.max_row_bytes:
        return RowError(Outcome.TOO_LARGE, f"a row of {size:,} bytes; the limit is {limits.max_row_bytes:,}")
    try:
        return _checked(row.to_pylist()[0], converters, limits)
    except MemoryError:
        raise
    except UnicodeDecodeError as error:
        return RowError(
            Outcome.INVALID_UNICODE, f"byte {error.start} of a text, {error.object[error.start]:#04x}, is not UTF-8"
        )
    except _UNREADABLE as error:
        return RowError(Outcome.INVALID_SYNTAX, f"a value that cannot be read: {error}")


def _checked(row: Row, converters: Mapping[str, Convert], limits: Limits) -> Row | RowError:
    try:
        for name, convert in converters.items():
            row[name] = convert(row[name])
        if any(isinstance(value, dict | list) for value in row.values()):
            check_depth(row, limits.max_depth)
    except RowError as error:
        return error
    return row


ARROW_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    SystemError,
)
"""What Arrow raises for damaged bytes. A lack of memory is among them: see `raise_if_out_of_memory`."""

_LARGEST_CLAIM = 1 << 40
"""Bytes that no row group has: a larger request for memory is of a damaged length, on any machine."""
_SHORT = ("Failed to launch worker thread", "Cannot allocate memory")
"""What Arrow says, as an error of any kind, where the system gives it no thread or no memory."""
_REQUESTED = re.compile(r"(?:malloc of size|realloc of size) (\d+) failed")


def raise_if_out_of_memory(error: BaseException) -> None:
    """Raise an error that tells of this machine's memory and not of the file, since what is read must not depend on it.

    Raises
    ------
    MemoryError
        Memory is short. Not where so much was requested that the length in the file must be damaged.
    """
    if any(text in str(error) for text in _SHORT):
        raise MemoryError(error_text(error)) from error
    if isinstance(error, MemoryError):
        requested = _REQUESTED.search(str(error))
        if requested is None or int(requested[1]) < _LARGEST_CLAIM:
            raise error


def error_text(error: BaseException) -> str:
    """Return the first line of an Arrow error; the others are advice about Arrow."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__


def _size(batch: pa.RecordBatch) -> int:
    """Bytes of a batch. Older versions of pyarrow cannot count those of views in a part of an array."""
    try:
        return batch.nbytes
    except pa.ArrowTypeError:
        return batch.get_total_buffer_size() if batch.num_rows > 1 else len(repr(batch.to_pylist()))
