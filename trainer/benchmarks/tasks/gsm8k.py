"""GSM8K: grade-school word problems; the whole number of the answer counts."""

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.extract import last_box, whole_number
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.task import PUBLISHED, Question, Task, Verdict


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read questions with columns question and answer, or context and answer; the number follows `####`."""
    rows = files.rows("test", EVAL_SETS["gsm8k"].files)
    return [
        Question(
            id=str(number),
            text=row["question"] if "question" in row else row["context"],
            answer=str(row["answer"]).rpartition("####")[2].strip(),
        )
        for number, row in enumerate(rows)
    ]


def score(question: Question, generation: str) -> Verdict:
    """Compare the number in the last box, or else the whole generation, with the right one, both cut to whole ones."""
    box = last_box(generation)
    extracted = generation if box is None else box
    found = whole_number(extracted)
    is_right = found is not None and found == whole_number(question.answer)
    return Verdict(extracted=extracted.strip(), scores={"accuracy": float(is_right)}, is_valid=found is not None)


TASK = Task(
    name="gsm8k",
    metric="accuracy",
    conditions=("synth", "cot"),
    context=3072,
    read=read,
    score=score,
    size=1319,
    protocol=PUBLISHED,
)
