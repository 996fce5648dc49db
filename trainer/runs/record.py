"""What a run has recorded: metrics.jsonl and its settings → series of values, and a summary."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from corpus.storage.location import was_url
from corpus.storage.redact import redact
from trainer import samples
from trainer.folder import RUN
from trainer.sinks.jsonl import FILE

LAST = 20
"""Steps at the end of a run whose mean loss is that of the run."""


class RunError(Exception):
    """A run that cannot be read; the message names it and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one metric."""

    steps: tuple[int, ...]
    """Ascending."""
    values: tuple[float, ...]
    """Finite."""

    @property
    def last(self) -> float:
        """Value at the last step."""
        return self.values[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run."""

    name: str
    series: Mapping[str, Series]
    """Metric, as "step/loss" or "eval/exact_match/logic", to its values; metrics without finite values are left out."""
    settings: Mapping[str, str]
    """Key of the manifest, as "optimizer.lr", to its value; of the newest checkpoint in the run's folder."""
    answers: Mapping[int, Sequence[samples.Sample]]
    """Answers to held-out questions by the step of the evaluation; evaluations without answers are left out."""
    skipped_lines: int
    """Lines of the file that are no records."""

    def get(self, name: str) -> Series | None:
        """Return the values of a metric, None if the run has none."""
        return self.series.get(name)

    @property
    def families(self) -> list[str]:
        """Task families of the held-out evaluation, in its order."""
        prefix = "eval/exact_match/"
        return [name.removeprefix(prefix) for name in self.series if name.startswith(prefix)]


def read_run(path: Path) -> RunRecord:
    """Read a run.

    Parameters
    ----------
    path
        Its folder, or its metrics.jsonl.

    Raises
    ------
    RunError
        There is no file of metrics, or it has no record.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        if was_url(path):
            raise RunError(
                f"{redact(str(path))}: is a URL, expected a folder on this machine; copy the run's {FILE} here"
            )
        if not path.exists():
            raise RunError(f"{path}: there is no such folder; expected the `out` folder of a training run")
        raise RunError(f"{path}: has no {FILE}; expected the `out` folder of a training run")
    points: dict[str, dict[int, float]] = {}
    records = skipped = 0
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            record = _record(line)
            if record is None:
                skipped += 1
                continue
            records += 1
            kind, step = record["kind"], record["step"]
            for key, value in record.items():
                if key not in ("kind", "step") and isinstance(value, int | float) and math.isfinite(value):
                    points.setdefault(f"{kind}/{key}", {})[step] = float(value)
    if not points:
        why = "is not the metrics.jsonl of a run" if skipped and not records else "has no record of a metric yet"
        raise RunError(f"{file}: {why}; expected the `out` folder of a training run that has done a step")
    series = {}
    for name, found in points.items():
        steps = sorted(found)
        series[name] = Series(steps=tuple(steps), values=tuple(found[step] for step in steps))
    folder = file.parent
    evaluated = series["eval/loss"].steps if "eval/loss" in series else ()
    return RunRecord(
        name=folder.name or str(folder),
        series=series,
        settings=_settings(folder),
        answers={step: answers for step in evaluated if (answers := samples.read(folder, step))},
        skipped_lines=skipped,
    )


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    step = record.get("step")
    return record if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None


def _settings(folder: Path) -> dict[str, str]:
    """Settings of the newest checkpoint, or else what identifies the run; empty if neither can be read."""
    for file in [*sorted(folder.glob("checkpoints/step-*/manifest.json"), reverse=True), folder / RUN]:
        try:
            content = json.loads(file.read_bytes())
            return _flat(content.get("manifest", content))
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
    return {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(item, ensure_ascii=False)
    return flat


def summary(run: RunRecord) -> dict[str, float | int | None]:
    """Return the numbers of a run; None where it has not recorded them.

    Losses are in nats per target token, "loss" is the mean over the last `LAST` steps; shares are between 0 and 1.
    """

    def values(name: str) -> tuple[float, ...]:
        found = run.get(name)
        return () if found is None else found.values

    def last(name: str) -> float | None:
        found = values(name)
        return found[-1] if found else None

    seconds, waits = values("step/step_seconds"), values("step/data_wait_seconds")
    loss, rates, mfu = values("step/loss"), values("step/tokens_per_second"), values("step/mfu")
    tokens, checkpoints = values("step/tokens"), values("checkpoint/bytes")
    held_out = values("eval/loss")
    steps = run.get("step/loss")
    return {
        "steps": 0 if steps is None else steps.steps[-1],
        "tokens": int(sum(tokens)) if tokens else None,
        "hours": sum(seconds) / 3600 if seconds else None,
        "loss": fmean(loss[-LAST:]) if loss else None,
        "held_out_loss": last("eval/loss"),
        "best_held_out_loss": min(held_out) if held_out else None,
        "exact_match": last("eval/exact_match"),
        "tokens_per_second": median(rates) if rates else None,
        "mfu": median(mfu) if mfu else None,
        "data_wait": sum(waits) / sum(seconds) if waits and sum(seconds) else None,
        "skipped_steps": int(last("step/skipped") or 0),
        "checkpoints": len(checkpoints),
    }
