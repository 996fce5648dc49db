"""HellaSwag: the most logical continuation of a text, after ten solved examples of the train split."""

from trainer.benchmarks.choice import METRIC, Choice, ask, parsed, score, shots_of
from trainer.benchmarks.files import Row, TaskFiles, usual
from trainer.benchmarks.task import PUBLISHED, Question, Task


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read questions with columns ctx_a, ctx_b, endings and label."""
    choices = parsed(_choice, files.rows("validation", _patterns("validation", "val")), "hellaswag")
    solved = parsed(_choice, files.rows("train", _patterns("train", "train")), "hellaswag") if shots else []
    return ask(choices, shots_of("hellaswag", solved, shots))


def _patterns(split: str, original: str) -> tuple[str, ...]:
    return (*usual(split, "hellaswag"), f"**/hellaswag_{original}.jsonl")


def _choice(row: Row) -> Choice:
    return Choice(
        question=f"{row['ctx_a']} {row['ctx_b'].capitalize()}\nQuestion: Which is the most logical continuation?",
        options=row["endings"],
        gold=int(row["label"]),
    )


TASK = Task(
    name="hellaswag",
    metric=METRIC,
    conditions=("direct",),
    max_new_tokens=1,
    read=read,
    score=score,
    shots=10,
    size=10_042,
    protocol=PUBLISHED,
)
