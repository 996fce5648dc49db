"""What a person sees at the end of a build."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN_FILES = 20
"""Files not read to their end that are printed."""


def console() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 180, highlight=False)


def show(
    dataset: Mapping[str, Any], faults: Sequence[Mapping[str, Any]], *, out: str, work: Path, seconds: float
) -> None:
    """Print the sources' table, what was not read, totals, and the next command.

    Parameters
    ----------
    dataset
        Content of dataset.json.
    faults
        Lines of ledger/files.parquet about files that were not read to their end.
    out, work
        Where the dataset and the intermediate results are.
    seconds
        Wall time.
    """
    screen = console()
    screen.print(f"[bold]{escape(dataset['name'])}[/]")
    screen.print(_table(dataset, screen.width))
    _show_files(faults, screen)
    screen.print(
        f"{dataset['samples']:,} samples, {dataset['tokens']:,} tokens ({dataset['response_tokens']:,} in responses), "
        f"{dataset['shards']:,} shards, vocabulary {dataset['tokenizer']['vocab_size']:,}, {seconds:.1f} s"
    )
    screen.print(f"dataset: {escape(out)}   report: {escape(out.rstrip('/'))}/report/index.html", soft_wrap=True)
    screen.print(
        f"intermediate results: {escape(str(work))} (kept, so that a changed manifest redoes only what it must)",
        soft_wrap=True,
    )
    screen.print(f"next: python -m trainer.train manifests/train.yaml data={escape(out)}", soft_wrap=True)


def _table(dataset: Mapping[str, Any], width: int) -> Table:
    """Sources and what became of their rows: a column for each reason, or, where that is too wide, one for all."""
    counts = {
        name + (" (eval)" if count["role"] == "eval" else ""): {**count, **count["dropped"]}
        for name, count in dataset["counts"].items()
    }
    keys = ["rows", "pairs", "kept", "tokens"]
    total: Counter[str] = Counter()
    for count in dataset["counts"].values():
        total.update({key: count[key] for key in keys})
        total.update(count["dropped"])
    reasons = sorted(set(total) - set(keys), key=lambda reason: (-total[reason], reason))
    lines = {**counts, "all": total}
    columns = {
        key: [f"{line.get(key, 0):,}" if line.get(key) else "-" for line in lines.values()] for key in keys + reasons
    }
    widths = {key: max(*map(len, cells), *map(len, key.split("_"))) for key, cells in columns.items()}
    matrix = max(map(len, lines)) + sum(2 + size for size in widths.values()) <= width

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("source", no_wrap=True)
    shown = keys + (reasons if matrix else [])
    for key in shown:
        table.add_column("rows in" if key == "rows" else key.replace("_", " "), justify="right", width=widths[key])
    if not matrix:
        table.add_column("dropped, by reason")
    for number, (name, line) in enumerate(lines.items()):
        listed = ", ".join(f"{reason.replace('_', ' ')} {line[reason]:,}" for reason in reasons if line.get(reason))
        table.add_row(escape(name), *(columns[key][number] for key in shown), *([] if matrix else [listed or "-"]))
    return table


def _show_files(faults: Sequence[Mapping[str, Any]], screen: Console) -> None:
    if not faults:
        return
    screen.print("files not read to their end")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("source", "file", "outcome", "why"):
        table.add_column(name, overflow="fold")
    for line in faults[:SHOWN_FILES]:
        why = ": ".join(part for part in (line["position"], line["detail"]) if part)
        table.add_row(
            *(escape(text) for text in (line["source"], line["file"], line["outcome"].replace("_", " "), why))
        )
    screen.print(table)
    if len(faults) > SHOWN_FILES:
        screen.print(f"and {len(faults) - SHOWN_FILES:,} more, in ledger/files.parquet")
