"""AIME 2025: thirty problems whose answers are whole numbers; the majority of 256 sampled answers counts."""

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.extract import last_box, whole_number
from trainer.benchmarks.files import TaskDataError, TaskFiles
from trainer.benchmarks.task import Question, Task, Verdict


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns problem (or question) and answer, a whole number."""
    questions = []
    for number, row in enumerate(files.rows("test", EVAL_SETS["aime"].files)):
        text, answer = row.get("problem", row.get("question")), whole_number(str(row.get("answer", "")))
        if text is None or answer is None:
            raise TaskDataError(
                f"aime: row {number + 1} has the columns {', '.join(map(str, row))}; expected problem, answer"
            )
        questions.append(Question(id=str(number), text=str(text), answer=answer))
    return questions


def score(question: Question, generation: str) -> Verdict:
    """Compare the number in the last box, or else the whole generation, with the right one; see `gsm8k.score`."""
    box = last_box(generation)
    found = whole_number(generation if box is None else box)
    scores = {"accuracy": float(found == question.answer)}
    return Verdict(extracted="" if found is None else str(found), scores=scores, is_valid=found is not None)


TASK = Task(
    name="aime",
    metric="accuracy",
    conditions=("synth", "cot"),
    context=3072,
    read=read,
    score=score,
    size=30,
    answers=256,
    temperature=0.6,
)
