"""SIGTERM and SIGINT as a request to stop.

While a kill would lose work, a signal only sets a flag: the loop checks it at step boundaries and between the batches
of an evaluation, writes a checkpoint and exits. While there is no unsaved work (at start-up, during the first
evaluation, in the first step with its compilation) the process exits at once. The exit code is the same.

A scheduler that signals every process of a job and a launcher that forwards its own signal deliver one request twice.
Signals within `SAME_REQUEST_SECONDS` of the first one therefore count as the same request; a later one is a second
request and ends the process at once.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType

EXIT_RESUMABLE = 75
"""Exit code (EX_TEMPFAIL) of a run that was stopped by a signal and that the same command continues."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)

SAME_REQUEST_SECONDS = 5.0
"""Seconds after the first signal during which further ones count as the same request."""


class StopRequest:
    """Whether a signal has asked this process to stop; handles the signals while it is entered as a context manager."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.has_unsaved_work: Callable[[], bool] = lambda: False
        """Whether exiting at once would lose work; set by the loop."""
        self.progressed = time.monotonic()
        """Time of the last call of `progress`, for `trainer.watchdog`."""
        self.stall_timeout: float | None = None
        """Seconds without progress after which the process is ended; None until the loop begins."""
        self.stop_timeout: float | None = None
        """The same after a signal."""
        self.longest = 0.0
        """Longest time in seconds between two calls of `progress`, without the first step."""
        self.is_saving = False
        """Whether a checkpoint is being written, which a request to stop must not interrupt."""
        self._first = 0.0
        self._steps = 0

    def begin(self, *, stall_timeout: float, stop_timeout: float) -> None:
        """Begin to expect progress."""
        self.stall_timeout, self.stop_timeout = stall_timeout, stop_timeout
        self.progressed, self._steps = time.monotonic(), 0

    def progress(self) -> None:
        """Note that the process is not blocked."""
        now = time.monotonic()
        self._steps += 1
        if self._steps > 1:  # the first includes compilation
            self.longest = max(self.longest, now - self.progressed)
        self.progressed = now

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now, name = time.monotonic(), signal.Signals(number).name
        if self.received is None:
            self.received, self._first = signal.Signals(number), now
            if not self.has_unsaved_work():
                print_now(f"{name}: stopped, no work is lost; the same command continues")
                os._exit(EXIT_RESUMABLE)
            print_now(
                f"{name}: stopping at the next step boundary; again after {SAME_REQUEST_SECONDS:.0f} s to exit at once"
            )
        elif now - self._first >= SAME_REQUEST_SECONDS:
            os._exit(128 + number)


def print_now(text: str) -> None:
    """Print a line to stderr from a signal handler or while other threads are blocked."""
    # Written past sys.stderr's buffer, which the interrupted code may be using.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, f"\n{text}\n".encode())
