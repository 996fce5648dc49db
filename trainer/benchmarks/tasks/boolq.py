"""BoolQ: yes-or-no questions about a passage, after five solved examples of the train split."""

from corpus.eval_sets import EVAL_SETS, usual
from trainer.benchmarks.choice import Choice, ask, parsed, published_choice, shots_of
from trainer.benchmarks.files import Row, TaskFiles
from trainer.benchmarks.task import Question

_OPTIONS = ("Yes", "No")


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns passage, question and answer (or label), or llm-foundry's query, choices and gold."""
    choices = parsed(_choice, files.rows("validation", EVAL_SETS["boolq"].files), "boolq")
    solved = parsed(_choice, files.rows("train", usual("train", "boolq", "BoolQ")), "boolq") if shots else []
    return ask(choices, shots_of("boolq", solved, shots))


def _choice(row: Row) -> Choice:
    if "query" in row:
        passage, _, question = row["query"].removeprefix("Passage: ").rpartition("\nQuestion: ")
        is_yes = row["choices"][row["gold"]] == "yes"
    else:
        passage, question = row["passage"], row["question"]
        answer = row["answer"] if "answer" in row else row["label"]
        is_yes = answer if isinstance(answer, bool) else str(answer).lower() in ("1", "true", "yes")
    asked = question.strip().removesuffix("?").capitalize()
    return Choice(question=f"{passage}\nQuestion: {asked}?", options=_OPTIONS, gold=0 if is_yes else 1)


TASK = published_choice("boolq", read, shots=5, size=3270)
