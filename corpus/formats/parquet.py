"""Parquet, batch by batch. The schema is at the file's end, so a truncated file has no readable row."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.formats.base import BrokenFileError, Format, Limits, Row, RowError, Rows
from corpus.formats.columnar import SLICE_ROWS, batch_rows, check_names, error_text
from corpus.formats.stream import Input
from corpus.storage import StorageError

_BATCH_BYTES = 16 << 20


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a Parquet file; positions are row numbers from 1.

    Raises
    ------
    BrokenFileError
        The file has no valid footer, or two columns have the same name.
    """
    # A head cannot be read without the footer, so the whole file is opened.
    file = source.whole().seekable(limits)
    try:
        parquet = pq.ParquetFile(file)
    except StorageError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        file.close()
        raise BrokenFileError("the footer", f"not a complete Parquet file: {error_text(error)}") from None
    check_names(parquet.schema_arrow)
    return Rows("row", _rows(parquet, limits), {})


def _rows(parquet: pq.ParquetFile, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    number = 0
    with parquet:
        for group in range(parquet.num_row_groups):
            about = parquet.metadata.row_group(group)
            average = about.total_byte_size // max(about.num_rows, 1)
            size = max(1, min(SLICE_ROWS, _BATCH_BYTES // max(average, 1)))
            try:
                for batch in parquet.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                    for row in batch_rows(batch, limits):
                        number += 1
                        yield number, row
            except StorageError:
                raise
            except (pa.ArrowException, OSError, ValueError) as error:
                raise BrokenFileError(f"row group {group}, after row {number:,}", error_text(error)) from None


PARQUET = Format(name="parquet", suffixes=(".parquet",), read=read, magic=((0, b"PAR1"),))
