"""Arrow text columns as the arrays that kernels read."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Texts(NamedTuple):
    """UTF-8 of n texts, one after the other."""

    data: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    """(n + 1,): text i is data[bounds[i]:bounds[i + 1]]."""


def texts_of(column: pa.Array | pa.ChunkedArray) -> Texts:
    """View a large_string column without nulls as arrays; only a column of several chunks is copied.

    The arrays are read-only, whatever the column's buffers are, so that kernels are compiled for one type.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    _, offsets, data = column.buffers()
    content = np.frombuffer(data or b"", np.uint8)
    bounds = np.frombuffer(offsets or bytes(8), np.int64)[column.offset : column.offset + len(column) + 1]
    content.flags.writeable = bounds.flags.writeable = False
    return Texts(content, bounds)
