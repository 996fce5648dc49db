"""What a run reports: one JSON line a step and an evaluation, TensorBoard where it is installed, a live line.

    {"kind": "step", "step": 12, "loss": …, "lr": …, "k": …, …}
    {"kind": "eval", "step": 500, "loss": …, "exact_match": …, "exact_match/FAMILY": …, …}
    {"kind": "diagnosis", "step": 500, "depth/1/lens_kl": …, "gradient/5/median": …, …}
    {"kind": "checkpoint", "step": 500, "stall_seconds": …, "write_seconds": …, "bytes": …}

A resumed run first drops the lines after its checkpoint, so the file reads like
that of a run which was never interrupted (timings apart). One without a
checkpoint begins the file anew.
"""

import json
import math
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.checkpointing.manager import Saved

FILE = "metrics.jsonl"
"""Name of the file in the run's folder."""
QUIET_SECONDS = 10.0
"""Seconds between two status lines where the output is no terminal."""
GOOD = 0.8
"""Share of exact answers from which a task family is counted as learned in the printed summary."""


class Metrics:
    """Writer of a run's metrics; only the leading rank has one.

    Parameters
    ----------
    folder
        The run's folder; gets metrics.jsonl, and tensorboard/ where TensorBoard is installed.
    step
        Where the run resumes: lines of later steps are dropped. 0 for a run from the start, which drops all.
    """

    def __init__(self, folder: Path, step: int):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        kept = _lines_until(path, step) if step else []
        new = path.with_suffix(".new")
        new.write_text("".join(kept))
        os.replace(new, path)
        self._file = path.open("a")
        self._board = _tensorboard(folder / "tensorboard", step)
        self._status = StatusLine()

    def step(self, step: int, total: int, values: dict[str, Any]) -> None:
        """Record one optimizer step; `total` is the run's expected number of steps, for the time that is left."""
        self._write("step", step, values)
        self._status.show(step, total, values)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """Record one evaluation."""
        self._write("eval", step, values)
        families = {key.partition("/")[2]: value for key, value in values.items() if "/" in key}
        whole = "  ".join(f"{key} {value:.4g}" for key, value in values.items() if "/" not in key)
        good = sum(value >= GOOD for value in families.values())
        self.say(f"step {step:>7,}  held out: {whole}  families at {GOOD:.0%} or more: {good} of {len(families)}")
        shown = "   ".join(f"{name}\u00a0{value:.0%}" for name, value in families.items())
        if shown:
            self.say(
                textwrap.fill(
                    shown, 118, initial_indent=" " * 14, subsequent_indent=" " * 14, break_on_hyphens=False
                ).replace("\u00a0", " ")
            )

    def diagnosis(self, step: int, values: dict[str, float]) -> None:
        """Record one diagnosis; see `trainer.diagnostics`."""
        self._write("diagnosis", step, values)

    def checkpoints(self, saved: Iterable[Saved]) -> None:
        """Record checkpoints that are written."""
        for values in map(asdict, saved):
            self._write("checkpoint", values.pop("step"), values)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._status.clear()
        print(text, flush=True)

    def close(self) -> None:
        """Flush everything."""
        self._status.clear()
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{kind}/{key}", value, step)


def evaluated_steps(folder: Path, step: int) -> set[int]:
    """Steps whose evaluation a resumed run's metrics have, up to the one it resumes at; none for one from the start."""
    kept = _lines_until(folder / FILE, step) if step else []
    return {line["step"] for line in map(json.loads, kept) if line["kind"] == "eval"}


class StatusLine:
    """One line that is rewritten on a terminal, and printed now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._every = 0.1 if self._terminal else QUIET_SECONDS
        self._shown = -math.inf
        self._width = 0
        self._first: tuple[int, float] | None = None

    def show(self, step: int, total: int, values: dict[str, Any]) -> None:
        """Show a step, unless the last one was shown a moment ago."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        if now - self._shown < self._every and step != total:
            return
        self._shown = now
        done, seconds = step - self._first[0], now - self._first[1]
        left = seconds / done * max(0, total - step) if done else math.nan
        text = (
            f"step {step:>7,}/{total:,}  loss {values['loss']:.4f}  lr {values['lr']:.2e}  K {values['k']}  "
            f"{values['tokens_per_second']:,.0f} tokens/s  step {values['step_seconds']:.3f} s  "
            f"data wait {values['data_wait_seconds']:.3f} s  left {_duration(left)}"
        )
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]  # a longer one would begin a new line each time
            print(f"\r{text:<{self._width}}", end="", flush=True)
            self._width = len(text)
        else:
            print(text, flush=True)

    def clear(self) -> None:
        """Make room for another line."""
        if self._terminal and self._width:
            print(f"\r{'':<{self._width}}\r", end="", flush=True)
            self._width = 0


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _lines_until(path: Path, step: int) -> list[str]:
    """The lines of a metrics file up to a step; one that a killed run broke off is the last, and left out."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    return kept


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
