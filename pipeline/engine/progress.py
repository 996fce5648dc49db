"""Progress of stages: a live line with a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from corpus.terminal import make_console
from pipeline.engine.counters import Counts

RATES = (("rows", "rows/s", 1.0), ("bytes", "MB/s", 1e6), ("tokens", "tokens/s", 1.0))
"""Name of a count, unit of its rate, counts per unit."""


class Display:
    """Shows the progress of a build on a stream, standard error by default.

    Parameters
    ----------
    stream
        Where to write.
    interval
        Seconds between the lines of a stage where the stream is not a terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, interval: float = 10.0) -> None:
        self.console = make_console(file=stream or sys.stderr, highlight=False, markup=False, soft_wrap=True)
        self.interval = interval
        self.stages: list[StageProgress] = []
        """Stages that have ended."""

    def line(self, text: str) -> None:
        """Print one line."""
        self.console.print(text)
        self.console.file.flush()

    @contextmanager
    def stage(self, name: str, tasks: int, finished: int) -> Iterator["StageProgress"]:
        """Show a stage of `tasks` steps, of which an earlier run completed `finished`."""
        progress = StageProgress(self, name, tasks, finished)
        try:
            yield progress
        finally:
            progress.close()
        self.stages.append(progress)


class StageProgress:
    """Counts of a running stage."""

    def __init__(self, display: Display, name: str, tasks: int, finished: int) -> None:
        self.name, self.tasks = name, tasks
        self.reused = self.finished = finished
        self.counts: Counts = {}
        self.seconds = 0.0
        """Wall time until the stage was last shown."""
        self._display = display
        self._begin = self._shown = time.monotonic()
        self._live: Progress | None = None
        if display.console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description:<20}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rates]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=display.console,
            )
            self._task = self._live.add_task(name, total=tasks, completed=finished, rates="")
            self._live.start()

    def add(self, counts: Counts) -> None:
        """Add the counts that a worker sent."""
        for name, number in counts.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def task_done(self) -> None:
        """Count one more step as complete."""
        self.finished += 1

    def refresh(self) -> None:
        """Show the present state, if the last time is long enough ago."""
        now = time.monotonic()
        if self._live is not None and now - self._shown > 0.2:
            self._live.update(self._task, completed=self.finished, rates="  ".join(self._details()))
            self._shown = now
        elif self._live is None and now - self._shown > self._display.interval:
            self._display.line(self._text() + self._left())
            self._shown = now

    def close(self) -> None:
        """Leave the stage's last line."""
        self.seconds = time.monotonic() - self._begin
        if self._live is None:
            self._display.line(self._text())
        else:
            self._live.update(self._task, completed=self.finished, rates="  ".join(self._details()))
            self._live.stop()

    def _text(self) -> str:
        self.seconds = time.monotonic() - self._begin
        return "  ".join([f"{self.name:<20} {self.finished:>6,}/{self.tasks:,}", *self._details(elapsed=True)])

    def _left(self) -> str:
        """Return the time left as the steps so far suggest, empty before the first one."""
        steps, open_steps = self.finished - self.reused, self.tasks - self.finished
        if not steps or not open_steps:
            return ""
        return f"  left {timedelta(seconds=round((time.monotonic() - self._begin) / steps * open_steps))}"

    def _details(self, *, elapsed: bool = False) -> Iterator[str]:
        """Yield the columns after the number of steps; `elapsed` adds the time, which a live line has anyway."""
        seconds = max(time.monotonic() - self._begin, 1e-3)
        if self.reused:
            yield f"{self.reused:,} from an earlier run"
        if elapsed and (self.finished > self.reused or self.counts or self.finished < self.tasks):
            yield f"{seconds:.1f} s"
        for name, unit, scale in RATES:
            if number := self.counts.get(name):
                rate = number / scale / seconds
                yield f"{rate:,.1f} {unit}" if scale > 1 else f"{rate:,.0f} {unit}"
