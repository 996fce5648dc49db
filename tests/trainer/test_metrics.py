"""Claims about metrics and their sinks."""

import json
import sys
from pathlib import Path

import pytest

from trainer.metrics import Metrics
from trainer.sinks.console import Console
from trainer.sinks.jsonl import FILE, JsonLines, recorded_steps

VALUES = {"loss": 1.5, "lr": 1e-3, "k": 5, "tokens_per_second": 1e3, "step_seconds": 0.1, "data_wait_seconds": 0.0}


def metrics_of(folder: Path, resumed_at: int = 0) -> Metrics:
    metrics = Metrics([JsonLines(folder / FILE)], Console(total_steps=100))
    metrics.start(resumed_at)
    return metrics


def write(folder: Path, resumed_at: int, steps: range) -> None:
    metrics = metrics_of(folder, resumed_at)
    for step in steps:
        metrics.write("step", step, VALUES)
        if step % 4 == 0:
            metrics.write("eval", step, {"loss": 2.0, "exact_match": 0.5})
    metrics.close()


def test_resumed_run_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "broken", 0, range(1, 10))
    with (tmp_path / "broken" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    write(tmp_path / "broken", 6, range(7, 13))
    write(tmp_path / "whole", 0, range(1, 13))
    assert (tmp_path / "broken" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert recorded_steps(tmp_path / "broken" / FILE, "eval", until=10) == {4, 8}


@pytest.mark.parametrize(
    "foreign", ["hello\n", "[1]\n", "{}\n", "null\n", '{"kind": "step", "step": "x"}\n', "\0\0\n", "[" * 100_000 + "\n"]
)
def test_line_that_is_no_record_is_left_out_with_a_warning_and_takes_no_other_with_it(
    tmp_path: Path, foreign: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 0, range(1, 5))
    file = tmp_path / FILE
    before = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*before[:2], foreign, *before[2:]]))
    assert recorded_steps(file, "step", until=4) == {1, 2, 3, 4}
    metrics_of(tmp_path, 4).close()
    assert file.read_text() == "".join(before)
    assert "1 lines are no records and are left out, the first is line 3" in caplog.text


def test_run_from_the_start_keeps_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    metrics = metrics_of(tmp_path)
    metrics.write("eval", 0, {"loss": 9.0})
    metrics.close()
    metrics_of(tmp_path).close()
    assert recorded_steps(tmp_path / FILE, "eval", until=0) == set()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_live_line_stays_one_line_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    metrics = metrics_of(tmp_path)
    metrics.write("step", 1, VALUES)
    metrics.close()
    shown = capsys.readouterr().out.split("\r")
    assert shown[1].startswith("step       1/100  loss 1.5000")
    assert max(map(len, shown)) < 60
    assert "\n" not in "".join(shown)


def test_live_line_has_the_share_of_the_peak_and_the_memory_where_they_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in ({}, {"mfu": 0.3951, "memory_gb": 61.24}):
        metrics = metrics_of(tmp_path)
        metrics.write("step", 1, {**VALUES, **extra})
        metrics.close()
    without, with_both = capsys.readouterr().out.splitlines()
    assert "1,000 tokens/s  step 0.100 s" in without
    assert "1,000 tokens/s  MFU 39.5%  GB 61.2  step 0.100 s" in with_both


def test_values_that_json_cannot_represent_are_written_as_null(tmp_path: Path) -> None:
    metrics = metrics_of(tmp_path)
    metrics.write("step", 1, {**VALUES, "loss": float("nan")})
    metrics.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None


def test_console_prints_how_many_families_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = metrics_of(tmp_path)
    metrics.write("eval", 3, {"loss": 1.0, "exact_match": 0.6, "exact_match/units": 0.8, "exact_match/logic": 0.4})
    metrics.close()
    printed = capsys.readouterr().out
    assert "loss 1  exact_match 0.6  families at 80% or more: 1 of 2" in printed
    assert "units 80%   logic 40%" in printed
