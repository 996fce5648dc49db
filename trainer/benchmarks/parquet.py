"""Parquet files as lists of rows and back. The only module of the trainer that imports pyarrow, when it is called."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def read_parquet(content: bytes) -> list[dict[str, Any]]:
    """Read all rows of a Parquet file, given its bytes.

    Raises
    ------
    ModuleNotFoundError
        pyarrow is not installed.
    """
    import pyarrow
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    return rows


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length, whose types are those of their values.

    Raises
    ------
    ModuleNotFoundError
        pyarrow is not installed.
    """
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path, compression="zstd")
