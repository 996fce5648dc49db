"""Reading of files as records, for notebooks and scripts: `corpus.read` and the iterating `corpus.read_batches`."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa
from pydantic import Field

from corpus.discover import SourceFile, discover
from corpus.formats.external import Reader
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.plugins import Plugin
from corpus.record import SCHEMA, Pair, Rejected, row_id
from corpus.source import FieldMap, SourceSpec

_LOG = logging.getLogger(__name__)
_BATCH_PAIRS = 8192


class _InMemory(Plugin):
    """A function that a caller passed."""

    function: Callable[..., Any] = Field(exclude=True)

    def load(self) -> Any:
        return self.function


def read(
    path: str | Path | list[str],
    *,
    format: str | Reader | None = None,
    adapter: str | Callable[[dict[str, Any]], Iterable[tuple[str, str]]] | None = None,
    map: FieldMap | dict[str, Any] | None = None,
    task: str = "file",
    condition: tuple[str, ...] = (),
    source: str = "data",
) -> pl.DataFrame:
    """Read files of instruction–response data into a frame of records.

    Texts are as in the files: `pipeline.clean` cleans them. Rows without a pair and files that cannot be read whole
    are logged as warnings, with the reason.

    Parameters
    ----------
    path
        File, folder (recursive), glob or fsspec URL, or a list of them.
    format
        Name of a format, or a function from a binary file (decompressed, forward only) to an iterable of rows, which
        are dicts. Detected for each file by default.
    adapter
        Name of an adapter, or a function from a row to an iterable of (instruction, response). Detected for each file
        by default.
    map
        Column templates `instruction` and `response`, as in a manifest, instead of an adapter.
    task
        Stratum of a pair: "file" (relative path without suffixes), "source", or "column:NAME".
    condition
        Conditions added to every pair.
    source
        Name of the source, which is part of `row_id`.

    Returns
    -------
    polars.DataFrame
        One row per pair, in the order of files and rows; columns as in `corpus.record.SCHEMA`.

    Raises
    ------
    corpus.config.ConfigError
        The path names no file.
    pydantic.ValidationError
        An argument is invalid, such as an unknown format.
    OSError
        A remote store cannot be reached.

    Examples
    --------
    >>> import corpus, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "sums.jsonl"
    >>> _ = path.write_text('{"question": "1 + 1?", "answer": "2", "level": 3}')
    >>> corpus.read(path, condition=("direct",)).drop("row_id").row(0)
    ('data', 'sums', '1 + 1?', '2', ['direct'], '{"level": 3}')
    >>> corpus.read(path, adapter=lambda row: [(row["question"], f"= {row['answer']}")])["response"].to_list()
    ['= 2']
    """
    options: dict[str, Any] = {"map": map, "task": task, "condition": condition, "source": source}
    empty = cast(pl.DataFrame, pl.from_arrow(SCHEMA.empty_table()))
    return pl.concat([empty, *read_batches(path, format=format, adapter=adapter, **options)])


def read_batches(
    path: str | Path | list[str],
    *,
    format: str | Reader | None = None,
    adapter: str | Callable[[dict[str, Any]], Iterable[tuple[str, str]]] | None = None,
    source: str = "data",
    **options: Any,
) -> Iterator[pl.DataFrame]:
    """Yield the frames that `read` concatenates, for files that are larger than memory.

    Parameters
    ----------
    path, format, adapter, source, options
        As for `read`.
    """
    spec = SourceSpec(
        name=source,
        path=path if isinstance(path, list) else str(path),
        format=_named(format),
        adapter=_named(adapter),
        **options,
    )
    for file in discover(spec, Path()):
        pairs = _pairs(spec, file)
        while batch := list(islice(pairs, _BATCH_PAIRS)):
            yield _frame(spec, file, batch)


def _named(value: str | Callable[..., Any] | None) -> str | Plugin | None:
    if value is None or isinstance(value, str):
        return value
    return _InMemory(reference=getattr(value, "__name__", repr(value)), path="", source="", function=value)


def _pairs(spec: SourceSpec, file: SourceFile) -> Iterator[Pair]:
    """Yield the pairs of a file, and log the rest."""
    rejected: list[Rejected] = []
    reasons: Counter[str] = Counter()
    for item in read_pairs(spec, file):
        if isinstance(item, Pair):
            yield item
        elif isinstance(item, Rejected):
            reasons[item.reason] += 1
            rejected = rejected or [item]
        elif item.outcome not in (FileOutcome.READ, FileOutcome.EMPTY):
            place = f"{item.position}: " if item.position else ""
            _LOG.warning("%s: %s: %s%s", file.shown_url, item.outcome, place, item.detail)
    for first in rejected:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        _LOG.warning("%s: rows without a pair: %s; %s: %s", file.shown_url, counts, first.position, first.detail)


def _frame(spec: SourceSpec, file: SourceFile, pairs: list[Pair]) -> pl.DataFrame:
    columns = {
        "row_id": [row_id(spec.name, file.path, pair.row, pair.part) for pair in pairs],
        "source": [spec.name] * len(pairs),
        "task": [pair.task for pair in pairs],
        "instruction": [pair.instruction for pair in pairs],
        "response": [pair.response for pair in pairs],
        "condition": [list(pair.condition) for pair in pairs],
        "meta": [pair.meta for pair in pairs],
    }
    return cast(pl.DataFrame, pl.from_arrow(pa.table(columns, schema=SCHEMA)))
