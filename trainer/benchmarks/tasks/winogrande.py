"""Winogrande (debiased): which of two words fits a gap, after five solved examples of the train split."""

from corpus.eval_sets import EVAL_SETS, WINOGRANDE, usual
from trainer.benchmarks.choice import Choice, ask, choice_of, parsed, published_choice, shots_of
from trainer.benchmarks.files import Row, TaskFiles
from trainer.benchmarks.task import Question


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns sentence, option1, option2 and answer, or the layouts of llm-foundry and LLM-Adapters."""
    choices = parsed(_choice, files.rows("validation", EVAL_SETS["winogrande"].files), "winogrande")
    train = (*usual("train", *WINOGRANDE), *usual("train_debiased", *WINOGRANDE))
    solved = parsed(_choice, files.rows("train", train), "winogrande") if shots else []
    return ask(choices, shots_of("winogrande", solved, shots))


def _choice(row: Row) -> Choice:
    if "sentence" in row:
        options = [row["option1"], row["option2"]]
        return Choice(question=row["sentence"], options=options, gold=int(row["answer"]) - 1)
    if "context_options" in row:
        return _with_gap(row["context_options"], row["continuation"], int(row["gold"]))
    return choice_of(row)


def _with_gap(contexts: list[str], continuation: str, gold: int) -> Choice:
    """Llm-foundry: two beginnings, which differ in their last words, and one end."""
    first, second = contexts
    shared = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(map(len, contexts)))
    gap = first.rfind(" ", 0, shared) + 1
    blank = "" if continuation[:1] in (",", ".", ";", "'") else " "
    return Choice(
        question=f"{first[:gap]}_{blank}{continuation}",
        options=[context[gap:] for context in contexts],
        gold=gold,
    )


TASK = published_choice("winogrande", read, shots=5, size=1267)
