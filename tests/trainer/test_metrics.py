"""Claims about what a run reports."""

import json
import sys
from pathlib import Path

import pytest

from trainer.metrics import Metrics, evaluated_steps

VALUES = {"loss": 1.5, "lr": 1e-3, "k": 5, "tokens_per_second": 1e3, "step_seconds": 0.1, "data_wait_seconds": 0.0}


def write(folder: Path, resumed_at: int, steps: range) -> None:
    metrics = Metrics(folder, resumed_at)
    for step in steps:
        metrics.step(step, 100, VALUES)
        if step % 4 == 0:
            metrics.evaluation(step, {"loss": 2.0, "exact_match": 0.5})
    metrics.close()


def test_resumed_run_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "broken", 0, range(1, 10))
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    write(tmp_path / "broken", 6, range(7, 13))
    write(tmp_path / "whole", 0, range(1, 13))
    assert (tmp_path / "broken" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert evaluated_steps(tmp_path / "broken", 10) == {4, 8}


def test_run_from_the_start_keeps_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.evaluation(0, {"loss": 9.0})
    metrics.close()
    metrics = Metrics(tmp_path, 0)
    metrics.close()
    assert evaluated_steps(tmp_path, 0) == set()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_live_line_stays_one_line_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    metrics = Metrics(tmp_path, 0)
    metrics.step(1, 100, VALUES)
    metrics.close()
    shown = capsys.readouterr().out.split("\r")
    assert shown[1].startswith("step       1/100  loss 1.5000")
    assert max(map(len, shown)) < 60
    assert "\n" not in "".join(shown)


def test_values_that_json_lacks_are_written_as_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.step(1, 100, {**VALUES, "loss": float("nan")})
    metrics.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None


def test_evaluation_says_how_many_families_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.evaluation(3, {"loss": 1.0, "exact_match": 0.6, "exact_match/units": 0.8, "exact_match/logic": 0.4})
    metrics.close()
    printed = capsys.readouterr().out
    assert "loss 1  exact_match 0.6  families at 80% or more: 1 of 2" in printed
    assert "units 80%   logic 40%" in printed
