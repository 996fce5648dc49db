"""What a person sees at the end of a build."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN_FILES = 20


def console() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def show(dataset: dict[str, Any], out: str, work: Path, seconds: float) -> None:
    """Print the sources' table, what was not read, totals, and the next command."""
    screen = console()
    reasons = sorted({reason for count in dataset["counts"].values() for reason in count["dropped"]})
    table = Table(title=escape(dataset["name"]), title_justify="left")
    table.add_column("source")
    for name in ("rows in", "pairs", "kept", *reasons, "tokens"):
        table.add_column(name.replace("_", " "), justify="right")
    total = [0] * (4 + len(reasons))
    for name, count in dataset["counts"].items():
        numbers = [count["rows"], count["pairs"], count["kept"]]
        numbers += [count["dropped"].get(reason, 0) for reason in reasons] + [count["tokens"]]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        label = escape(name) + (" (eval)" if count["role"] == "eval" else "")
        table.add_row(label, *[f"{number:,}" if number else "-" for number in numbers])
    table.add_section()
    table.add_row("all", *[f"{number:,}" for number in total])
    screen.print(table)
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
