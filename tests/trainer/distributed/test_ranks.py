"""Claims about runs of several ranks: results depend neither on their number nor on the layout of weights."""

import math
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.faults import FaultyProxy
from tests.trainer.data.test_dataset import upload
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import finish, kill, lines, log_of, run, run_ranks, start_ranks, steps, wait_for_step
from trainer.checkpointing.manager import CheckpointManager
from trainer.data.dataset import open_dataset
from trainer.data.plan import Plan, PlanInputs
from trainer.data.shards import ShardStore
from trainer.distributed.stragglers import INTERVAL
from trainer.stop import EXIT_RESUMABLE

pytestmark = pytest.mark.slow  # trains models

BATCH = {"tokens": 256, "row_tokens": 32}
"""Eight rows, which 1, 2 and 4 ranks can share."""


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in steps(folder)]


def assert_same(folder: Path, reference: Path) -> None:
    """Step by step the same loss to 1e-5, and the same batches exactly."""
    assert [line["step"] for line in steps(folder)] == [line["step"] for line in steps(reference)]
    for key in ("epoch", "batch", "tokens", "target_tokens"):
        assert [line[key] for line in steps(folder)] == [line[key] for line in steps(reference)]
    assert losses(folder) == pytest.approx(losses(reference), rel=1e-5)


def manifest_of(tmp_path: Path, data: Path | str, **changes: Any) -> Path:
    settings = {
        "epochs": None,
        "steps": 20,
        "batch": BATCH,
        "checkpoint": {"every": 3},
        "schedule": {"warmup_steps": 4, "k_ramp": 0.0},
        **changes,
    }
    return write_manifest(tmp_path, data, **settings)


def newest(folder: Path) -> int:
    return max(CheckpointManager(str(folder / "checkpoints"), staging=folder, keep=1).steps(), default=0)


def kill_after_next_checkpoint(ranks: int, manifest: Path, *overrides: str) -> None:
    folder = manifest.parent / "run"
    before = newest(folder)
    processes = start_ranks(ranks, manifest, *overrides)
    while processes[0].is_alive() and newest(folder) == before:
        processes[0].join(0.02)
    kill(processes)


@pytest.mark.slow  # eight processes train, six of them are killed
@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_run_killed_on_two_ranks_continues_on_one_and_then_on_four(
    data: Path, tmp_path: Path, distribution: str
) -> None:
    manifest = manifest_of(tmp_path, data, distribution=distribution)
    assert run(manifest, f"out={tmp_path}/single", "distribution=ddp") == 0
    kill_after_next_checkpoint(2, manifest)
    kill_after_next_checkpoint(1, manifest)
    run_ranks(4, manifest)
    assert_same(tmp_path / "run", tmp_path / "single")
    assert log_of(manifest).read_text().count("continuing after step") == 2


@pytest.mark.slow  # three runs, two of them of two ranks
def test_run_changes_between_replicated_and_sharded_weights(data: Path, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, data)
    assert run(manifest, f"out={tmp_path}/single") == 0
    run_ranks(2, manifest, "steps=7")
    run_ranks(2, manifest, "steps=14", "distribution=fsdp2")
    assert run(manifest) == 0
    assert_same(tmp_path / "run", tmp_path / "single")


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_gradients_accumulated_over_micro_batches_are_those_of_the_batch(
    data: Path, tmp_path: Path, distribution: str
) -> None:
    manifest = manifest_of(tmp_path, data, optimizer={"lr": 1e-3, "ema": 0.9, "clip_norm": 0.5})
    assert run(manifest, f"out={tmp_path}/single") == 0
    run_ranks(2, manifest, "batch.micro_rows=3", f"distribution={distribution}")
    assert_same(tmp_path / "run", tmp_path / "single")
    norms = [[line["gradient_norm"] for line in steps(tmp_path / name)] for name in ("run", "single")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert max(norms[1]) > 0.5, "no gradient exceeds clip_norm"


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_ranks_together_evaluate_like_a_single_one(tmp_path: Path, distribution: str) -> None:
    data = write_dataset(tmp_path / "data", questions=1800)  # two batches, so that one of three ranks has none
    settings = {"batch": {"tokens": 192, "row_tokens": 32}, "eval": {"rows_per_family": 900, "every": 4}}
    manifest = manifest_of(tmp_path, data, steps=1, **settings)
    assert run(manifest, f"out={tmp_path}/single") == 0
    run_ranks(3, manifest, f"distribution={distribution}")
    together, single = (lines(tmp_path / name, "eval") for name in ("run", "single"))
    assert [line["step"] for line in together] == [0, 1]
    for here, there in zip(together, single, strict=True):
        assert here.keys() == there.keys()
        assert [here[key] for key in here if key != "kind"] == pytest.approx(
            [there[key] for key in here if key != "kind"], rel=1e-5
        )


def test_ranks_on_machines_without_a_shared_disk_resume_from_an_object_store(
    data: Path, tmp_path: Path, bucket: str
) -> None:
    manifest = manifest_of(tmp_path, data, checkpoint={"every": 4, "path": f"{bucket}/checkpoints"}, steps=12)
    assert run(manifest, f"out={tmp_path}/single", "checkpoint.path=null") == 0
    run_ranks(2, manifest, "steps=6", nodes=2)
    run_ranks(2, manifest, f"out={tmp_path}/later", nodes=2)
    staging = tmp_path / "later" / "staging"
    assert {path.name for path in staging.glob("node-*/step-00000006")} == {"step-00000006"}
    assert len(list(staging.glob("node-*/step-00000006/COMMIT.json"))) == 2
    assert_same(tmp_path / "later", tmp_path / "single")
    assert CheckpointManager(f"{bucket}/checkpoints", staging=tmp_path / "s", keep=1).steps() == [8, 12]


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_batches_without_a_target_train_without_nan(tmp_path: Path, distribution: str) -> None:
    manifest = manifest_of(tmp_path, write_dataset(tmp_path / "data", responses=False), steps=3, max_skipped=0)
    run_ranks(2, manifest, f"distribution={distribution}")
    for line in steps(tmp_path / "run"):
        assert (line["target_tokens"], line["loss"], line["gradient_norm"], line["skipped"]) == (0, 0.0, 0.0, 0)


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_value_that_is_not_finite_skips_the_step_on_every_rank(data: Path, tmp_path: Path, distribution: str) -> None:
    manifest = manifest_of(tmp_path, data, optimizer={"lr": 1e20, "weight_decay": 0.0}, max_skipped=3)
    processes = start_ranks(2, manifest, f"distribution={distribution}")
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [1, 1]
    assert steps(tmp_path / "run")[-1]["skipped"] == 3
    assert log_of(manifest).read_text().count("4 steps were skipped for such values") == 2
    assert all(math.isfinite(line["loss"]) for line in steps(tmp_path / "run")[:-3])


@pytest.mark.slow  # one of two ranks is stopped most of the time
def test_straggler_is_reported(data: Path, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, data, steps=INTERVAL, checkpoint={"every": 1000})
    processes = start_ranks(2, manifest)
    wait_for_step(processes[0], tmp_path / "run", 1)
    slow = processes[1]
    while slow.is_alive():
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(slow.pid or 0, signal.SIGSTOP)
            time.sleep(0.03)
            os.kill(slow.pid or 0, signal.SIGCONT)
        slow.join(0.01)
    assert finish(processes, manifest) == [0, 0]
    compared = [line for line in steps(tmp_path / "run") if "slowest_rank" in line]
    assert [(line["step"], line["slowest_rank"]) for line in compared] == [(INTERVAL, 1)]
    assert "rank 1 is a straggler: " in log_of(manifest).read_text()


@pytest.mark.slow  # a run that waits for a stalled store
def test_ranks_waiting_for_data_stop_with_a_checkpoint_on_a_signal_to_one(
    tmp_path: Path, bucket: str, faults: FaultyProxy
) -> None:
    folder = write_dataset(tmp_path / "data", samples=400)
    upload(folder, f"{bucket}/mix")
    batch = {"tokens": 64, "row_tokens": 32}
    manifest = manifest_of(tmp_path, f"{bucket}/mix", batch=batch, prefetch_batches=1, checkpoint={"every": 1000})
    last, reachable = shard_that_is_needed_last(folder, **batch)
    faults.kinds, faults.only, faults.share = ("stall",), f"shard.{last:05}.mds", 1.0
    ranks = start_ranks(2, manifest)
    wait_for_step(ranks[0], tmp_path / "run", reachable)
    os.kill(ranks[1].pid or 0, signal.SIGTERM)
    assert finish(ranks, manifest) == [EXIT_RESUMABLE, EXIT_RESUMABLE], log_of(manifest).read_text()
    assert newest(tmp_path / "run") == len(steps(tmp_path / "run")) == reachable


def test_all_ranks_of_a_second_run_in_the_same_folder_are_refused(data: Path, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, data)
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / "run.lock"):
        assert finish(start_ranks(2, manifest), manifest) == [2, 2]
    output = log_of(manifest).read_text()
    assert output.count("another process is training in") == 2
    assert "Traceback" not in output


def shard_that_is_needed_last(folder: Path, *, tokens: int, row_tokens: int) -> tuple[int, int]:
    """A shard, and the number of batches before the first one that needs it."""
    dataset = open_dataset(str(folder), folder)
    inputs = PlanInputs(
        fingerprint=dataset.fingerprint, seed=0, batch_tokens=tokens, row_tokens=row_tokens, truncate=False
    )
    chunk = Plan(inputs, dataset.strata, dataset.lengths).chunk(0, 0)
    store = ShardStore(dataset)
    first: dict[int, int] = {}
    for batch in range(chunk.batches):
        for shard in store.shards_of(chunk.batch(batch)).tolist():
            first.setdefault(shard, batch)
    return max(first.items(), key=lambda item: item[1])
