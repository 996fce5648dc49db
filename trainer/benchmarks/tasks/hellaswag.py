"""HellaSwag: the most logical continuation of a text, after ten solved examples of the train split."""

from corpus.eval_sets import EVAL_SETS, usual
from trainer.benchmarks.choice import Choice, ask, parsed, published_choice, shots_of
from trainer.benchmarks.files import Row, TaskFiles
from trainer.benchmarks.task import Question


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read questions with columns ctx_a, ctx_b, endings and label."""
    choices = parsed(_choice, files.rows("validation", EVAL_SETS["hellaswag"].files), "hellaswag")
    train = (*usual("train", "hellaswag"), "**/hellaswag_train.jsonl")
    solved = parsed(_choice, files.rows("train", train), "hellaswag") if shots else []
    return ask(choices, shots_of("hellaswag", solved, shots))


def _choice(row: Row) -> Choice:
    return Choice(
        question=f"{row['ctx_a']} {row['ctx_b'].capitalize()}\nQuestion: Which is the most logical continuation?",
        options=row["endings"],
        gold=int(row["label"]),
    )


TASK = published_choice("hellaswag", read, shots=10, size=10_042)
