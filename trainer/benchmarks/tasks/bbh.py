"""BIG-Bench Hard: 27 tasks with short answers, asked without examples; the mean over tasks counts."""

import re

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question, Task, Verdict

_METRIC = "exact_match"
_OPTION = re.compile(r"\(([A-Z])\)")


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read a file for each task, with columns input and target."""
    questions = []
    for path, rows in files.files("test", EVAL_SETS["bbh"].files):
        name = path.parent.name if path.suffix == ".parquet" else path.name.partition(".")[0]
        questions += [
            Question(id=f"{name}/{number}", text=row["input"], answer=row["target"], group=name)
            for number, row in enumerate(rows)
        ]
    return questions


def score(question: Question, generation: str) -> Verdict:
    """Compare the generation, without outer blanks and a final dot; of an option such as (A), only its letter."""
    found = generation.strip().removesuffix(".").strip()
    expected = question.answer.strip()
    if _OPTION.fullmatch(expected):
        options = _OPTION.findall(found) or ([found.upper()] if len(found) == 1 else [])
        found = f"({options[0]})" if options else found
        return _verdict(found, expected, is_valid=bool(options))
    return _verdict(found, expected, is_valid=found != "")


def _verdict(found: str, expected: str, *, is_valid: bool) -> Verdict:
    return Verdict(extracted=found, scores={_METRIC: float(found == expected)}, is_valid=is_valid)


TASK = Task(
    name="bbh",
    metric=_METRIC,
    conditions=("direct",),
    max_new_tokens=256,
    read=read,
    score=score,
    size=6511,
    mean_over_groups=True,
)
