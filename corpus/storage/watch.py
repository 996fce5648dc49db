"""Stall detection: a transfer that brings no byte for some seconds has failed, whatever the store's client thinks."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from corpus.storage import StorageError

T = TypeVar("T")


def watched(action: Callable[[], T], *, stall: float | None, progress: Callable[[], object] = lambda: None) -> T:
    """What an action returns or raises, unless it makes no progress for `stall` seconds.

    Parameters
    ----------
    action
        Runs in a thread. After a stall the thread is abandoned and exists until the action ends.
    stall
        Seconds; None: the action is not watched.
    progress
        A value that changes with every byte. Without it the whole action must end within `stall` seconds.

    Raises
    ------
    StorageError
        There was no progress.
    """
    if stall is None:
        return action()
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(action())
        except BaseException as error:  # raised below
            errors.append(error)
        done.set()

    threading.Thread(target=work, name="storage", daemon=True).start()
    seen, since = progress(), time.monotonic()
    while not done.wait(stall / 10):
        if (now := progress()) != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since >= stall:
            raise StorageError(f"nothing came for {stall:.0f} s")
    if errors:
        raise errors[0]
    return results[0]
