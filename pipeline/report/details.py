"""Details of the dry run: the files of a source, examples, what was read of them, and columns that no pair uses."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from rich.console import Console
from rich.table import Table

from corpus.discover import SourceFile
from corpus.outcome import FileOutcome
from corpus.source import SourceSpec
from corpus.terminal import counted
from pipeline.ingest.step import unused_columns
from pipeline.report.console import safe
from pipeline.report.summary import show_columns
from pipeline.report.survey import Survey

MAX_FILES = 10
MAX_NAMED = 3
"""Files, and kinds of files, that one line names."""
EXAMPLE_CHARS = 300


def show_details(spec: SourceSpec, files: Sequence[SourceFile], found: Survey, screen: Console) -> None:
    """Print all that a survey found of a source."""
    size = sum(file.bytes for file in files)
    screen.print(f"\n[bold]{safe(spec.name)}[/] ({spec.role}): {counted(len(files), 'file')}, {size:,} bytes")
    _show_files(files, screen)
    _show_survey(spec, found, screen)


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
    partly = f"; {found.partial:,} of {counted(len(results), 'file')} in part" if found.partial else ""
    screen.print(f"  read{partly}: {counted(pairs, 'pair')}, {counted(rejected, 'row')} without a pair")
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
