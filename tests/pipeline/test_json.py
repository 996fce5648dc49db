"""Commands that print results print them as JSON, and nothing else on standard output, with `--json`."""

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.inspect import main as inspect
from pipeline import contamination, verify
from pipeline.build import main as build

pytestmark = pytest.mark.slow  # builds a dataset


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_summary_of_a_build(mix: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    assert build([str(mix), "--out", str(dataset), "--workers", "1", "--json"]) == 0
    summary = printed(capsys)
    assert (summary["is_new"], summary["out"]) == (False, str(dataset))
    assert summary["dataset"] == {key: value for key, value in info.items() if key != "files"}
    assert build([str(mix), "--dry-run", "--json"]) == 2


def test_checks_of_a_dataset(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main([str(dataset), "--json"]) == 0
    found = printed(capsys)
    assert found["ok"]
    assert {check["name"] for check in found["checks"]} >= {"files", "shards", "ledger"}
    assert all(check["problems"] == [] for check in found["checks"])
    assert verify.main([str(tmp_path), "--json"]) == 1


def test_overview_of_a_dataset(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    assert inspect([str(dataset), "--json"]) == 0
    found = printed(capsys)
    assert found["sources"] == info["counts"]
    assert sum(stratum["tokens"] for stratum in found["strata"]) == info["tokens"]
    assert found["records"] == []
    assert inspect([str(dataset), "--json", "--source", "chat", "--search", "QUESTION 4-3:"]) == 0
    found = printed(capsys)
    assert list(found["sources"]) == ["chat"]
    assert [record["condition"] for record in found["records"]] == [["synth", "cot"]]


def test_contamination_test(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from corpus.dataset import open_dataset

    items = contamination.read_items(open_dataset(str(dataset)), ["held"])
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps({"item": name, "score": n % 2}) + "\n" for n, name in enumerate(items)))
    command = [str(dataset), "--eval", "held", "--scores", str(scores), "--n", "5", "--json"]
    assert contamination.main(command) == 0
    found = printed(capsys)
    assert (found["items"], found["mean_score"]) == (len(items), 0.5)
    assert [test["n"] for test in found["tests"]] == [5]
    assert len(found["tests"][0]["subsets"]) == 4
