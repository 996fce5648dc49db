"""The dry run: one page that says how a mix would be read and whether a build would stop; it writes nothing.

manifest ─ discover ─▶ files ─ survey ─▶ what was read of each source ─┬▶ page: sources, outcomes, rules, verdict
                                                                       └▶ with `verbose`: details of each source
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from corpus.config import ConfigError, closest
from corpus.discover import SourceFile
from corpus.source import SourceSpec
from corpus.storage.location import is_url
from corpus.terminal import counted
from pipeline.dedup.near.spec import describe
from pipeline.engine.budget import PROCESS_BYTES, STEP_BYTES
from pipeline.guard import Guard
from pipeline.ingest.inputs import DISK_PER_TEXT, TEXT_PER_BYTE, discover_inputs, doubts, text_bytes
from pipeline.ingest.step import unused_columns
from pipeline.manifest import Mix
from pipeline.report.console import console, safe
from pipeline.report.details import show_details
from pipeline.report.epoch import curated_share, draws, epoch_table
from pipeline.report.rules import rules_table
from pipeline.report.survey import Survey, share_of, surveys

MAX_SOURCES = 20
"""Sources on the page; more are summed up."""
MAX_LISTED = 6
"""Columns, or problems' lines, that are named where there may be many."""
CORE_RATE = 8e6
"""Bytes of text that a build processes per second and core (tests/benchmarks/results/scale.txt: 7.7 to 12.0 MB/s)."""
READ_TIME, READ_DISK = 0.3, 0.3
"""Shares of the time and of the disk of a build that reading, cleaning and exact duplicates take: `draw_margin` saves
of the rest (tests/benchmarks/results/scale.txt: 8 of 43 s where rows are read as columns, 17 of 60 s one by one)."""
START_SECONDS = 10
"""What a build takes besides: processes, and compiled kernels from the cache."""
GENERATED_BYTES = 100
"""Bytes of text in a generated row, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """A source, its files and what was read of them."""

    spec: SourceSpec
    files: Sequence[SourceFile]
    survey: Survey
    rows: int
    """Rows in all files."""
    is_exact: bool
    """Whether `rows` is counted rather than estimated."""

    @property
    def data(self) -> list[SourceFile]:
        """The files that are read."""
        return [file for file in self.files if not file.skipped and not file.problem]

    @property
    def text(self) -> float:
        """Bytes of text in these files, about."""
        return text_bytes(self.data) + (GENERATED_BYTES * self.rows if self.spec.generator is not None else 0)

    @property
    def outcomes(self) -> Counter[str]:
        """Outcomes of the pairs, and rows without a pair, that were read."""
        found = Counter({"kept": sum(read.found.records for read in self.survey.files)})
        for read in self.survey.files:
            found.update(read.found.dropped)
        return found


def preview(
    mix: Mix,
    base: Path,
    *,
    workers: int = 1,
    verbose: bool = False,
    only: Sequence[str] = (),
    refused: Callable[[Sequence[SourceFile]], list[str]] = lambda files: [],
) -> list[str]:
    """Print the dry run.

    Parameters
    ----------
    mix
        The manifest.
    base
        Folder that its relative paths start from.
    workers
        Processes of the build.
    verbose
        Print the details of all sources, epoch draws and examples of each rule before the page.
    only
        Print the details of these sources.
    refused
        Returns why a build would refuse to start, given all input files.

    Returns
    -------
    list of str
        Problems that a build would stop for, as far as they are seen in what is read; they are printed too.

    Raises
    ------
    corpus.config.ConfigError
        A path or glob matches nothing, or `only` names no source.
    """
    names = [spec.name for spec in mix.sources]
    for name in only:
        if name not in names:
            raise ConfigError(f"--source {name}: the manifest has no such source{closest(name, names)}")
    screen = console()
    by_source: list[list[SourceFile]] = [[] for _ in mix.sources]
    for order, _, file in discover_inputs(mix, base):
        by_source[order].append(file)
    found = [
        _surveyed(spec, files, read)
        for spec, files, read in zip(mix.sources, by_source, surveys(mix, by_source), strict=True)
    ]
    for source in found:
        if verbose or source.spec.name in only:
            show_details(source.spec, source.files, source.survey, screen)
    trials = [source.survey.trial for source in found if source.survey.trial is not None]
    if verbose:
        screen.print("")
        screen.print(epoch_table(mix, by_source))
        screen.print("")
        screen.print(rules_table(mix, trials))
        if mix.near_dedup.enabled:
            screen.print(f"\n{describe(mix.near_dedup)}", soft_wrap=True)
    screen.print("")
    screen.print(_sources(found))
    _show_outcomes(found, screen)
    _show_rules(mix, found, screen)
    _show_columns(found, screen)
    for doubt in doubts([file for source in found for file in source.files]):
        screen.print(f"[bold]uncertain:[/] {safe(doubt)}", soft_wrap=True)
    problems = [
        *Guard(mix, [file for source in found for file in source.survey.files]).file_problems(),
        *refused([file for source in found for file in source.files]),
    ]
    _show_verdict(mix, found, workers, problems, screen)
    return problems


def _surveyed(spec: SourceSpec, files: Sequence[SourceFile], read: Survey) -> Surveyed:
    known = draws(spec, files).rows
    if known is not None:
        return Surveyed(spec=spec, files=files, survey=read, rows=known, is_exact=True)
    share, rows, is_exact = share_of(files), 0.0, True
    for each in read.files:
        size = each.file.bytes * (TEXT_PER_BYTE if each.file.compression else 1.0)
        is_part = each.found.end.detail == "read in part"
        rows += each.found.end.rows * (max(1.0, size / share) if is_part else 1)
        is_exact = is_exact and not is_part
    return Surveyed(spec=spec, files=files, survey=read, rows=round(rows), is_exact=is_exact)


def _sources(found: Sequence[Surveyed]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("source", overflow="fold")
    table.add_column("role")
    for name in ("files", "skipped", "size", "rows", "read of them", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("read as", overflow="fold")
    for source in found[:MAX_SOURCES]:
        kinds = Counter(
            " ".join(part for part in (file.format, file.compression, file.adapter) if part) for file in source.data
        )
        table.add_row(safe(source.spec.name), source.spec.role, *_cells([source]), safe(_listed(kinds)))
    if rest := found[MAX_SOURCES:]:
        table.add_row(f"and {len(rest):,} more", "", *_cells(rest), "")
    if len(found) > 1:
        table.add_section()
        table.add_row("all", "", *_cells(found), "")
    return table


def _cells(sources: Sequence[Surveyed]) -> tuple[str, ...]:
    """Files, skipped files, size, rows, rows that were read, share of what was read that is dropped."""
    data = sum(len(source.data) for source in sources)
    skipped = sum(len(source.files) for source in sources) - data
    about = "" if all(source.is_exact for source in sources) else "about "
    outcomes = sum((source.outcomes for source in sources), Counter[str]())
    read = sum(each.found.end.rows for source in sources for each in source.survey.files)
    return (
        f"{data:,}",
        f"{skipped:,}" if skipped else "-",
        _size(size) if (size := sum(file.bytes for source in sources for file in source.files)) else "-",
        f"{about}{sum(source.rows for source in sources):,}",
        f"{read:,}",
        _percent(outcomes.total() - outcomes["kept"], outcomes.total()),
    )


def _show_outcomes(found: Sequence[Surveyed], screen: Console) -> None:
    outcomes = sum((source.outcomes for source in found), Counter[str]())
    lost = [f"{name.replace('_', ' ')} {count:,}" for name, count in outcomes.most_common() if name != "kept"]
    screen.print(
        f"of {outcomes.total():,} pairs, and rows without a pair, that were read, cleaning and rules keep "
        f"{outcomes['kept']:,} ({_percent(outcomes['kept'], outcomes.total())})"
        + (f"; {safe(', '.join(lost))}" if lost else ""),
        soft_wrap=True,
    )


def _show_rules(mix: Mix, found: Sequence[Surveyed], screen: Console) -> None:
    trials = [source.survey.trial for source in found if source.survey.trial is not None]
    pairs = sum(trial.pairs for trial in trials)
    takes = {name: sum(trial.drops[name] for trial in trials) for name in mix.rules.rules}
    for text, is_on in (("rules, each alone", True), ("rules that are off would take", False)):
        listed = [
            f"{name} {count:,}" for name, count in takes.items() if count and mix.rules.rules[name].enabled is is_on
        ]
        if listed:
            screen.print(f"{text}, of {pairs:,} sampled pairs: {safe(', '.join(listed))}", soft_wrap=True)


def _show_columns(found: Sequence[Surveyed], screen: Console) -> None:
    lines = [
        f"{line.source}: {line.column} ({line.fill_rate})"
        for source in found
        for line in unused_columns(source.spec.name, [read.found for read in source.survey.files])
    ]
    if lines:
        more = f", and {len(lines) - MAX_LISTED:,} more" if len(lines) > MAX_LISTED else ""
        screen.print(f"columns that no pair uses: {safe(', '.join(lines[:MAX_LISTED]))}{more}", soft_wrap=True)


def _show_verdict(mix: Mix, found: Sequence[Surveyed], workers: int, problems: Sequence[str], screen: Console) -> None:
    text = sum(source.text for source in found)
    curated = sum(source.text * curated_share(mix, source.spec, source.data, source.rows) for source in found)
    left = curated / text if text else 1.0
    cores = min(workers, os.cpu_count() or 1)
    disk = DISK_PER_TEXT * text * (READ_DISK + (1 - READ_DISK) * left)
    memory = PROCESS_BYTES + workers * (PROCESS_BYTES + STEP_BYTES)
    place = Path(mix.out) if mix.out and not is_url(str(mix.out)) else Path()
    free = shutil.disk_usage(next(folder for folder in (place, *place.resolve().parents) if folder.exists())).free
    seconds = START_SECONDS + text / CORE_RATE / cores * (READ_TIME + (1 - READ_TIME) * left)
    drawn = f", of which about {_size(curated)} are curated (draw_margin)" if left < 1 else ""
    screen.print(
        f"a build takes about {_duration(seconds)} with {counted(workers, 'worker')} (the first on a machine about "
        f"20 s longer, to compile kernels), at most {_size(memory)} of memory and about {_size(disk)} of disk "
        f"({_size(free)} free); estimates from {_size(text)} of text{drawn}",
        soft_wrap=True,
    )
    if disk > free:
        screen.print("[bold]the disk is probably too small[/]; --work names a folder on another disk", soft_wrap=True)
    for problem in problems:
        screen.print(f"\n[bold]a build would stop:[/] {safe(problem)}", soft_wrap=True)
    if problems:
        screen.print(
            f"\n[bold]verdict: a build would stop[/] ({counted(len(problems), 'problem')}, above); nothing was written"
        )
    else:
        screen.print(
            "\n[bold]verdict: nothing in what was read would stop a build[/]; nothing was written. --verbose or "
            "--source NAME shows details, leave out --dry-run to build",
            soft_wrap=True,
        )


def _listed(kinds: Counter[str]) -> str:
    shown = [kind if len(kinds) == 1 else f"{kind} {count:,}" for kind, count in kinds.most_common(3)]
    return ", ".join(shown) + (", …" if len(kinds) > len(shown) else "")


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(whole, 1)
    return "< 0.1 %" if 0 < share < 0.1 else f"{share:.1f} %"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
