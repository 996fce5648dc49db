"""Counters: how much a step has processed, sent from workers to the build that shows it.

A step calls `count(rows=…, bytes=…, tokens=…)` as it works. In a worker the counts go to the queue given to `connect`;
in a process without one they are dropped.
"""

import time
from typing import Protocol

Counts = dict[str, int]


class _Queue(Protocol):
    def put(self, item: Counts, /) -> None: ...


_queue: _Queue | None = None
_pending: Counts = {}
_sent = 0.0


def connect(queue: _Queue) -> None:
    """Send the counts of this process to `queue`."""
    global _queue
    _queue = queue


def count(**counts: int) -> None:
    """Add to the counts of the running stage; sent at most a few times a second."""
    if _queue is None:
        return
    for name, number in counts.items():
        _pending[name] = _pending.get(name, 0) + number
    if time.monotonic() - _sent > 0.2:
        flush()


def flush() -> None:
    """Send pending counts."""
    global _sent
    if _queue is not None and _pending:
        _queue.put(dict(_pending))
        _pending.clear()
    _sent = time.monotonic()
