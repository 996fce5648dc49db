"""Tasks that a YAML file declares: question and answer columns, scored by exact match or as multiple choice.

name: capitals
file: capitals.jsonl          # beside this file
type: choice                  # or exact
question: question            # columns of the file
options: [first, second]      # columns, or one column that holds a list
answer: answer                # index from 0, letter, or text of the right option
shots: 2                      # solved examples before each question, from shots_file
shots_file: solved.csv
conditions: [direct]
"""

from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from corpus.config import Config, load_manifest
from corpus.contract import order_conditions
from trainer.benchmarks import choice
from trainer.benchmarks.choice import Choice, ask, parsed, shots_of
from trainer.benchmarks.files import Row, TaskDataError, TaskFiles
from trainer.benchmarks.task import Question, Task, Verdict


class Declared(Config):
    """A task as a YAML file declares it."""

    name: str = Field(pattern=r"^\w[\w-]*$")
    file: Path
    """Questions; relative to the YAML file."""
    type: Literal["exact", "choice"]
    """exact: the generation without outer blanks equals the answer, or one of a list of answers. choice: one token, the
    letter of an option."""
    question: str = "question"
    """Column of the question."""
    answer: str = "answer"
    """Column of the answer."""
    options: str | tuple[str, ...] | None = None
    """Column that holds a list of options, or a column for each option."""
    group: str | None = None
    """Column by which results are broken down."""
    ignore_case: bool = False
    """Whether upper and lower case are equal to `exact`."""
    conditions: tuple[str, ...] = ("direct",)
    shots: int = Field(default=0, ge=0)
    """Solved examples before each question: the first rows of `shots_file`."""
    shots_file: Path | None = None
    context: int = Field(default=4096, gt=0)
    """Largest number of tokens of prompt and generation together."""
    max_new_tokens: int | None = Field(default=None, gt=0)

    @field_validator("conditions")
    @classmethod
    def _check_conditions(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        return order_conditions(conditions)

    @model_validator(mode="after")
    def _check_type(self) -> "Declared":
        if (self.type == "choice") != (self.options is not None):
            raise ValueError("options belong to type: choice, which needs them")
        if self.shots and self.shots_file is None:
            raise ValueError(f"shots is {self.shots}; name their file as shots_file")
        return self


def read_declared(path: Path) -> Task:
    """Read a task from a YAML file.

    Raises
    ------
    corpus.config.ConfigError
        The file is missing or invalid.
    """
    declared = load_manifest(path, Declared)
    read = _read_choices if declared.type == "choice" else _read_exact

    def questions(files: TaskFiles, shots: int) -> list[Question]:
        files.named = {
            "test": path.parent / declared.file,
            **({} if declared.shots_file is None else {"shots": path.parent / declared.shots_file}),
            **files.named,
        }
        return read(declared, files, shots)

    return Task(
        name=declared.name,
        metric=choice.METRIC if declared.type == "choice" else "exact_match",
        conditions=declared.conditions,
        read=questions,
        score=choice.score if declared.type == "choice" else _exact(declared.ignore_case),
        context=declared.context,
        max_new_tokens=1 if declared.type == "choice" else declared.max_new_tokens,
        shots=declared.shots,
    )


def _read_choices(declared: Declared, files: TaskFiles, shots: int) -> list[Question]:
    def parse(row: Row) -> Choice:
        assert declared.options is not None
        listed = (
            row[declared.options] if isinstance(declared.options, str) else [row[name] for name in declared.options]
        )
        options = [str(option) for option in listed]
        return Choice(question=str(row[declared.question]), options=options, gold=_gold(row[declared.answer], options))

    rows = files.rows("test")
    solved = parsed(parse, files.rows("shots"), declared.name) if shots else []
    questions = ask(parsed(parse, rows, declared.name), shots_of(declared.name, solved, shots))
    return _grouped(declared, questions, rows)


def _gold(answer: Any, options: list[str]) -> int:
    """Index of the right option, which is given as an index, a letter, or its text."""
    if isinstance(answer, int):
        return answer
    text = str(answer).strip()
    if text in options:
        return options.index(text)
    return int(text) if text.isdigit() else ascii_uppercase.index(text.upper())


def _read_exact(declared: Declared, files: TaskFiles, shots: int) -> list[Question]:
    def answers(row: Row) -> list[str]:
        answer = row[declared.answer]
        return [str(a).strip() for a in answer] if isinstance(answer, list) else [str(answer).strip()]

    rows = files.rows("test")
    solved = files.rows("shots")[:shots] if shots else []
    for row in (*rows, *solved):
        if missing := {declared.question, declared.answer} - row.keys():
            columns = ", ".join(map(str, row))
            raise TaskDataError(f"{declared.name}: a row has no column {missing.pop()!r}; its columns are {columns}")
    before = "".join(f"{row[declared.question]}\n{answers(row)[0]}\n\n" for row in solved)
    questions = [
        Question(id=str(number), text=str(row[declared.question]), answer=answers(row), shots=before)
        for number, row in enumerate(rows)
    ]
    return _grouped(declared, questions, rows)


def _grouped(declared: Declared, questions: list[Question], rows: list[Mapping[str, Any]]) -> list[Question]:
    from dataclasses import replace

    if declared.group is None:
        return questions
    return [replace(q, group=str(row.get(declared.group, ""))) for q, row in zip(questions, rows, strict=True)]


def _exact(ignore_case: bool) -> Any:
    def score(question: Question, generation: str) -> Verdict:
        found = generation.strip()
        key = str.casefold if ignore_case else str
        is_right = key(found) in [key(answer) for answer in question.answer]
        return Verdict(extracted=found, scores={"exact_match": float(is_right)}, is_valid=found != "")

    return score
