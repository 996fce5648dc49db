"""For each task, prompts and verdicts of 20 questions, against what `expected/TASK.yaml` states, written by hand.

A file of expectations has the rules of its task, the rows of the question files, the solved examples as text (`shots`),
and for each question its prompt after them (`asked`), a planted answer (`says`), and what that scores: the extracted
answer (`found`), the metric (`score`), and whether it has the expected form (`valid`).
"""

import csv
import importlib.util
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trainer.benchmarks.fixtures import read
from trainer.benchmarks.catalog import BUILT_IN, find

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


@pytest.mark.parametrize("name", BUILT_IN)
def test_prompts_and_verdicts_of_20_questions_are_those_written_by_hand(name: str, tmp_path: Path) -> None:
    if name == "math" and importlib.util.find_spec("math_verify") is None:
        pytest.skip("the extra `math` is not installed")
    expected = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    write_files(expected, tmp_path)
    named = {
        **({"shots": tmp_path / "mine.jsonl"} if "named_shots" in expected else {}),
        **({expected["named"]: tmp_path / expected["file"]} if "named" in expected else {}),
    }
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
