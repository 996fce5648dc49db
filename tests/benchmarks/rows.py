"""How a build grows with the number of rows: short pairs, of which many take little text.

    pairs ─▶ build ─▶ time, memory, open files of each stage, files that it leaves ─▶ tables, arithmetic

Memory is the resident memory of all processes together, sampled 20 times a second; open files are those of the process
that has most. A stage whose memory grows with the rows shows by the difference of two sizes.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.build import build
from pipeline.engine.progress import Display, StageProgress
from tests.benchmarks.texts import write_short_pairs, write_texts

GOAL_ROWS = 600_000_000
"""Rows of the reference pool."""
OTHER = "(between stages)"


def number(text: str) -> int:
    """Parse a number of rows, as in 500000 or 10M."""
    return int(float(text.removesuffix("M")) * 1_000_000) if text.endswith("M") else int(text)


@dataclass(slots=True, kw_only=True)
class Stage:
    """What one stage of a build took."""

    seconds: float = 0.0
    memory: int = 0
    main: int = 0
    """Memory of the build's own process."""
    open_files: int = 0
    files: list[int] = field(default_factory=list)
    """Sizes of the files that it left in the work folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One build."""

    rows: int
    text: int
    tokens: int
    samples: int
    seconds: float
    dataset: int
    """Bytes of the dataset."""
    stages: dict[str, Stage]


class _Watched(Display):
    """A display that knows which stage runs, and samples what it takes."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "w"))  # noqa: SIM115 - lives as long as the process
        self.found: dict[str, Stage] = {OTHER: Stage()}
        self._current = OTHER
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def stage(self, name: str, tasks: int, finished: int) -> Iterator[StageProgress]:
        self.found.setdefault(name, Stage())
        self._current = name
        begin = time.monotonic()
        with super().stage(name, tasks, finished) as progress:
            yield progress
        self.found[name].seconds += time.monotonic() - begin
        self._current = OTHER

    def end(self) -> None:
        """Stop sampling."""
        self._ended.set()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.05):
            stage, total = self.found[self._current], 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    memory = process.memory_info().rss
                    stage.open_files = max(stage.open_files, process.num_fds())
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
                total += memory
                if process.pid == me.pid:
                    stage.main = max(stage.main, memory)
            stage.memory = max(stage.memory, total)


def measure(rows: int, workers: int, folder: Path) -> Measured:
    """Generate short pairs and build them."""
    text = write_short_pairs(folder / "data", rows)
    write_texts(folder / "held", 0.05, files=1)
    manifest = {
        "name": "rows",
        "sources": [{"name": "short", "path": "data"}, {"name": "held", "path": "held", "role": "eval"}],
        "tokenizer": {"vocab_size": 16_384, "sample_bytes": "8MB"},
        # Pairs of made-up words are often one word apart.
        "guard": {"max_share": 1.0},
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(manifest))
    display = _Watched()
    begin = time.monotonic()
    built = build(folder / "mix.yaml", out=folder / "out", workers=workers, display=display)
    seconds = time.monotonic() - begin
    display.end()
    for path in built.work.rglob("*"):
        if path.is_file() and path.parent != built.work:
            stage = path.relative_to(built.work).parts[0]
            display.found.setdefault(stage, Stage()).files.append(path.stat().st_size)
    published = sum(info.bytes for info in built.dataset.files.values())
    return Measured(
        rows=rows,
        text=text,
        tokens=built.dataset.tokens,
        samples=built.dataset.samples,
        seconds=seconds,
        dataset=published,
        stages=display.found,
    )


def _table(one: Measured) -> Table:
    title = (
        f"{one.rows:,} rows, {one.text / 1e6:,.0f} MB of text, {one.samples:,} samples of "
        f"{one.tokens / one.samples:.1f} tokens: {one.seconds:,.0f} s, {one.rows / one.seconds:,.0f} rows/s"
    )
    table = Table(title=title, title_justify="left")
    for name in ("stage", "seconds", "memory", "of it main", "open files", "files", "largest", "all files"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, stage in one.stages.items():
        table.add_row(
            name,
            f"{stage.seconds:.1f}",
            f"{stage.memory / 1e6:,.0f} MB",
            f"{stage.main / 1e6:,.0f} MB",
            f"{stage.open_files:,}",
            f"{len(stage.files):,}",
            f"{max(stage.files, default=0) / 1e6:,.1f} MB",
            f"{sum(stage.files) / 1e6:,.1f} MB",
        )
    return table


def _arithmetic(measured: Sequence[Measured]) -> Table:
    """What `GOAL_ROWS` take: disk by bytes a row of the largest build, memory by its growth from the smallest one."""
    small, large = measured[0], measured[-1]
    rows = f"{GOAL_ROWS / 1e6:,.0f} M rows"
    title = f"{rows}, from {large.rows:,}; growth of memory from {small.rows:,} to {large.rows:,} rows"
    table = Table(title=title, title_justify="left")
    for name in ("stage", "disk a row", f"disk, {rows}", "memory grew", "of it main", f"main, {rows}"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    disk = 0.0
    for name, stage in large.stages.items():
        before = small.stages.get(name, stage)  # a stage that only the larger build has is not known to grow
        a_row = sum(stage.files) / large.rows
        disk += a_row
        growth = stage.main - before.main
        later = max(growth, 0) / max(large.rows - small.rows, 1) * (GOAL_ROWS - large.rows)
        table.add_row(
            name,
            f"{a_row:,.1f} bytes",
            f"{a_row * GOAL_ROWS / 1e9:,.1f} GB",
            f"{(stage.memory - before.memory) / 1e6:,.0f} MB",
            f"{growth / 1e6:,.1f} MB",
            f"{(stage.main + later) / 1e9:,.2f} GB",
        )
    a_row = disk + large.dataset / large.rows
    table.add_row("all, and dataset", f"{a_row:,.1f} bytes", f"{a_row * GOAL_ROWS / 1e9:,.0f} GB", style="bold")
    return table


def run(sizes: Sequence[int], workers: int, folder: str | None, screen: Console) -> None:
    """Build short pairs of each number of rows, and print what they take."""
    measured = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            measured.append(measure(rows, workers, Path(place)))
        screen.print(_table(measured[-1]))
        screen.print(f"load of the machine in 15 minutes: {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores\n")
    screen.print(_arithmetic(measured))
    screen.print(
        "assumptions: what a stage leaves grows with the rows. Steps are cut to pieces of bounded size, so the memory "
        "of workers is that of the largest piece; the build's own process (main) keeps numbers for files, strata and "
        "buckets. Its growth counts in full, although most of it is that of the first rows. Pairs of near duplicates "
        "are joined in parts of 8 million rows (about 0.3 GB), whatever their number; near-groups also has "
        "for a while 8 bytes on disk for each pair and up to 40 for each record in a group. A dataset's verification "
        "maps its lengths (4 bytes a sample, which the system may drop from memory) and sorts the row ids of the "
        f"ledger in temporary files of 16 bytes a row ({16 * GOAL_ROWS / 1e9:.1f} GB), 256 MB at a time"
    )
