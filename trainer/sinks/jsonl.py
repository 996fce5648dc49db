"""Metrics as JSON lines: OUT/metrics.jsonl.

    {"kind": "step", "step": 12, "loss": …, "lr": …, "k": …, …}
    {"kind": "eval", "step": 500, "loss": …, "exact_match": …, "exact_match/FAMILY": …, …}
    {"kind": "diagnosis", "step": 500, "depth/1/lens_kl": …, "gradient/5/median": …, …}
    {"kind": "checkpoint", "step": 500, "stall_seconds": …, "write_seconds": …, "bytes": …}

A resumed run drops the lines after its checkpoint, so that the file reads like that of an uninterrupted run (timings
apart). A run without a checkpoint starts an empty file.
"""

import json
import logging
import math
import os
from pathlib import Path

from trainer.metrics import Values

_log = logging.getLogger(__name__)

FILE = "metrics.jsonl"
"""Name of the file in the run's folder."""


class JsonLines:
    """Sink that appends a JSON line per record to a file. Values that are not finite become null.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path):
        self._path = path

    def start(self, step: int) -> None:
        """See `Sink.start`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_until(self._path, step) if step else []
        new = self._path.with_suffix(".new")
        new.write_text("".join(kept))
        os.replace(new, self._path)
        self._file = self._path.open("a")

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`."""
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See `Sink.close`."""
        self._file.close()


def recorded_steps(path: Path, kind: str, *, until: int) -> set[int]:
    """Steps up to `until`, at which a run resumes, that have a record of a kind; none for a run from the start (0)."""
    kept = _lines_until(path, until) if until else []
    return {line["step"] for line in map(json.loads, kept) if line["kind"] == kind}


def _lines_until(path: Path, step: int) -> list[str]:
    """Lines of the file up to a step, without an incomplete last line that a killed run has left.

    Other lines that are no records are left out with a warning.
    """
    if not path.exists():
        return []
    kept, foreign = [], []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        recorded = _step_of(line) if line.endswith("\n") else None
        if recorded is None:
            if number < len(lines):
                foreign.append(number)
        elif recorded <= step:
            kept.append(line)
    if foreign:
        _log.warning(
            "%s: %d lines are no records and are left out, the first is line %d", path, len(foreign), foreign[0]
        )
    return kept


def _step_of(line: str) -> int | None:
    """The step of a record; None for a line that is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    step = record.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None
