"""For each task, prompts and verdicts of 20 questions, against what `expected/TASK.yaml` states, written by hand.

A file of expectations has the rules of its task, the rows of the question files, the solved examples as text (`shots`),
and for each question its prompt after them (`asked`), a planted answer (`says`), and what that scores: the extracted
answer (`found`), the metric (`score`), and whether it has the expected form (`valid`).
"""

import csv
import importlib.util
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainer.benchmarks.fixtures import Oracle, read
from trainer.benchmarks.catalog import BUILT_IN, find
from trainer.benchmarks.results import score_of
from trainer.benchmarks.run import prepare, run_task
from trainer.benchmarks.task import Question

FOLDER = Path(__file__).parent / "expected"


def write_files(expected: Mapping[str, Any], folder: Path) -> None:
    """Write the rows of questions and solved examples to the files that the expectations name."""
    files = defaultdict(list)
    for number, question in enumerate(expected["questions"]):
        row = question.get("row") or expected["common"]
        row = {key: value % number if value == "%s" else value for key, value in row.items()}
        files[question.get("in", expected["file"])].append(row)
    for row in expected.get("shots_rows", ()):
        files[row.get("in", expected.get("shots_file", "mine.jsonl"))].append({k: row[k] for k in row if k != "in"})
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, rows)


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows(row.values() for row in rows)  # without a header, as MMLU's files are
        elif path.suffix == ".json":
            json.dump({"examples": rows}, file)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def read_expected(name: str, folder: Path) -> tuple[Mapping[str, Any], dict[str, Path]]:
    """Write the files of a task; returns the expectations, and the files that are named for a split."""
    if name == "math" and importlib.util.find_spec("math_verify") is None:
        pytest.skip("the extra `math` is not installed")
    expected = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    write_files(expected, folder)
    named = {
        **({"shots": folder / "mine.jsonl"} if "named_shots" in expected else {}),
        **({expected["named"]: folder / expected["file"]} if "named" in expected else {}),
    }
    return expected, named


@pytest.mark.parametrize("name", BUILT_IN)
def test_prompts_and_verdicts_of_20_questions_are_those_written_by_hand(name: str, tmp_path: Path) -> None:
    expected, named = read_expected(name, tmp_path)
    questions = read(name, tmp_path, named=named)
    assert len(questions) == len(expected["questions"]) == 20
    task = find(name).task
    for number, (question, wanted) in enumerate(zip(questions, expected["questions"], strict=True), 1):
        group = wanted.get("group", "")
        shots = expected.get("shots", "")
        before = shots[group] if isinstance(shots, dict) else shots
        assert question.prompt == before + wanted.get("asked", expected.get("asked")), number
        assert question.group == group
        verdict = task.score(question, wanted["says"])
        found = (verdict.scores[task.metric], verdict.is_valid)
        assert found == (pytest.approx(wanted["score"]), wanted.get("valid", True)), (number, wanted)
        assert verdict.extracted == wanted.get("found", verdict.extracted), number
        if "exact_match" in wanted:
            assert verdict.scores["exact_match"] == wanted["exact_match"], number


RIGHT: Mapping[str, Callable[[Question], str]] = {
    "math": lambda q: rf"\boxed{{{q.answer}}}",
    "drop": lambda q: q.answer[-1][0],
    "humaneval": lambda q: "return n / 2",
    "mbpp": lambda q: "def double(n):\n    return 2 * n",
}
"""Task to its right answers, where they are not the reference answer as text."""
BEST = {"drop": 0.975}
"""A text cannot be both spans of the one answer that has two: it earns half."""


def wrong(question: Question) -> str:
    """A valid answer that is wrong."""
    if isinstance(question.answer, int | float):
        return str(question.answer + 1)
    if question.options:
        return "BA"[question.answer == "B"]
    if str(question.answer).startswith("("):
        return "(Z)"
    return r"\boxed{98765}"


@pytest.mark.parametrize("name", BUILT_IN)
def test_right_answers_score_100_percent_wrong_ones_0_and_invalid_ones_chance(name: str, tmp_path: Path) -> None:
    _, named = read_expected(name, tmp_path)
    found = find(name)
    prepared = prepare(found, folder=tmp_path, named=named, limit=4 if found.task.runs_code else None)
    is_choice = found.task.max_new_tokens == 1
    chance = [1 / q.options if is_choice else 0.0 for q in prepared.questions]
    scores = []
    for number, reply in enumerate((RIGHT.get(name, lambda q: str(q.answer)), wrong, lambda q: "?")):
        oracle = Oracle(prepared.questions, reply)
        run = run_task(prepared, oracle, model={}, folder=tmp_path / str(number), unit=64)
        scores.append(score_of(run, seed=0).score)
    assert scores == pytest.approx([BEST.get(name, 1), 0, sum(chance) / len(chance)])
