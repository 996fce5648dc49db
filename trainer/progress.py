"""Progress of commands that answer many questions: a line at the start, then one every ten seconds."""

import math
import sys
import time

from corpus import cli

INTERVAL = 10.0
"""Seconds between two lines."""


class Progress:
    """Prints how many of a number of things are done, on standard error.

    Parameters
    ----------
    name
        What is under way.
    total
        Number of things.
    things
        Their name: "questions".
    interval
        Seconds between two lines.
    """

    def __init__(self, name: str, total: int, things: str, *, interval: float = INTERVAL):
        self._name, self._total, self._things, self._interval = name, total, things, interval
        self._first: int | None = None
        self._begin = self._shown = time.monotonic()

    def __call__(self, done: int) -> None:
        """Print a line at the first call, and where the last one is long enough ago."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._begin, left = done, now, math.nan
        elif now - self._shown < self._interval and done < self._total:
            return
        else:
            left = (now - self._begin) / max(1, done - self._first) * (self._total - done)
        self._shown = now
        text = f"{self._name:<20} {done:>6,}/{self._total:,} {self._things}  {now - self._begin:.1f} s"
        if done < self._total and math.isfinite(left):
            text += f"  left {duration(left)}"
        cli.say(text, sys.stderr)


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds: "1:02:03"; "?" if it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
