"""The dry run: how a mix would be read, shown before anything is built; it writes nothing."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.table import Table

from corpus.discover import SourceFile
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from pipeline.dedup.near.spec import describe
from pipeline.ingest.inputs import discover_inputs
from pipeline.manifest import Mix
from pipeline.report.console import console, safe
from pipeline.report.epoch import epoch_table
from pipeline.report.rules import rules_table

EXAMPLES = 3
MAX_ITEMS = 1000
"""Rows and pairs of a source that are read to find its examples."""
MAX_FILES = 10
EXAMPLE_CHARS = 300


def preview(mix: Mix, base: Path) -> None:
    """Print the files of each source, their formats and adapters, skipped files, example records, draws and rules.

    Parameters
    ----------
    mix
        The manifest.
    base
        Folder that its relative paths start from.

    Raises
    ------
    corpus.config.ConfigError
        A path or glob matches nothing.
    """
    screen = console()
    by_source: list[list[SourceFile]] = [[] for _ in mix.sources]
    for order, _, file in discover_inputs(mix, base):
        by_source[order].append(file)
    for spec, files in zip(mix.sources, by_source, strict=True):
        size = sum(file.bytes for file in files)
        screen.print(f"\n[bold]{safe(spec.name)}[/] ({spec.role}): {len(files):,} files, {size:,} bytes")
        _show_files(files, screen)
        _show_examples(spec, files, screen)
    screen.print("")
    screen.print(epoch_table(mix, by_source))
    screen.print("")
    screen.print(rules_table(mix, by_source))
    if mix.near_dedup.enabled:
        screen.print(f"\n{describe(mix.near_dedup)}", soft_wrap=True)
    screen.print("\nnothing was written; leave out --dry-run to build")


def _show_files(files: Sequence[SourceFile], screen: Console) -> None:
    unread: dict[str, list[str]] = {}
    data = []
    for file in files:
        if file.skipped or file.problem:
            kind = "skipped" if file.skipped else "unreadable"
            unread.setdefault(f"{kind}: {file.skipped or file.problem}", []).append(file.path)
        else:
            data.append(file)
    if data:
        table = Table()
        for name in ("file", "bytes", "format", "adapter"):
            table.add_column(name, overflow="fold", justify="right" if name == "bytes" else "left")
        for file in data[:MAX_FILES]:
            cells = (file.path, f"{file.bytes:,}", _joined(file.format, file.compression), file.adapter or "")
            table.add_row(*map(safe, cells))
        screen.print(table)
    if rest := data[MAX_FILES:]:
        kinds = Counter(_joined(f.format, f.compression, f.adapter) for f in rest)
        listed = ", ".join(f"{count:,} {kind or 'empty'}" for kind, count in kinds.most_common())
        screen.print(f"and {len(rest):,} more: {safe(listed)}")
    for why, paths in list(unread.items())[:MAX_FILES]:
        screen.print(safe(f"  {_listed(paths)} {why}"), soft_wrap=True)
    if hidden := list(unread.values())[MAX_FILES:]:
        screen.print(f"  {sum(map(len, hidden)):,} more files skipped or unreadable, for {len(hidden):,} other reasons")


def _listed(paths: Sequence[str]) -> str:
    """Name files in a line: all of a few, or the number, the suffixes and some of many."""
    if len(paths) <= EXAMPLES:
        return ", ".join(paths)
    suffixes = Counter(PurePosixPath(path).suffix for path in paths).most_common(EXAMPLES + 1)
    of = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in suffixes[:EXAMPLES])
    more = ", …" if len(suffixes) > EXAMPLES else ""
    return f"{len(paths):,} files ({of}{more}; {', '.join(paths[:EXAMPLES])}, …)"


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _show_examples(spec: SourceSpec, files: Sequence[SourceFile], screen: Console) -> None:
    shown = 0
    rejected: list[tuple[str, Rejected]] = []
    read = (file for file in files if not file.skipped and not file.problem)
    items = ((file, item) for file in read for item in read_pairs(spec, file))
    for file, item in islice(items, MAX_ITEMS):
        if isinstance(item, Pair):
            shown += 1
            screen.print(f"  [dim]{safe(file.path)} row {item.row} part {item.part}, task {safe(item.task)}[/]")
            for label, text in (("instruction", item.instruction), ("response", item.response)):
                screen.print(f"    {label}: {safe(text, EXAMPLE_CHARS)}", soft_wrap=True)
            if item.condition:
                screen.print(f"    condition: {', '.join(item.condition)}")
            if shown == EXAMPLES:
                return
        elif isinstance(item, Rejected):
            rejected.append((file.path, item))
        elif isinstance(item, FileEnd) and item.detail:
            screen.print(safe(f"  {file.path}: {item.outcome}: {item.detail}"))
    for path, line in rejected[:EXAMPLES]:
        screen.print(safe(f"  {path}, {line.position}: {line.reason}: {line.detail}"), soft_wrap=True)
    if not shown:
        screen.print("  no pair found; set `adapter` or `map` for this source")
