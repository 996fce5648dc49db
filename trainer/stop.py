"""SIGTERM and SIGINT as a request to stop.

While there is work that a kill would lose, a request is a flag: the loop looks at it at step boundaries and between the
batches of an evaluation, writes a checkpoint and leaves. While there is none (at start-up, during the first evaluation,
in the first step with whatever it compiles) the process leaves at once, with the same exit code.

A scheduler that signals every process of a job and a launcher that hands its own signal on deliver one request twice.
So whatever comes within `SAME_REQUEST` seconds of the first signal is that request; one that comes later is a second
request and ends the process at once.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, TracebackType

RESUME_ME = 75
"""Exit code (EX_TEMPFAIL) of a run that was asked to stop and can be continued by the same command."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)

SAME_REQUEST = 5.0
"""Seconds after the first signal in which a further one is taken for the same request."""


class StopRequest:
    """Whether this process has been asked to stop; catches the signals while it is entered."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.work_at_stake: Callable[[], bool] = lambda: False
        """Whether leaving at once would lose work; the loop sets it."""
        self._first = 0.0

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
            if not self.work_at_stake():
                _say(f"{name}: nothing is lost by stopping here; the same command continues")
                os._exit(RESUME_ME)
            _say(f"{name}: stopping at the next step boundary; again after {SAME_REQUEST:.0f} s to exit at once")
        elif now - self._first >= SAME_REQUEST:
            os._exit(128 + number)


def _say(text: str) -> None:
    # Past sys.stderr's buffer, which the interrupted code may be in the middle of using.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, f"\n{text}\n".encode())
