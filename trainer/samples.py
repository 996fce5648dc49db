"""Answers to a few held-out questions at each evaluation of a run: OUT/answers/step-NNNNNNNN.json.

evaluators.HeldOut ─ write ─▶ one file for each evaluation ─ read ─▶ page of the run (trainer.report)
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "answers"
MAX_SAMPLES = 16
"""Questions of an evaluation."""
MAX_NEW_TOKENS = 128
"""Longest answer."""
MAX_CHARS = 4000
"""Characters of each text that are kept."""
_MAX_BYTES = 2**20
"""Size of a file that is read: more than `MAX_SAMPLES` samples of `MAX_CHARS` characters need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A held-out question and an answer of the model."""

    family: str
    instruction: str
    reference: str
    answer: str
    """Generated greedily; cut at the length of the longest reference or `MAX_NEW_TOKENS`."""
    is_right: bool
    """Whether the answer is the reference, token by token."""


def write(out: Path, step: int, samples: Sequence[Sample]) -> None:
    """Write the samples of an evaluation into the folder of a run."""
    path = _path(out, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {key: value[:MAX_CHARS] if isinstance(value, str) else value for key, value in asdict(sample).items()}
        for sample in samples
    ]
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", errors="replace")
    partial.replace(path)


def read(out: Path, step: int) -> list[Sample]:
    """Return the samples of an evaluation; none if there is no file of them, or it has another content."""
    try:
        with _path(out, step).open("rb") as file:
            rows = json.loads(file.read(_MAX_BYTES))
        samples = [Sample(**row) for row in rows]
    except (OSError, ValueError, TypeError, RecursionError):
        return []
    texts = ("family", "instruction", "reference", "answer")
    is_valid = all(isinstance(getattr(sample, name), str) for sample in samples for name in texts)
    return samples[:MAX_SAMPLES] if is_valid else []


def _path(out: Path, step: int) -> Path:
    return out / FOLDER / f"step-{step:08d}.json"
