"""Arrays: entries divided by number, and files that are written part by part, as arrays may not fit in memory."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


def by_number(numbers: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each number that occurs in an integer array (n,), ascending, and the ascending indices of its entries."""
    if not len(numbers):
        return
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    for indices in np.split(order, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1):
        yield int(numbers[indices[0]]), indices


class ArrayWriter:
    """Writes a one-dimensional array of unknown length as a file that `np.load` reads; a context manager.

    Parameters
    ----------
    path
        The file, `.npy`.
    dtype
        Of the array.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any] | type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._header(0)
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, part: NDArray[Any]) -> None:
        """Append entries (n,)."""
        self._file.write(np.ascontiguousarray(part, self._dtype).data)
        self._count += len(part)

    def close(self) -> None:
        """Write the length, and close the file."""
        self._file.seek(0)
        self._header(self._count)
        self._file.close()

    def _header(self, count: int) -> None:
        # numpy pads the header, so that a larger count does not lengthen it.
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(self._file, header)
