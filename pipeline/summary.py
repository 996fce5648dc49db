"""What a person sees at the end of a build."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN_FILES = 20
"""Files not read to their end that are printed."""


def console() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


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
    table = Table(title=escape(dataset["name"]), title_justify="left")
    table.add_column("source", no_wrap=True)
    for name in ("rows in", "pairs", "kept", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("dropped, by reason")
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for name, count in dataset["counts"].items():
        total.update({key: count[key] for key in ("rows", "pairs", "kept", "tokens")})
        reasons.update(count["dropped"])
        label = name + (" (eval)" if count["role"] == "eval" else "")
        table.add_row(escape(label), *_numbers(count), _by_reason(count["dropped"]))
    table.add_section()
    table.add_row("all", *_numbers(total), _by_reason(reasons))
    screen.print(table)
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


def _numbers(count: Mapping[str, int]) -> list[str]:
    return [f"{count[key]:,}" if count[key] else "-" for key in ("rows", "pairs", "kept", "tokens")]


def _by_reason(dropped: Mapping[str, int]) -> str:
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in ordered) or "-"


def _show_files(faults: Sequence[Mapping[str, Any]], screen: Console) -> None:
    if not faults:
        return
    table = Table(title="files not read to their end", title_justify="left")
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
