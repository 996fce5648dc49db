"""What an epoch draws from each source, as far as that is known before a build."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.markup import escape
from rich.table import Table

from corpus.discover import SourceFile
from corpus.source import SourceSpec, stratum_of
from corpus.storage.connect import open_file
from pipeline.manifest import Mix

_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Of one source."""

    strata: int | None
    """None if columns of its rows tell."""
    rows: int | None
    """In its files; None if only reading them would tell."""
    drawn: int | None
    """Rows that an epoch draws, repeated ones each time, if every row is one sample and none is dropped."""


def draw(spec: SourceSpec, files: Sequence[SourceFile]) -> Draw:
    """What an epoch draws from a source with these files.

    A file's rows are known where its format states them at one place: Parquet, and generators.
    """
    files = [file for file in files if file.format is not None]
    by_column = spec.task.startswith("column:") or (spec.map is not None and spec.map.task is not None)
    with ThreadPoolExecutor(_THREADS) as threads:
        counts = list(threads.map(lambda file: _rows(spec, file), files))
    strata: Counter[str] = Counter()
    for file, rows in zip(files, counts, strict=True):
        strata[stratum_of(spec, file.path)] += rows or 0
    if None in counts:
        return Draw(strata=None if by_column else len(strata), rows=None, drawn=None)
    wanted = [rows * spec.repeat for rows in strata.values()]
    if spec.max_per_epoch is not None and not by_column:
        wanted = [min(rows, spec.max_per_epoch) for rows in wanted]
    return Draw(strata=None if by_column else len(strata), rows=sum(strata.values()), drawn=sum(wanted))


def _rows(spec: SourceSpec, file: SourceFile) -> int | None:
    if spec.generator is not None:
        return int(parse_qs(urlsplit(file.url).query)["rows"][0])
    if file.format != "parquet" or file.compression is not None:
        return None
    try:
        with open_file(file.url) as opened:
            return int(pq.read_metadata(opened).num_rows)
    except (OSError, pa.ArrowException):
        return None  # the table of files, or the build, says why


def epoch_table(mix: Mix, files: Sequence[Sequence[SourceFile]]) -> Table:
    """Caps, repeats and draws of the train sources, for people.

    Parameters
    ----------
    mix
        The manifest.
    files
        For each of its sources, the files.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title="an epoch draws, if every row is one sample and none is dropped",
        title_justify="left",
    )
    table.add_column("source", no_wrap=True)
    for name in ("files", "strata", "rows", "at most a stratum", "repeat", "rows drawn"):
        table.add_column(name, justify="right")
    total, known = Counter[str](), True
    for spec, mine in zip(mix.sources, files, strict=True):
        if spec.role != "train":
            continue
        found = draw(spec, mine)
        total.update(files=len(mine), strata=found.strata or 0, rows=found.rows or 0, drawn=found.drawn or 0)
        known = known and found.drawn is not None
        table.add_row(
            escape(spec.name),
            f"{len(mine):,}",
            "by column" if found.strata is None else f"{found.strata:,}",
            "?" if found.rows is None else f"{found.rows:,}",
            "-" if spec.max_per_epoch is None else f"{spec.max_per_epoch:,}",
            "-" if spec.repeat == 1 else f"x {spec.repeat}",
            "?" if found.drawn is None else f"{found.drawn:,}",
        )
    more = "" if known else " + ?"
    counts = [f"{total[name]:,}" for name in ("files", "strata", "rows", "drawn")]
    table.add_section()
    table.add_row("all", counts[0], counts[1], counts[2] + more, "", "", counts[3] + more)
    return table
