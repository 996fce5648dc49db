"""Claims about what the build of the training data found of a task's questions."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import run_build
from tests.trainer.benchmarks.fixtures import Oracle, write_rows
from trainer.benchmarks.catalog import find
from trainer.benchmarks.contamination import Contamination, read_findings
from trainer.benchmarks.files import TaskDataError
from trainer.benchmarks.results import html, results_of
from trainer.benchmarks.run import prepare, run_task

QUESTION = "A farmer has {n} brown hens that lay three eggs every day; how many eggs does she have after seven days?"


@pytest.mark.slow  # builds a dataset
def test_the_build_of_the_training_data_says_what_it_found_of_a_task(tmp_path: Path) -> None:
    questions = [{"question": QUESTION.format(n=n), "answer": f"#### {21 * n}"} for n in range(2, 12)]
    write_rows(tmp_path / "eval_sets/gsm8k/test.jsonl", questions)
    write_rows(tmp_path / "eval_sets/svamp/test.jsonl", [{"question": "How many?", "answer": 3}])
    others = [{"question": f"Spell the number {n} in words, please, slowly.", "answer": "w" * n} for n in range(40)]
    write_rows(tmp_path / "train.jsonl", [*questions[:3], *others])
    mix = {
        "name": "m",
        "out": str(tmp_path / "out"),
        "tokenizer": {"vocab_size": 300},
        "sources": [
            {"name": "train", "path": str(tmp_path / "train.jsonl")},
            {"name": "gsm8k_test", "path": str(tmp_path / "eval_sets/gsm8k/test.jsonl"), "role": "eval"},
        ],
    }
    (tmp_path / "mix.yaml").write_text(json.dumps(mix))
    run_build(tmp_path / "mix.yaml", tmp_path / "out")
    findings = read_findings(tmp_path / "out")
    runs = []
    for name in ("gsm8k", "svamp"):
        prepared = prepare(find(name), folder=tmp_path / "eval_sets")
        oracle = Oracle(prepared.questions, lambda question: str(question.answer))
        runs.append(run_task(prepared, oracle, model={}, folder=tmp_path / "journal", unit=4))
    results = results_of(runs, model={"location": "m"}, seed=0, findings=findings)
    content = results.as_json()
    assert content["tasks"]["svamp"]["contamination"] == []
    (found,) = content["tasks"]["gsm8k"]["contamination"]
    assert found["eval_source"] == "gsm8k_test"
    assert (found["items"], found["looked_for"]) == (10, 10)
    assert found["found"] >= 3
    assert found["train_records"] == 3
    assert content["model"]["dataset_fingerprint"] == findings.fingerprint
    assert f"{found['found']} of 10 found in training data, 3 records dropped (gsm8k_test)" in html(results)
    assert "not looked for" in html(results)


def test_files_are_recognised_by_their_hash_only(tmp_path: Path) -> None:
    lock = {
        "manifest": {"sources": [{"name": "t", "role": "train"}, {"name": "e", "role": "eval"}]},
        "inputs": [
            {"source": "t", "sha256": hashlib.sha256(b"train").hexdigest()},
            {"source": "e", "sha256": hashlib.sha256(b"eval").hexdigest()},
            {"source": "e", "sha256": None},
        ],
    }
    (tmp_path / "mix.lock.yaml").write_text(json.dumps(lock))
    (tmp_path / "dataset.json").write_text(json.dumps({"fingerprint": "f"}))
    findings = read_findings(tmp_path)
    assert findings.of({"x": hashlib.sha256(b"eval").hexdigest()}) == []  # no report: nothing is known of it
    counts = Contamination(eval_source="e", items=4, looked_for=3, found=2, train_records=1)
    known = type(findings)(fingerprint="f", sources=findings.sources, counts={"e": counts})
    assert known.of({"x": hashlib.sha256(b"eval").hexdigest(), "y": "0" * 64}) == [counts]
    assert known.of({"x": hashlib.sha256(b"train").hexdigest()}) == []


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match="is not a built dataset"):
        read_findings(tmp_path)
