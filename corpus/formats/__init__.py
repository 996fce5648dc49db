"""Readers: one module a format, each streaming rows in bounded memory.

Input (bytes, decompressed) ─▶ reader ─▶ Rows: (position, row or RowError), …, then maybe BrokenFileError
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from corpus.formats.base import Limits, Rows
from corpus.formats.stream import Input

_MODULES: Mapping[str, str] = {
    "jsonl": "jsonl",
    "json": "json_file",
    "csv": "csv_file",
    "tsv": "csv_file",
    "yaml": "yaml_list",
    "parquet": "parquet",
    "arrow": "arrow",
    "webdataset": "webdataset",
}
"""Format to the module of this package whose `read` reads it."""

SUFFIXES: Mapping[str, str] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tar": "webdataset",
}
"""Suffix of a file name to the format it suggests."""


def open_rows(source: Input, file_format: str, limits: Limits) -> Rows:
    """Rows of a file; its bytes are read as the rows are asked for.

    Raises
    ------
    BrokenFileError
        No row can be read.
    OSError
        The file or its store cannot be reached.
    """
    # Imported when needed: a reader may stand on a heavy library.
    module = import_module(f"corpus.formats.{_MODULES[file_format]}")
    return cast(Callable[[Input, Limits], Rows], module.read)(source, limits)
