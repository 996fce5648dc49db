"""Metrics for people: a live status line, a summary of each held-out evaluation, messages."""

import math
import shutil
import sys
import textwrap
import time

from corpus.terminal import printable
from trainer.metrics import Values
from trainer.progress import duration

INTERVAL_SECONDS = 10.0
"""Seconds between two status lines if the output is not a terminal."""
LEARNED = 0.8
"""Share of exact answers from which the summary counts a task family as learned."""


class Console:
    """Sink that prints to stdout. On a terminal the status line is rewritten in place.

    Parameters
    ----------
    total_steps
        Expected number of steps, for the remaining time.
    """

    def __init__(self, total_steps: int):
        self._total = total_steps
        self._terminal = sys.stdout.isatty()
        self._interval = 0.1 if self._terminal else INTERVAL_SECONDS
        self._last_shown = -math.inf
        self._width = 0
        self._first: tuple[int, float] | None = None

    def start(self, step: int) -> None:
        """See `Sink.start`."""

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`; other kinds than `step`, `eval` and `benchmarks` are not printed."""
        if kind == "step":
            self._show_status(step, values)
        elif kind == "eval":
            self._show_evaluation(step, values)
        elif kind == "benchmarks":
            self._show_benchmarks(step, values)

    def message(self, text: str) -> None:
        """Print a line."""
        self._clear()
        print(printable(text), flush=True)

    def close(self) -> None:
        """See `Sink.close`."""
        self._clear()

    def _show_evaluation(self, step: int, values: Values) -> None:
        families = {key.partition("/")[2]: value for key, value in values.items() if "/" in key}
        overall = "  ".join(f"{key} {value:.4g}" for key, value in values.items() if "/" not in key)
        learned = sum(value >= LEARNED for value in families.values())
        self.message(
            f"step {step:>7,}  held out: {overall}  families at {LEARNED:.0%} or more: {learned} of {len(families)}"
        )
        if families:
            # Non-breaking spaces keep a name and its value on one line.
            shares = "   ".join(f"{name}\u00a0{value:.0%}" for name, value in families.items())
            indent = " " * 14
            lines = textwrap.fill(shares, 118, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
            self.message(lines.replace("\u00a0", " "))

    def _show_benchmarks(self, step: int, values: Values) -> None:
        for name in (key for key in values if "/" not in key):
            shares = {"invalid": f"{name}/invalid", "in training data": f"{name}/found_in_training_data"}
            besides = ", ".join(f"{text} {values[key]:.1%}" for text, key in shares.items() if key in values)
            self.message(
                f"step {step:>7,}  benchmark {name}: {values[name]:.1%}" + (f" ({besides})" if besides else "")
            )

    def _show_status(self, step: int, values: Values) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        if now - self._last_shown < self._interval and step != self._total:
            return
        self._last_shown = now
        done, seconds = step - self._first[0], now - self._first[1]
        left = seconds / done * max(0, self._total - step) if done else math.nan
        device = "".join(
            f"{label} {values[key]:{form}}  "
            for key, label, form in (("mfu", "MFU", ".1%"), ("memory_gb", "GB", ".1f"))
            if key in values
        )
        text = (
            f"step {step:>7,}/{self._total:,}  loss {values['loss']:.4f}  lr {values['lr']:.2e}  K {values['k']}  "
            f"{values['tokens_per_second']:,.0f} tokens/s  {device}step {values['step_seconds']:.3f} s  "
            f"data wait {values['data_wait_seconds']:.3f} s  left {duration(left)}"
        )
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]  # a longer one would wrap, and not be rewritten
            print(f"\r{text:<{self._width}}", end="", flush=True)
            self._width = len(text)
        else:
            print(text, flush=True)

    def _clear(self) -> None:
        if self._terminal and self._width:
            print(f"\r{'':<{self._width}}\r", end="", flush=True)
            self._width = 0
