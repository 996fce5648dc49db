"""Programming problems: usual layouts of a row, and the score, which executes the generated program."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.benchmarks.files import TaskDataError
from trainer.benchmarks.sandbox import run_program
from trainer.benchmarks.task import Question, Verdict

METRIC = "pass_at_1"
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def questions_of(rows: Sequence[Mapping[str, Any]], task: str) -> list[Question]:
    """Read rows with a function's head as prompt and a test of it, or with a description and a list of assertions.

    Raises
    ------
    TaskDataError
        A row has another layout.
    """
    questions = []
    for number, row in enumerate(rows):
        if {"prompt", "test", "entry_point"} <= row.keys():
            text = f"Complete this Python function:\n\n{row['prompt']}"
            check = f"{row['test']}\ncheck({row['entry_point']})"
            answer = {"head": row["prompt"], "name": row["entry_point"], "check": check}
        elif "test_list" in row and ("text" in row or "prompt" in row):
            tests = "\n".join(row["test_list"])
            text = f"{row.get('text') or row['prompt']}\nThe code must pass these tests:\n\n{tests}"
            setup = "\n".join((*(row.get("test_imports") or []), row.get("test_setup_code") or ""))
            answer = {"head": "", "name": "", "check": f"{setup}\n{tests}"}
        else:
            raise TaskDataError(
                f"{task}: row {number + 1} has the columns {', '.join(map(str, row))}; expected prompt, entry_point "
                f"and test, or text and test_list"
            )
        questions.append(Question(id=str(row.get("task_id", number)), text=text, answer=answer))
    return questions


def score(question: Question, generation: str) -> Verdict:
    """Execute the generated program and its tests in a subprocess, see `sandbox`; what is no Python is invalid."""
    program = program_of(question, generation)
    failure = run_program(f"{program}\n\n{question.answer['check']}\n")
    return Verdict(extracted=program, scores={METRIC: float(failure is None)}, is_valid=_compiles(program))


def program_of(question: Question, generation: str) -> str:
    """Return the program of a generation: its fenced block or all of it, after the function's head.

    A generation that does not define the function is its body, whose indentation may be missing or another.
    """
    fenced = _FENCE.search(generation)
    code = fenced[1] if fenced else generation
    head, name = question.answer["head"], question.answer["name"]
    if name and not re.search(rf"^\s*def\s+{re.escape(name)}\b", code, re.MULTILINE):
        bodies = (code, textwrap.indent(textwrap.dedent(code), "    "), f"    {code}")
        return next((head + body for body in bodies if _compiles(head + body)), head + bodies[1])
    return f"{head}\n\n{textwrap.dedent(code)}"


def _compiles(program: str) -> bool:
    try:
        compile(program, "program", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True
