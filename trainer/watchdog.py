"""A thread that ends a process whose main thread is blocked, as by a rank that is frozen or gone.

Python runs signal handlers in the main thread between two of its instructions, so a process that waits for another rank
inside of a collective is deaf to SIGTERM for as long as it waits. This thread is notified of signals all the same:

    signal, no unsaved work, handler not run for `HANDLER_SECONDS` ─▶ exit, no work is lost
    signal, no progress for stop_timeout ──────────────────────────▶ exit, steps since the last checkpoint are lost
    no progress for stall_timeout ─────────────────────────────────▶ exit, the same; warnings come before

A process that writes a checkpoint is not blocked. After a signal, a run with long steps gets twice its longest step.
"""

import os
import select
import signal
import threading
import time
from types import TracebackType

from trainer.stop import EXIT_RESUMABLE, SAME_REQUEST_SECONDS, SIGNALS, StopRequest, print_now

HANDLER_SECONDS = 5.0
"""Time that the handler of a signal gets."""
WARNING_SECONDS = 120.0
"""Time without progress before the first warning; doubled for each further one."""


class Watchdog:
    """Watches the progress that is reported to a `StopRequest`; a context manager for the main thread."""

    def __init__(self, request: StopRequest):
        self._request = request
        self._done = threading.Event()

    def __enter__(self) -> "Watchdog":
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        self._write = write
        self._before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._before)
        self._done.set()
        os.write(self._write, b"\0")  # wakes the thread
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _watch(self) -> None:
        request = self._request
        signalled: tuple[float, signal.Signals] | None = None
        warning = WARNING_SECONDS
        while not self._done.is_set():
            received = self._signal()
            now = time.monotonic()
            if received is not None and signalled is None:
                signalled = now, received
            elif received is not None and signalled is not None and now - signalled[0] >= SAME_REQUEST_SECONDS:
                os._exit(128 + received)
            if signalled is not None:
                self._check_stop(*signalled, now)
            idle = now - request.progressed
            if request.stall_timeout is None:
                continue
            if idle >= request.stall_timeout:
                _exit(f"no progress for {idle:.0f} s (stall_timeout): another rank or the device is blocked")
            if idle < WARNING_SECONDS:
                warning = WARNING_SECONDS
            elif idle >= warning:
                warning *= 2
                print_now(
                    f"no progress for {idle:.0f} s: waiting for another rank, the device or a compilation; exits after "
                    f"{request.stall_timeout:.0f} s (stall_timeout)"
                )

    def _signal(self) -> signal.Signals | None:
        """The request to stop that arrived within the next second, if any."""
        if not select.select([self._read], [], [], 1.0)[0]:
            return None
        return next((signal.Signals(number) for number in os.read(self._read, 64) if number in SIGNALS), None)

    def _check_stop(self, since: float, number: signal.Signals, now: float) -> None:
        request = self._request
        if request.received is None and now - since >= HANDLER_SECONDS and not request.has_unsaved_work():
            _exit(f"{number.name}: stopped while the process was blocked, no work is lost")
        if request.stop_timeout is None or request.is_saving:
            return
        limit = max(request.stop_timeout, 2 * request.longest)
        if now - max(since, request.progressed) >= limit:
            _exit(f"{number.name}: no step boundary within {limit:.0f} s, another rank or the device is blocked")


def _exit(reason: str) -> None:
    print_now(f"{reason}; the same command continues from the last checkpoint")
    os._exit(EXIT_RESUMABLE)
