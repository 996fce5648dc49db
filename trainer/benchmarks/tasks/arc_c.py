"""ARC-Challenge: science questions with three to five options, after 25 solved examples of the validation split."""

from trainer.benchmarks.choice import Choice, ask, choice_of, parsed, published_choice, shots_of
from trainer.benchmarks.files import TaskFiles, usual
from trainer.benchmarks.task import Question

_FOLDERS = ("arc_c", "ARC-Challenge", "*/ARC-Challenge", "arc_challenge")


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read questions in the layouts of `choice_of`; options get letters by their position."""
    choices = _rows(files, "test", "ARC-Challenge-Test", "**/arc_challenge.jsonl")
    solved = _rows(files, "validation", "ARC-Challenge-Dev") if shots else []
    return ask(choices, shots_of("arc_c", solved, shots))


def _rows(files: TaskFiles, split: str, original: str, *others: str) -> list[Choice]:
    return parsed(choice_of, files.rows(split, (*usual(split, *_FOLDERS), f"**/{original}.jsonl", *others)), "arc_c")


TASK = published_choice("arc_c", read, shots=25, size=1172)
