"""ARC-Challenge: science questions with three to five options, after 25 solved examples of the validation split."""

from collections.abc import Sequence

from corpus.eval_sets import ARC, EVAL_SETS, usual
from trainer.benchmarks.choice import Choice, ask, choice_of, parsed, published_choice, shots_of
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read questions in the layouts of `choice_of`; options get letters by their position."""
    choices = _rows(files, "test", EVAL_SETS["arc_c"].files)
    solved = _rows(files, "validation", (*usual("validation", *ARC), "**/ARC-Challenge-Dev.jsonl")) if shots else []
    return ask(choices, shots_of("arc_c", solved, shots))


def _rows(files: TaskFiles, split: str, patterns: Sequence[str]) -> list[Choice]:
    return parsed(choice_of, files.rows(split, patterns), "arc_c")


TASK = published_choice("arc_c", read, shots=25, size=1172)
