"""ARC-Challenge: science questions with three to five options, after 25 solved examples of the validation split."""

from trainer.benchmarks.choice import METRIC, Choice, ask, choice_of, parsed, score, shots_of
from trainer.benchmarks.files import TaskFiles, usual
from trainer.benchmarks.task import PUBLISHED, Question, Task

_FOLDERS = ("arc_c", "ARC-Challenge", "*/ARC-Challenge", "arc_challenge")


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read questions in the layouts of `choice_of`; options get letters by their position."""
    choices = _rows(files, "test", "ARC-Challenge-Test", "**/arc_challenge.jsonl")
    solved = _rows(files, "validation", "ARC-Challenge-Dev") if shots else []
    return ask(choices, shots_of("arc_c", solved, shots))


def _rows(files: TaskFiles, split: str, original: str, *others: str) -> list[Choice]:
    return parsed(choice_of, files.rows(split, (*usual(split, *_FOLDERS), f"**/{original}.jsonl", *others)), "arc_c")


TASK = Task(
    name="arc_c",
    metric=METRIC,
    conditions=("direct",),
    max_new_tokens=1,
    read=read,
    score=score,
    shots=25,
    size=1172,
    protocol=PUBLISHED,
)
