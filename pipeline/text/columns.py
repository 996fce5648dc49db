"""Text columns as the Arrow columns and arrays that kernels read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import polars as pl
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


_kept: dict[tuple[int, int, int], tuple[pa.Array, pa.Array]] | None = None
"""Address, offset and length of the views of a polars column to these views, which keeps them, and its copy."""


@contextmanager
def copies_kept() -> Iterator[None]:
    """Have `large_strings` keep its copies, so that none is made twice while several functions read a column."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def large_strings(texts: pl.Series) -> pa.Array:
    """Return a String column as large_string, for which its texts are copied: see `copies_kept`."""
    if _kept is None or not len(texts):
        return _copied(texts)
    views, key = _views(texts)
    if key not in _kept:
        _kept[key] = views, _copied(texts)
    return _kept[key][1]


def to_series(name: str, texts: pa.Array) -> pl.Series:
    """Return a large_string column as a polars column, of which `large_strings` then is that column."""
    series = pl.Series(name, texts)
    if _kept is not None and len(texts):
        views, key = _views(series)
        _kept[key] = views, texts
    return series


def _copied(texts: pl.Series) -> pa.Array:
    return texts.to_arrow().cast(pa.large_string())


def _views(texts: pl.Series) -> tuple[pa.Array, tuple[int, int, int]]:
    """Return the views of a String column, which refer to its texts, and their place in memory."""
    views = texts.to_arrow(compat_level=pl.CompatLevel.newest())
    return views, (views.buffers()[1].address, views.offset, len(views))
