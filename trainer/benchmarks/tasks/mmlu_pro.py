r"""MMLU-Pro: multiple choice with up to ten options; a reasoned answer that ends in `\boxed{…}`."""

import re
from string import ascii_uppercase

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.choice import METRIC, choice_of, parsed
from trainer.benchmarks.extract import last_box
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import Question, Task, Verdict

_IN_BRACKETS = re.compile(r"\(([A-J])\)")
_ALONE = re.compile(r"\b([A-J])\b")
_INSTRUCTION = r"Answer with the letter of the right option in \boxed{}."


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns question, options, answer (a letter) and category."""
    rows = files.rows("test", EVAL_SETS["mmlu_pro"].files)
    choices = parsed(choice_of, rows, "mmlu_pro")
    return [
        Question(
            id=str(row.get("question_id", number)),
            text=f"{choice.prompt.removesuffix('Answer:')}{_INSTRUCTION}",
            answer=choice.letter,
            options=len(choice.options),
            group=str(row.get("category", "")),
        )
        for number, (row, choice) in enumerate(zip(rows, choices, strict=True))
    ]


def score(question: Question, generation: str) -> Verdict:
    """Compare the letter in the last box, else the last `(X)`, else the last single letter."""
    letter = letter_in(generation)
    is_valid = letter != "" and letter in ascii_uppercase[: question.options]
    return Verdict(extracted=letter, scores={METRIC: float(letter == question.answer)}, is_valid=is_valid)


def letter_in(generation: str) -> str:
    """Find the letter of the option that a generation chooses; empty if there is none."""
    box = last_box(generation)
    for text in (generation,) if box is None else (box, generation):
        for pattern in (_IN_BRACKETS, _ALONE):
            if found := pattern.findall(text):
                return str(found[-1])
    return ""


TASK = Task(
    name="mmlu_pro", metric=METRIC, conditions=("synth", "cot"), context=4096, read=read, score=score, size=12_032
)
