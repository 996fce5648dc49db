"""SIGTERM and SIGINT as a request to stop at the next step boundary; the second one ends the process at once."""

import os
import signal
import sys
from types import FrameType, TracebackType

RESUME_ME = 75
"""Exit code (EX_TEMPFAIL) of a run that was asked to stop and can be continued by the same command."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether this process has been asked to stop; catches the signals while it is entered."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = signal.Signals(number)
        print(
            f"\n{self.received.name}: stopping after this step; once more to exit at once", file=sys.stderr, flush=True
        )
