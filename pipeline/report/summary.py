"""The summary that a build prints when it ends."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from corpus.config import shipped
from corpus.contract import REPORT, DatasetInfo
from corpus.formats.tally import describe_losses
from corpus.terminal import counted
from pipeline.records.ledger import ColumnLine
from pipeline.report.console import console, safe

MAX_COLUMNS = 12
"""Unused columns of a source that are listed."""
MAX_FILES = 20
"""Files not read whole that are listed."""


def show(
    info: DatasetInfo,
    faults: Sequence[Mapping[str, Any]],
    columns: Sequence[ColumnLine],
    *,
    out: str,
    work: Path,
    seconds: float,
    vocab_size: int | None,
) -> None:
    """Print the table of sources, the files that were not read, totals, and the next command.

    Parameters
    ----------
    info
        Content of dataset.json.
    faults
        The lines of ledger/files.parquet that are notable.
    columns
        Lines of ledger/columns.parquet.
    out, work
        Where the dataset and the intermediate results are.
    seconds
        Wall time of the build.
    vocab_size
        Vocabulary that the manifest asks a trained tokenizer for; None for a given tokenizer.
    """
    screen = console()
    screen.print(f"[bold]{safe(info.name)}[/]")
    screen.print(_sources(info, screen.width))
    if faults:
        _show_faults(faults, screen)
    if columns:
        show_columns(columns, screen)
    screen.print(
        f"{counted(info.samples, 'sample')}, {info.tokens:,} tokens "
        f"({info.response_tokens:,} in responses), {counted(info.shards, 'shard')}, "
        f"vocabulary {info.tokenizer.vocab_size:,}, {seconds:.1f} s"
    )
    if info.epochs is not None:
        screen.print(
            f"built for {info.epochs:,} {'epoch' if info.epochs == 1 else 'epochs'}: pairs that a run of so many never "
            "draws are not in the shards (not drawn)",
            soft_wrap=True,
        )
    if vocab_size is not None and info.tokenizer.vocab_size < vocab_size:
        screen.print(
            f"the vocabulary is smaller than tokenizer.vocab_size={vocab_size:,}: the texts have no further pair of "
            "tokens to merge",
            soft_wrap=True,
        )
    screen.print(f"dataset: {safe(out)}   report: {safe(out.rstrip('/'))}/{REPORT}", soft_wrap=True)
    screen.print(
        f"intermediate results: {safe(str(work))} (kept, so that a changed manifest repeats only the affected steps)",
        soft_wrap=True,
    )
    run = PurePosixPath("out", PurePosixPath(out.rstrip("/")).name + "-train")
    here = Path("manifests/train.yaml")
    manifest = shlex.quote(str(here if here.is_file() else shipped(here.name) or here))
    command = f"python -m trainer.train {manifest} data={shlex.quote(out)} out={shlex.quote(str(run))}"
    screen.print(f"next: {safe(command)}", soft_wrap=True)


def _sources(info: DatasetInfo, width: int) -> Table:
    """Make the table of sources: a column per reason for drops, or one column for all where that is too wide."""
    keys = ("rows", "pairs", "kept", "tokens")
    counts = {
        f"{name} (eval)" if count.role == "eval" else name: Counter({key: getattr(count, key) for key in keys})
        for name, count in info.counts.items()
    }
    drops = dict(zip(counts, (Counter(count.dropped) for count in info.counts.values()), strict=True))
    counts["all"] = sum(counts.values(), Counter())
    drops["all"] = sum(drops.values(), Counter())
    reasons = sorted(drops["all"], key=lambda reason: (-drops["all"][reason], reason))

    columns = {key: [_number(line[key]) for line in counts.values()] for key in keys}
    by_reason = {reason: [_number(line[reason]) for line in drops.values()] for reason in reasons}
    widths = {key: max(*map(len, cells), *map(len, key.split("_"))) for key, cells in (columns | by_reason).items()}
    if max(map(len, counts)) + sum(2 + size for size in widths.values()) <= width:
        columns |= by_reason
        listed = None
    else:
        listed = [
            ", ".join(f"{_words(reason)} {line[reason]:,}" for reason in reasons if line[reason]) or "-"
            for line in drops.values()
        ]

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("source", no_wrap=True)
    for key in columns:
        table.add_column("rows in" if key == "rows" else _words(key), justify="right", width=widths[key])
    if listed is not None:
        table.add_column("dropped, by reason")
    for name, *cells in zip(counts, *columns.values(), *([] if listed is None else [listed]), strict=True):
        table.add_row(safe(name), *cells)
    return table


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _words(name: str) -> str:
    return name.replace("_", " ")


def show_columns(columns: Sequence[ColumnLine], screen: Console, indent: str = "") -> None:
    """Print the columns of each source that no pair uses."""
    screen.print(f"{indent}columns that no pair uses, with the share of rows in which they are filled")
    for source, group in groupby(columns, key=lambda line: line.source):
        lines = list(group)
        screen.print(f"{indent}  {safe(source)}")
        for line in lines[:MAX_COLUMNS]:
            screen.print(f"{indent}    {safe(str(line))}", soft_wrap=True)
        if len(lines) > MAX_COLUMNS:
            screen.print(f"{indent}    and {len(lines) - MAX_COLUMNS:,} more")


def _show_faults(faults: Sequence[Mapping[str, Any]], screen: Console) -> None:
    screen.print("files that were not read whole")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("source", "file", "outcome", "why"):
        table.add_column(name, overflow="fold")
    for line in faults[:MAX_FILES]:
        why = ": ".join(part for part in (line["position"], line["detail"]) if part)
        why = "; ".join(filter(None, [why, describe_losses(line["bytes_lost"])]))
        cells = (line["source"] or "", line["file"] or "", _words(line["outcome"] or ""), why)
        table.add_row(*map(safe, cells))
    screen.print(table)
    if len(faults) > MAX_FILES:
        screen.print(f"and {len(faults) - MAX_FILES:,} more, in ledger/files.parquet")
