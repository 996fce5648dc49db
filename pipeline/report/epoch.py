"""The dry run's table of epoch draws: rows that an epoch draws from each source, where known before a build."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.table import Table

from corpus.discover import SourceFile
from corpus.source import SourceSpec, stratum_of
from corpus.storage.connect import open_file
from pipeline.manifest import Mix
from pipeline.report.console import safe

_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Size of one source, and how much of it an epoch draws."""

    strata: int | None
    """Number of strata; None if a column decides the stratum of a row."""
    rows: int | None
    """Rows in its files; None if only reading the files would give the number."""
    drawn: int | None
    """Rows that an epoch draws, counting repeats, if every row is one sample and none is dropped."""
    sharded: int | None = None
    """Rows that the epochs of the mix draw at all, under the same condition; None if unknown, or for any number."""


def draws(spec: SourceSpec, files: Sequence[SourceFile], epochs: int | None = None) -> Draws:
    """Count what an epoch, and all `epochs` of the mix together, draw from a source.

    The number of rows is known for Parquet files, from their metadata, and for generators.
    """
    files = [file for file in files if file.format is not None]
    by_column = spec.task.startswith("column:") or (spec.map is not None and spec.map.task is not None)
    with ThreadPoolExecutor(_THREADS) as threads:
        counts = list(threads.map(lambda file: _rows(spec, file), files))
    strata: Counter[str] = Counter()
    for file, rows in zip(files, counts, strict=True):
        strata[stratum_of(spec, file.path)] += rows or 0
    if None in counts:
        return Draws(strata=None if by_column else len(strata), rows=None, drawn=None)
    drawn = [rows * spec.repeat for rows in strata.values()]
    sharded = list(strata.values())
    if spec.max_per_epoch is not None and not by_column:
        drawn = [min(rows, spec.max_per_epoch) for rows in drawn]
        sharded = [rows if epochs is None else min(rows, epochs * spec.max_per_epoch) for rows in sharded]
    return Draws(
        strata=None if by_column else len(strata),
        rows=sum(strata.values()),
        drawn=sum(drawn),
        sharded=None if by_column or epochs is None else sum(sharded),
    )


def curated_share(mix: Mix, spec: SourceSpec, files: Sequence[SourceFile], rows: int) -> float:
    """Estimate the share of a source's rows that `draw_margin` leaves to be compared, decontaminated and encoded.

    A stratum's share of the rows is taken to be that of its files' bytes. It is 1 where a column decides the stratum of
    a row, since the number of strata is not known.
    """
    by_column = spec.task.startswith("column:") or (spec.map is not None and spec.map.task is not None)
    if mix.epochs is None or mix.draw_margin is None or spec.max_per_epoch is None or by_column or not rows:
        return 1.0
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[stratum_of(spec, file.path)] += max(file.bytes, 1)
    most = mix.draw_margin * mix.epochs * spec.max_per_epoch
    return sum(min(rows * size / sizes.total(), most) for size in sizes.values()) / rows if sizes else 1.0


def _rows(spec: SourceSpec, file: SourceFile) -> int | None:
    if spec.generator is not None:
        return int(parse_qs(urlsplit(file.url).query)["rows"][0])
    if file.format != "parquet" or file.compression is not None:
        return None
    try:
        with open_file(file.url) as opened:
            return int(pq.read_metadata(opened).num_rows)
    except (OSError, pa.ArrowException):
        return None  # the table of files, or the build, reports the error


def epoch_table(mix: Mix, files: Sequence[Sequence[SourceFile]]) -> Table:
    """Return a table of caps, repeats and draws of the train sources.

    Parameters
    ----------
    mix
        The manifest.
    files
        The files of each of its sources, in the manifest's order.
    """
    title = "an epoch draws, if every row is one sample and none is dropped"
    if mix.draw_margin is not None:
        title += f"; of a stratum, no more than {mix.draw_margin:g} times the rows sharded are curated"
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=title,
        title_justify="left",
    )
    table.add_column("source", no_wrap=True)
    for name in ("files", "strata", "rows", "at most per stratum", "repeat", "rows drawn"):
        table.add_column(name, justify="right")
    if mix.epochs is not None:
        table.add_column(f"rows sharded for {_epochs(mix.epochs)}", justify="right")
    total, known, all_known = Counter[str](), True, True
    for spec, found in zip(mix.sources, files, strict=True):
        if spec.role != "train":
            continue
        epoch = draws(spec, found, mix.epochs)
        total.update(files=len(found), strata=epoch.strata or 0, rows=epoch.rows or 0, drawn=epoch.drawn or 0)
        total.update(sharded=epoch.sharded or 0)
        known = known and epoch.drawn is not None
        all_known = all_known and epoch.sharded is not None
        cells = (
            safe(spec.name),
            f"{len(found):,}",
            "by column" if epoch.strata is None else f"{epoch.strata:,}",
            "?" if epoch.rows is None else f"{epoch.rows:,}",
            "-" if spec.max_per_epoch is None else f"{spec.max_per_epoch:,}",
            "-" if spec.repeat == 1 else f"x {spec.repeat}",
            "?" if epoch.drawn is None else f"{epoch.drawn:,}",
            *([] if mix.epochs is None else ["?" if epoch.sharded is None else f"{epoch.sharded:,}"]),
        )
        table.add_row(*cells)
    more = "" if known else " + ?"
    counts = [f"{total[name]:,}" for name in ("files", "strata", "rows", "drawn")]
    table.add_section()
    sharded = [] if mix.epochs is None else [f"{total['sharded']:,}" + ("" if all_known else " + ?")]
    table.add_row("all", counts[0], counts[1], counts[2] + more, "", "", counts[3] + more, *sharded)
    return table


def _epochs(count: int) -> str:
    return f"{count:,} {'epoch' if count == 1 else 'epochs'}"
