"""MMLU: multiple choice in 57 subjects, after five solved examples of the subject; the mean over subjects counts."""

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.choice import Choice, ask, choice_of, parsed, published_choice, shots_of
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question

_HEADER = ("question", "A", "B", "C", "D", "answer")
_FEWER_SHOTS = {"high_school_european_history": 3}


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read a file for each subject, or files with a column subject."""
    solved = _by_subject(files, "dev") if shots else {}
    questions = []
    for subject, choices in _by_subject(files, "test").items():
        count = min(shots, _FEWER_SHOTS.get(subject, shots))
        examples = shots_of(f"mmlu, {subject}", solved.get(subject, []), count)
        questions += ask(choices, examples, group=subject, prefix=f"{subject}/")
    return questions


def _by_subject(files: TaskFiles, split: str) -> dict[str, list[Choice]]:
    patterns = [pattern.replace("test", split) for pattern in EVAL_SETS["mmlu"].files]
    subjects: dict[str, list[Any]] = defaultdict(list)
    for path, rows in files.files(split, patterns, header=_HEADER):
        for row in rows:
            subjects[row.get("subject") or _subject(path, split)].append(row)
    return {subject: parsed(choice_of, subjects[subject], f"mmlu, {subject}") for subject in sorted(subjects)}


def _subject(path: PurePosixPath, split: str) -> str:
    stem = path.name.partition(".")[0]
    return stem.removesuffix(f"_{split}") if stem.endswith(f"_{split}") else path.parent.name


TASK = published_choice("mmlu", read, shots=5, size=14_042, mean_over_groups=True)
