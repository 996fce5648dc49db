"""The dry run: how a mix would be read, shown before anything is built. Writes nothing."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.discover import SourceFile
from corpus.formats.base import printable
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from pipeline.dedup.near.spec import describe
from pipeline.ingest.inputs import discover_inputs
from pipeline.manifest import Mix
from pipeline.report.epoch import epoch_table
from pipeline.report.rules import rules_table
from pipeline.report.summary import console

EXAMPLES = 3
LOOKED_AT = 1000
"""Rows and pairs of a source that are read to find its examples, at most."""
SHOWN_FILES = 10
SHOWN_CHARS = 300


def preview(mix: Mix, base: Path) -> None:
    """Print each source's files with their formats and adapters, what is skipped, and its first records.

    Raises
    ------
    corpus.config.ConfigError
        A path or glob that names nothing.
    """
    screen = console()
    found = discover_inputs(mix, base)
    for order, spec in enumerate(mix.sources):
        files = [file for place, _, file in found if place == order]
        size = sum(file.bytes for file in files)
        screen.print(f"\n[bold]{escape(spec.name)}[/] ({spec.role}): {len(files):,} files, {size:,} bytes")
        _show_files(files, screen)
        _show_examples(spec, files, screen)
    screen.print("")
    by_source = [[file for place, _, file in found if place == order] for order in range(len(mix.sources))]
    screen.print(epoch_table(mix, by_source))
    screen.print("")
    screen.print(rules_table(mix, by_source))
    if mix.near_dedup.enabled:
        screen.print(f"\n{describe(mix.near_dedup)}", soft_wrap=True)
    screen.print("\nnothing was written; leave out --dry-run to build")


def _show_files(files: Sequence[SourceFile], screen: Console) -> None:
    table = Table()
    for name in ("file", "bytes", "format", "adapter", "skipped because"):
        table.add_column(name, overflow="fold", justify="right" if name == "bytes" else "left")
    for file in files[:SHOWN_FILES]:
        shape = " ".join(part for part in (file.format, file.compression) if part)
        why = file.skipped or file.problem or ""
        table.add_row(*(escape(text) for text in (file.path, f"{file.bytes:,}", shape, file.adapter or "", why)))
    screen.print(table)
    rest = files[SHOWN_FILES:]
    kinds = Counter(
        "skipped"
        if file.skipped
        else " ".join(str(part) for part in (file.format, file.compression, file.adapter) if part)
        for file in rest
    )
    if rest:
        shown = ", ".join(f"{count:,} {kind or 'unreadable'}" for kind, count in kinds.most_common())
        screen.print(f"and {len(rest):,} more: {escape(shown)}")
        for file in rest:
            if file.skipped or file.problem:
                screen.print(escape(f"  {file.path}: {file.skipped or file.problem}"))


def _show_examples(spec: SourceSpec, files: Sequence[SourceFile], screen: Console) -> None:
    shown = 0
    rejected: list[tuple[str, Rejected]] = []
    items = ((file, item) for file in files for item in read_pairs(spec, file))
    for file, item in islice(items, LOOKED_AT):
        if isinstance(item, Pair):
            shown += 1
            screen.print(f"  [dim]{escape(file.path)} row {item.row} part {item.part}, task {escape(item.task)}[/]")
            for label, text in (("instruction", item.instruction), ("response", item.response)):
                screen.print(f"    {label}: {escape(_short(text))}", soft_wrap=True)
            if item.condition:
                screen.print(f"    condition: {', '.join(item.condition)}")
            if shown == EXAMPLES:
                return
        elif isinstance(item, Rejected):
            rejected.append((file.path, item))
        elif isinstance(item, FileEnd) and item.detail:
            screen.print(escape(f"  {file.path}: {item.outcome}: {item.detail}"))
    for path, line in rejected[:EXAMPLES]:
        screen.print(escape(f"  {path}, {line.position}: {line.reason}: {line.detail}"), soft_wrap=True)
    if not shown:
        screen.print("  no pair found; state `adapter` or `map` for this source")


def _short(text: str) -> str:
    text = text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."
    return printable(text).replace("\n", "\\n")
