"""Formats: one file each, with its reader, suffixes and signs of recognition; readers stream in bounded memory.

Input (bytes, decompressed) ─▶ reader ─▶ Rows: (position, row or RowError), …, then maybe BrokenFileError

Each module's `Format` objects are registered. A new format is a new module here, or a function beside a manifest
(`corpus.formats.external`).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from corpus.formats.base import Format, Limits, Row, RowError, Rows
from corpus.formats.nesting import EACH, expand, steps_of
from corpus.formats.stream import Input
from corpus.plugins import instances


@cache
def formats() -> Mapping[str, Format]:
    """Return all formats by name. The first call imports all readers, and so pyarrow."""
    return {found.name: found for found in instances(__name__, Format)}


def find_format(name: str) -> Format:
    """Return the format of that name, which must exist."""
    return formats()[name]


def split_suffix(path: str) -> tuple[str, Format | None]:
    """Split a path, without the suffix of a compression, into its stem and the format that its suffix names, if any."""
    for found in formats().values():
        for suffix in found.suffixes:
            if path.lower().endswith(suffix):
                return path[: -len(suffix)], found
    return path, None


def open_rows(source: Input, file_format: str | Format, limits: Limits) -> Rows:
    """Return the rows of a file; its bytes are read as the rows are iterated.

    Raises
    ------
    BrokenFileError
        No row can be read.
    OSError
        The file or its store cannot be reached.
    """
    if isinstance(file_format, str):
        file_format = find_format(file_format)
    found = file_format.read(source, limits)
    if source.layout.rows is None or file_format.name == "json":  # whose reader finds them as it streams
        return found
    steps = steps_of(source.layout.rows)
    inside = steps[1:] if steps[0] == EACH else steps
    return found._replace(rows=_inside(found.rows, inside), blocks=None)


def _inside(rows: Iterator[tuple[int, Row | RowError]], steps: Sequence[str]) -> Iterator[tuple[int, Row | RowError]]:
    """Yield the rows at the path `steps` inside each row."""
    for position, row in rows:
        if isinstance(row, RowError):
            yield position, row
        else:
            for item in expand(row, steps, {}):
                yield position, item
