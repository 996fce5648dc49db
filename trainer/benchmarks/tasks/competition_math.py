r"""MATH: competition problems; the last `\boxed{…}` counts, compared by math-verify."""

from corpus.eval_sets import EVAL_SETS
from trainer.benchmarks.extract import last_box
from trainer.benchmarks.files import TaskDataError, TaskFiles
from trainer.benchmarks.task import PUBLISHED, Question, Task, Verdict


def read(files: TaskFiles, shots: int) -> list[Question]:
    """Read columns problem and solution, or context and chain_of_thought, of one file or a file for each problem."""
    questions: list[Question] = []
    for path, rows in files.files("test", EVAL_SETS["math"].files):
        for row in rows:
            solution = row["solution"] if "solution" in row else row["chain_of_thought"]
            answer = last_box(solution)
            if answer is None:
                answer = row.get("answer")
            if answer is None:
                raise TaskDataError(rf"{path}: a solution has no \boxed{{…}} and there is no column answer: {solution}")
            questions.append(
                Question(
                    id=str(len(questions)),
                    text=row["problem"] if "problem" in row else row["context"],
                    answer=answer,
                    group=str(next((row[key] for key in ("subject", "type", "category") if key in row), "")),
                )
            )
    return questions


def score(question: Question, generation: str) -> Verdict:
    """Compare the last box with the right answer; without a box the whole generation, which is invalid too."""
    from math_verify import parse, verify

    box = last_box(generation)
    gold = parse(rf"\boxed{{{question.answer}}}")
    found = parse(generation if box is None else rf"\boxed{{{box}}}")
    return Verdict(
        extracted=generation.strip() if box is None else box,
        scores={"accuracy": float(verify(gold, found))},
        is_valid=box is not None,
    )


TASK = Task(
    name="math",
    metric="accuracy",
    conditions=("synth", "cot"),
    context=3072,
    read=read,
    score=score,
    size=5000,
    protocol=PUBLISHED,
    requires="math_verify",
)
