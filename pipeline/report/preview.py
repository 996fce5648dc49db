"""The dry run: how a mix would be read, shown before anything is built; it writes nothing."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.table import Table

from corpus.discover import SourceFile
from corpus.outcome import FileOutcome
from corpus.source import SourceSpec
from pipeline.dedup.near.spec import describe
from pipeline.guard import Guard
from pipeline.ingest.inputs import discover_inputs
from pipeline.ingest.step import unused_columns
from pipeline.manifest import Mix
from pipeline.report.console import console, safe
from pipeline.report.epoch import epoch_table
from pipeline.report.rules import rules_table
from pipeline.report.summary import show_columns
from pipeline.report.survey import Survey, surveys

MAX_FILES = 10
MAX_NAMED = 3
"""Files, and kinds of files, that one line names."""
EXAMPLE_CHARS = 300


def preview(mix: Mix, base: Path) -> list[str]:
    """Print the files of each source, what was read of them, example records, unused columns, draws and rules.

    Parameters
    ----------
    mix
        The manifest.
    base
        Folder that its relative paths start from.

    Returns
    -------
    list of str
        Problems that a build would stop for, as far as they are seen in what is read; they are printed too.

    Raises
    ------
    corpus.config.ConfigError
        A path or glob matches nothing.
    """
    screen = console()
    by_source: list[list[SourceFile]] = [[] for _ in mix.sources]
    for order, _, file in discover_inputs(mix, base):
        by_source[order].append(file)
    found = surveys(mix, by_source)
    for spec, files, read in zip(mix.sources, by_source, found, strict=True):
        size = sum(file.bytes for file in files)
        screen.print(f"\n[bold]{safe(spec.name)}[/] ({spec.role}): {len(files):,} files, {size:,} bytes")
        _show_files(files, screen)
        _show_survey(spec, read, screen)
    screen.print("")
    screen.print(epoch_table(mix, by_source))
    screen.print("")
    screen.print(rules_table(mix, [read.trial for read in found if read.trial is not None]))
    if mix.near_dedup.enabled:
        screen.print(f"\n{describe(mix.near_dedup)}", soft_wrap=True)
    problems = Guard(mix, [file for read in found for file in read.files]).file_problems()
    for problem in problems:
        screen.print(f"\n[bold]a build would stop:[/] {safe(problem)}", soft_wrap=True)
    screen.print("\nnothing was written" + ("" if problems else "; leave out --dry-run to build"))
    return problems


def _show_survey(spec: SourceSpec, found: Survey, screen: Console) -> None:
    for file, pair in found.examples:
        screen.print(f"  [dim]{safe(file.path)} row {pair.row} part {pair.part}, task {safe(pair.task)}[/]")
        for label, text in (("instruction", pair.instruction), ("response", pair.response)):
            screen.print(f"    {label}: {safe(text, EXAMPLE_CHARS)}", soft_wrap=True)
        if pair.condition:
            screen.print(f"    condition: {', '.join(pair.condition)}")
    results = [read.found for read in found.files]
    pairs, rejected = sum(result.pairs for result in results), sum(result.rejected for result in results)
    dropped: Counter[str] = Counter()
    for result in results:
        dropped.update(result.dropped)
    partly = f"; {found.partial:,} of {len(results):,} files in part" if found.partial else ""
    screen.print(f"  read{partly}: {pairs:,} pairs, {rejected:,} rows without a pair")
    for reason, count in dropped.most_common():
        examples = (
            f"{read.file.path}, {read.found.examples[reason]}" for read in found.files if reason in read.found.examples
        )
        why = next(examples, None)
        screen.print(f"    {count:,} {reason}" + (f", as in {safe(why)}" if why else ""), soft_wrap=True)
    for read in found.files:
        end = read.found.end
        if end.outcome in (FileOutcome.TRUNCATED, FileOutcome.UNREADABLE) and read.file.problem is None:
            where = ": ".join(part for part in (end.position, end.detail) if part)
            screen.print(safe(f"  {read.file.path}: {end.outcome}: {where}"), soft_wrap=True)
    if columns := unused_columns(spec.name, results):
        show_columns(columns, screen, "  ")


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
    if len(paths) <= MAX_NAMED:
        return ", ".join(paths)
    suffixes = Counter(PurePosixPath(path).suffix for path in paths).most_common(MAX_NAMED + 1)
    of = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in suffixes[:MAX_NAMED])
    more = ", …" if len(suffixes) > MAX_NAMED else ""
    return f"{len(paths):,} files ({of}{more}; {', '.join(paths[:MAX_NAMED])}, …)"


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)
