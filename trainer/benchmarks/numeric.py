"""Word problems whose answer is a number: usual layouts of a row, and the score."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.benchmarks.extract import last_box, last_number, number
from trainer.benchmarks.files import TaskDataError
from trainer.benchmarks.task import Question, Verdict

METRIC = "accuracy"
TOLERANCE = 1e-3
"""Largest difference of a right answer."""

_TEXT = ("original_text", "instruction", "context", "problem", "question", "Question", "sQuestion")
_ANSWER = ("Answer", "ans", "lSolutions", "final_ans", "answer")


def questions_of(rows: Sequence[Mapping[str, Any]], task: str) -> list[Question]:
    """Read rows in the layouts of SVAMP, MAWPS, ASDiv, llm-foundry and LLM-Adapters.

    Raises
    ------
    TaskDataError
        A row has another layout, or its answer is not a number.
    """
    questions = []
    for index, row in enumerate(rows):
        text, answer = _first(row, _TEXT), _first(row, _ANSWER)
        answer = answer[0] if isinstance(answer, list) and answer else answer
        value = None if answer is None else value_of(str(answer).partition(" (")[0])
        if text is None or value is None:
            raise TaskDataError(
                f"{task}: row {index + 1} has the columns {', '.join(map(str, row))} and the answer {answer!r}; "
                f"expected a text under one of {', '.join(_TEXT)} and a number under one of {', '.join(_ANSWER)}"
            )
        body = _first(row, ("Body", "body"))
        questions.append(Question(id=str(index), text=text if body is None else _joined(body, text), answer=value))
    return questions


def score(question: Question, generation: str) -> Verdict:
    """Compare the number in the last box, or else the last number, with the right one."""
    box = last_box(generation)
    extracted = last_number(generation if box is None else box)
    value = None if extracted is None else value_of(extracted)
    is_right = value is not None and abs(value - question.answer) <= TOLERANCE
    return Verdict(extracted=extracted or "", scores={METRIC: float(is_right)}, is_valid=value is not None)


def value_of(text: str) -> float | None:
    """Read a number or a fraction a/b; None if the text is neither."""
    above, slash, below = text.partition("/")
    if not slash:
        return number(text)
    numerator, denominator = number(above), number(below)
    return numerator / denominator if numerator is not None and denominator else None


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _joined(body: str, question: str) -> str:
    body = body.strip()
    return f"{body} {question}" if body[-1:] in (".", "!", "?", ",") else f"{body}. {question}"
