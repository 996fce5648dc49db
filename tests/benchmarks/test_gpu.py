"""Claims about the command that measures everything on a GPU, with tiny sizes on a CPU."""

from pathlib import Path

import pytest

from tests.benchmarks.gpu import PartError, compared, main


def records(losses: list[float]) -> list[dict[str, float]]:
    speed = {"step_seconds": 0.5, "data_wait_seconds": 0.001, "tokens_per_second": 1000.0}
    return [{"step": step, "loss": loss, "k": 2 + step // 3, **speed} for step, loss in enumerate(losses, 1)]


def test_losses_of_a_killed_run_are_compared_step_by_step() -> None:
    whole = records([3.0, 2.5, 2.0, 1.5])
    assert "4 steps, K from 2 to 3: all losses are the same bit for bit" in compared(whole, whole)
    assert "data wait 0.20%" in compared(whole, whole)
    assert "2 losses differ, from step 3 on, by at most 0.25" in compared(whole, records([3.0, 2.5, 2.25, 1.5 + 1e-9]))
    with pytest.raises(PartError, match="4 and 3 steps were recorded"):
        compared(whole, records([3.0, 2.5, 2.0]))


@pytest.mark.slow  # trains a model in a process of its own
def test_parts_after_one_that_fails_are_run_and_all_results_are_one_block(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--data", str(tmp_path / "missing"), "--out", str(tmp_path / "out")]
    assert main(["--tiny", *places, "--parts", "train", "L", "--seconds", "600"]) == 1
    block = (tmp_path / "out" / "results.txt").read_text()
    assert capsys.readouterr().out.endswith(block)
    failed, measured = block.split("== ")[1:3]
    assert failed.startswith("train, 0 s\nfailed: ")
    assert "is no built dataset: build manifests/mix.yaml, and set --data" in failed
    assert "│ dense" in measured
    assert "kernels of a step by group" in measured
    assert main(["--tiny", *places, "--parts", "L", "--seconds", "0"]) == 0
    assert "not run: the 0 s are over" in (tmp_path / "out" / "results.txt").read_text()
