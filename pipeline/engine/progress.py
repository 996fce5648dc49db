"""Progress: workers report what they did, the build shows it.

A step calls `report(rows=…, bytes=…, tokens=…)` as it goes. In a worker these
go through the queue that `connect` was given; where there is none (a step run
directly) they are dropped. `Display` sums them up per stage: a live line on a
terminal, plain lines elsewhere.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO


class _Queue(Protocol):
    def put(self, item: Any) -> None: ...


_queue: _Queue | None = None
_pending: dict[str, int] = {}
_sent = 0.0


def connect(queue: _Queue) -> None:
    """Send this process's reports to `queue`."""
    global _queue
    _queue = queue


def report(**counts: int) -> None:
    """Add to the running stage's counts (`rows`, `bytes`, `tokens`); sent a few times a second at most."""
    global _sent
    if _queue is None:
        return
    for name, count in counts.items():
        _pending[name] = _pending.get(name, 0) + count
    if time.monotonic() - _sent > 0.2:
        flush()


def flush() -> None:
    """Send what `report` has gathered."""
    global _sent
    if _queue is not None and _pending:
        _queue.put(dict(_pending))
        _pending.clear()
    _sent = time.monotonic()


class Display:
    """Shows how stages go along; one line a stage stays on the screen."""

    def __init__(self, stream: TextIO | None = None, *, interval: float = 10.0) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.interval = interval
        self.stages: list[StageProgress] = []
        """Stages that have ended."""

    def line(self, text: str) -> None:
        """Print one line."""
        print(text, file=self.stream, flush=True)

    @contextmanager
    def stage(self, name: str, tasks: int, finished: int) -> Iterator["StageProgress"]:
        """Show one stage of `tasks` steps, `finished` of them by an earlier run."""
        progress = StageProgress(self, name, tasks, finished)
        yield progress
        progress.close()
        self.stages.append(progress)


class StageProgress:
    """Counts of one stage while it runs."""

    def __init__(self, display: Display, name: str, tasks: int, finished: int) -> None:
        self.display, self.name, self.tasks = display, name, tasks
        self.reused = self.finished = finished
        self.counts: dict[str, int] = {}
        self.begin = self.shown = time.monotonic()
        self.seconds = 0.0
        """Wall time up to the last time it was shown."""

    def add(self, counts: dict[str, int]) -> None:
        """Take in a worker's report."""
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def task_done(self) -> None:
        """One more step is complete."""
        self.finished += 1

    def refresh(self) -> None:
        """Show the present state if the last time is long enough ago."""
        now = time.monotonic()
        if self.display.live and now - self.shown > 0.2:
            width = shutil.get_terminal_size().columns
            self.display.stream.write("\r\x1b[2K" + self._text()[: width - 1])
            self.display.stream.flush()
            self.shown = now
        elif not self.display.live and now - self.shown > self.display.interval:
            self.display.line(self._text())
            self.shown = now

    def close(self) -> None:
        """Leave the stage's last line."""
        if self.display.live:
            self.display.stream.write("\r\x1b[2K")
        self.display.line(self._text())

    def _text(self) -> str:
        seconds = self.seconds = time.monotonic() - self.begin
        parts = [f"{self.name:<20} {self.finished:>6,}/{self.tasks:,}"]
        if self.reused:
            parts.append(f"{self.reused:,} from an earlier run")
        if self.finished > self.reused or self.counts:
            parts.append(f"{seconds:.1f} s")
            for name, unit, scale in (("rows", "rows/s", 1.0), ("bytes", "MB/s", 1e6), ("tokens", "tokens/s", 1.0)):
                if count := self.counts.get(name):
                    rate = count / scale / max(seconds, 1e-3)
                    parts.append(f"{rate:,.1f} {unit}" if scale > 1 else f"{rate:,.0f} {unit}")
        return "  ".join(parts)
