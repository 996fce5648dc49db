"""Claims about checkpoints of whole runs; CI runs them with the lowest and with the pinned versions of torch."""

from pathlib import Path

import pytest

from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import lines, log_of, run, run_ranks, steps

pytestmark = pytest.mark.slow  # trains models


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_two_ranks_write_three_checkpoints_and_resume(data: Path, tmp_path: Path, distribution: str) -> None:
    schedule = {"warmup_steps": 2, "k_ramp": 0.0}
    manifest = write_manifest(
        tmp_path, data, epochs=None, steps=6, checkpoint={"every": 2}, schedule=schedule, distribution=distribution
    )
    run_ranks(2, manifest)
    assert [line["step"] for line in lines(tmp_path / "run", "checkpoint")] == [2, 4, 6]
    run_ranks(2, manifest, "steps=8")
    assert "continuing after step 6" in log_of(manifest).read_text()
    assert run(manifest, "steps=8", "distribution=ddp", f"out={tmp_path / 'single'}") == 0
    resumed, single = ([line["loss"] for line in steps(tmp_path / name)] for name in ("run", "single"))
    assert resumed == pytest.approx(single, rel=1e-5)


def test_rows_as_long_as_the_share_of_a_rank_train_like_micro_batches_of_one_rank(data: Path, tmp_path: Path) -> None:
    batch = {"tokens": 1024, "row_tokens": 512}
    manifest = write_manifest(
        tmp_path, data, epochs=None, steps=4, batch=batch, checkpoint={"every": 2}, eval={"rows_per_family": 4}
    )
    run_ranks(2, manifest)
    assert run(manifest, "batch.micro_rows=1", "recompute=elementwise", f"out={tmp_path / 'single'}") == 0
    ranks, single = ([line["loss"] for line in steps(tmp_path / name)] for name in ("run", "single"))
    assert ranks == pytest.approx(single, rel=1e-5)
    evaluated = [[line["loss"] for line in lines(tmp_path / name, "eval")] for name in ("run", "single")]
    assert evaluated[0] == pytest.approx(evaluated[1], rel=1e-5)
    assert len(evaluated[0]) == 2
