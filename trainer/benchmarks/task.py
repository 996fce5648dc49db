"""What a benchmark task is: how its questions are read, asked and scored.

    files ─ Task.read ─▶ Question ─ prompt ─▶ model ─▶ generation ─ Task.score ─▶ Verdict

A task is one `Task`, defined in a file of its own in `trainer.benchmarks.tasks`, in a Python file or YAML file outside
of the package, or in an installed package (see `trainer.benchmarks.catalog`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.benchmarks.files import TaskFiles

PUBLISHED = "hrm-text-2026-05"
"""Protocol of tasks that are asked and scored as in HRM-Text's published evaluation."""
OWN = "millrace-1"
"""Protocol of tasks whose prompt and rules for scoring are Millrace's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of a task."""

    id: str
    """Unique within the task."""
    text: str
    """The question without examples."""
    answer: Any
    """Reference answer, as the task's `score` reads it; JSON."""
    shots: str = ""
    """Solved examples before the question, including the blank line that separates them from it."""
    options: int = 0
    """Number of options of a multiple-choice question, otherwise 0."""
    group: str = ""
    """Subject or subtask."""

    @property
    def prompt(self) -> str:
        """Text that the model is given."""
        return (self.shots + self.text).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a generation scores."""

    extracted: str
    """The answer that was found in the generation."""
    scores: Mapping[str, float]
    """Metric to a value from 0 to 1; has the task's metric."""
    is_valid: bool = True
    """Whether the generation has an answer of the expected form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A benchmark task."""

    name: str
    metric: str
    """The metric that is quoted; a key of `Verdict.scores`."""
    conditions: tuple[str, ...]
    """Condition tags of the prompt."""
    read: Callable[["TaskFiles", int], list[Question]]
    """Returns the questions, given the task's files and the number of solved examples in a prompt."""
    score: Callable[[Question, str], Verdict]
    """Scores a generation; depends on nothing else."""
    context: int = 4096
    """Largest number of tokens of prompt and generation together."""
    max_new_tokens: int | None = None
    """Largest number of generated tokens; None: as many as the context has room for."""
    shots: int = 0
    """Number of solved examples in a prompt."""
    answers: int = 1
    """Number of answers to each question. Of several, the extracted answer that most of the valid ones have counts (of
    equally many, the first), and the mean of their scores is reported as `mean_` with the name of the metric."""
    temperature: float = 0.0
    """0: greedy decoding; above: sampling from softmax(logits / temperature)."""
    size: int | None = None
    """Number of questions of the published set."""
    mean_over_groups: bool = False
    """Whether the score is the mean of the groups' means instead of the mean over all questions."""
    runs_code: bool = False
    """Whether scoring executes the generation as a program."""
    protocol: str = OWN
    requires: str | None = None
    """Module that scoring needs, and that the extra `math` installs."""
