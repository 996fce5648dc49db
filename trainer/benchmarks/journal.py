"""The journal of a task: answers and verdicts of finished units of questions, a line each, appended and synced.

A run that is killed, at any moment, loses at most the units in progress: the next one with the same settings reads the
complete lines and continues. The name of a journal has a hash of all settings that decide answers and verdicts.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.benchmarks.files import TaskDataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer to one question and its verdict."""

    question: int
    """Index among the task's questions."""
    generation: str
    prompt_tokens: int
    new_tokens: int
    is_cut: bool
    """Whether a limit ended the generation."""
    extracted: str
    scores: Mapping[str, float]
    is_valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Journals of one task with one hash of settings; each rank appends to a file of its own."""

    folder: Path
    task: str
    key: str
    rank: int = 0

    def read(self) -> dict[int, list[Outcome]]:
        """Read the finished units of all ranks, by the number of the unit.

        Raises
        ------
        TaskDataError
            A complete line is not what `append` writes.
        """
        units: dict[int, list[Outcome]] = {}
        for path in sorted(self.folder.glob(f"{self.task}-{self.key}-*.jsonl")):
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # what follows the last \n is torn
                try:
                    content = json.loads(line)
                    units[int(content["unit"])] = [Outcome(**outcome) for outcome in content["outcomes"]]
                except (ValueError, KeyError, TypeError) as error:
                    raise TaskDataError(
                        f"{path}, line {number}: is damaged ({error!r}); delete the file, its questions are asked again"
                    ) from None
        return units

    def append(self, unit: int, outcomes: Iterable[Outcome]) -> None:
        """Append a finished unit; returns when it is on disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"unit": unit, "outcomes": [asdict(outcome) for outcome in outcomes]}) + "\n"
        with (self.folder / f"{self.task}-{self.key}-{self.rank}.jsonl").open("ab+") as file:
            _drop_torn_line(file.fileno())
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def _drop_torn_line(file: int) -> None:
    """Cut a file after its last newline."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.ftruncate(file, os.pread(file, size, 0).rfind(b"\n") + 1)
