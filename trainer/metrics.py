"""Metrics of a run: records of named values, which every sink receives.

    loop ─ Metrics.write(kind, step, values) ─▶ sinks: JsonLines, TensorBoard, Console, and those the caller adds

A record has a kind: `step` (an optimizer step), `checkpoint` (one that was written), or the name of an evaluator.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

Values = Mapping[str, float]


class Sink(Protocol):
    """Destination of metrics; exists on rank 0 only."""

    def start(self, step: int) -> None:
        """Begin, before the first record.

        Parameters
        ----------
        step
            Step after which the run resumes, 0 for a new run. Records of later steps, which an interrupted run may
            have left, will be written again.
        """

    def write(self, kind: str, step: int, values: Values) -> None:
        """Write one record; values may be NaN or infinite."""

    def close(self) -> None:
        """Flush everything; nothing is written after it."""


class Messages(Sink, Protocol):
    """Sink that also prints messages to the user."""

    def message(self, text: str) -> None:
        """Print a line."""


class Metrics:
    """Hands every record to all sinks. Ranks other than 0 have one without sinks.

    Parameters
    ----------
    sinks
        Destinations of records.
    console
        Destination of records and messages.
    """

    def __init__(self, sinks: Sequence[Sink] = (), console: Messages | None = None):
        self._sinks = [*sinks] if console is None else [*sinks, console]
        self._console = console

    def start(self, step: int) -> None:
        """See `Sink.start`."""
        for sink in self._sinks:
            sink.start(step)

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`."""
        for sink in self._sinks:
            sink.write(kind, step, values)

    def message(self, text: str) -> None:
        """Print a line on the console."""
        if self._console is not None:
            self._console.message(text)

    def close(self) -> None:
        """See `Sink.close`."""
        for sink in self._sinks:
            sink.close()
