"""Small question files in the layouts of the published sets, and stand-ins for a model that know the answers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.benchmarks.answerer import Answer, Request
from trainer.benchmarks.catalog import find
from trainer.benchmarks.files import TaskFiles
from trainer.benchmarks.run import Prepared, prepare
from trainer.benchmarks.task import Question


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(
    task: str, folder: Path, *, shots: int | None = None, named: Mapping[str, Path] | None = None
) -> list[Question]:
    """Read the questions of a task from a folder, or from files that are named for a split."""
    found = find(task).task
    files = TaskFiles(task=task, folder=folder, named=dict(named or {}))
    return found.read(files, found.shots if shots is None else shots)


def arithmetic(folder: Path, count: int) -> Prepared:
    """A task of the form of GSM8K with this many sums, of prompts of different lengths."""
    rows = [
        {"question": f"What is {i} + {i * i}?" + " Think well." * (i % 4), "answer": f"Add.\n#### {i + i * i:,}"}
        for i in range(count)
    ]
    write_rows(folder / "gsm8k/test.jsonl", rows)
    return prepare(find("gsm8k"), folder=folder)


class Oracle:
    """Answers each prompt by a function of its question, and counts its calls."""

    def __init__(self, questions: Sequence[Question], reply: Callable[[Question], str]):
        self.reply = {question.prompt: reply(question) for question in questions}
        self.calls = 0

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """See `trainer.benchmarks.answerer.Answerer`."""
        self.calls += 1
        return [
            Answer(text=self.reply[request.prompt], prompt_tokens=len(request.prompt), new_tokens=1, is_cut=False)
            for request in requests
            for _ in range(request.answers)
        ]
