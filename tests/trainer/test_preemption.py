"""Claims about preemption: runs that are killed at any moment, or asked to stop first."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults import FaultyProxy
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import determined, lines, log_of, run, start, steps, wait_for_step
from trainer.checkpointing.manager import CheckpointManager
from trainer.stop import EXIT_RESUMABLE, SAME_REQUEST_SECONDS

TWO_RANKS = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def checkpoints_of(place: Path | str, tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(str(place), staging=tmp_path / "inspected", keep=1)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "condition not met within two minutes"
        time.sleep(0.02)


@pytest.mark.slow  # fifteen kills and restarts of a real run, and a reference run
def test_run_killed_fifteen_times_repeats_the_uninterrupted_run_bit_for_bit(
    data: Path, tmp_path: Path, bucket: str
) -> None:
    # Each restart is on another machine, which has only the data and the object store.
    evaluation = {"every": 12, "rows_per_family": 2}
    settings = {"epochs": None, "steps": 128, "checkpoint": {"every": 4}, "eval": evaluation}
    manifest = write_manifest(tmp_path, data, **settings)
    assert run(manifest, f"out={tmp_path}/whole") == 0
    place = f"{bucket}/checkpoints"
    stored = checkpoints_of(place, tmp_path)
    moments = random.Random(0)
    resumable: list[int] = []
    uploads = 0
    for kill in range(15):
        out = tmp_path / f"machine{kill}"
        left = uncommitted(stored)
        process = start(manifest, f"out={out}", f"checkpoint.path={place}")
        if kill % 3 == 0:
            while process.is_alive() and uncommitted(stored) in ({}, left):
                process.join(0.001)
        else:
            wait_for_step(process, out, max(resumable, default=0) + moments.randrange(1, 16))
            process.join(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, log_of(manifest).read_text()
        uploads += uncommitted(stored) not in ({}, left)
        resumable.append(max(stored.steps(), default=0))
        if resumable[-1]:
            stored.fetch(resumable[-1])
    out = tmp_path / "last machine"
    assert run(manifest, f"out={out}", f"checkpoint.path={place}") == 0
    assert determined(out) == determined(tmp_path / "whole")
    assert lines(out, "eval") == lines(tmp_path / "whole", "eval")
    resumed = [int(step) for step in re.findall(r"continuing after step (\d+)", log_of(manifest).read_text())]
    assert set(resumed) <= set(resumable)
    assert resumed[-1] == resumable[-1]
    print(f"15 kills, {uploads} of them in an upload; resumable steps after each: {resumable}")
    assert uploads >= 3, f"{uploads} of the kills fell in an upload"
    assert len(set(resumable)) >= 5, f"few steps were resumed: {resumable}"


def uncommitted(stored: CheckpointManager) -> dict[int, set[str]]:
    """Files of checkpoints that have no commit record, by step."""
    return {step: set(files) for step, files in stored.folders().items() if "COMMIT.json" not in files}


@pytest.mark.slow  # torchrun starts two processes, twice, that import everything
@pytest.mark.parametrize("to", ["torchrun and all of its processes", "one rank"])
def test_signal_under_torchrun_writes_a_checkpoint_and_the_next_start_continues(
    data: Path, tmp_path: Path, to: str
) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=5000, checkpoint={"every": 100_000})
    folder = tmp_path / "run"
    command = [*TWO_RANKS, "-m", "trainer.train", str(manifest)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        # In a new session, as a scheduler starts it, so that it can be signalled as a group.
        launcher = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: launcher.poll() is not None or len(steps(folder)) >= 3)
        ranks = {p.environ()["RANK"]: p for p in psutil.Process(launcher.pid).children() if "RANK" in p.environ()}
        began = time.monotonic()
        if to == "one rank":
            ranks["1"].terminate()
        else:
            os.killpg(launcher.pid, signal.SIGTERM)  # torchrun signals its ranks again
        code = launcher.wait(60)
        print(f"SIGTERM to {to}: ended after {time.monotonic() - began:.1f} s, exit code of torchrun {code}")
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    output = (tmp_path / "log").read_text()
    stopped = steps(folder)[-1]["step"]
    assert code != 0
    assert f"stopped after step {stopped:,}; the same command continues" in output
    if to == "one rank":
        assert re.findall(r"exitcode\s*: (\d+)", output)[0] == str(EXIT_RESUMABLE)
    assert checkpoints_of(folder / "checkpoints", tmp_path).steps() == [stopped]

    again = subprocess.run([*command, f"steps={stopped + 5}"], env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"continuing after step {stopped:,}\n" in again.stdout
    assert [line["step"] for line in steps(folder)] == list(range(1, stopped + 6))


def test_signal_during_start_up_ends_the_run_at_once_without_loss(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data)
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.train", str(manifest)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: process.poll() is not None or _catches(process.pid, signal.SIGTERM))
    process.terminate()
    _, output = process.communicate(timeout=60)
    assert process.returncode == EXIT_RESUMABLE
    assert output == "\nSIGTERM: stopped, no work is lost; the same command continues\n"
    assert not (tmp_path / "run").exists()


def _catches(pid: int, number: int) -> bool:
    """Whether a process handles a signal."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system has no /proc")
    mask = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


@pytest.mark.slow  # evaluates long enough to be interrupted
def test_signal_interrupts_an_evaluation_and_the_next_start_repeats_it(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", questions=3_000)
    settings = {"epochs": None, "steps": 8, "checkpoint": {"every": 1000}, "eval": {"rows_per_family": 1_500}}
    manifest = write_manifest(tmp_path, data, **settings)
    folder = tmp_path / "run"
    overrides = ("eval.every=4",)
    assert run(manifest, f"out={tmp_path}/whole", *overrides) == 0
    process = start(manifest, *overrides)
    wait_for_step(process, folder, 4)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == EXIT_RESUMABLE
    assert [line["step"] for line in lines(folder, "eval")] == [0]
    assert checkpoints_of(folder / "checkpoints", tmp_path).steps() == [4]
    assert run(manifest, *overrides) == 0
    assert determined(folder) == determined(tmp_path / "whole")
    assert lines(folder, "eval") == lines(tmp_path / "whole", "eval")
    assert [line["step"] for line in lines(folder, "eval")] == [0, 4, 8]


@pytest.mark.slow  # two requests differ by the time between them
def test_simultaneous_signals_are_one_request_and_a_later_one_ends_the_run_at_once(
    data: Path, tmp_path: Path, bucket: str, faults: FaultyProxy
) -> None:
    settings = {"every": 100_000, "path": f"{bucket}/checkpoints"}
    manifest = write_manifest(tmp_path, data, epochs=10_000, checkpoint=settings)
    process = start(manifest)
    wait_for_step(process, tmp_path / "run", 3)
    faults.kinds, faults.share = ("stall",), 1.0  # the checkpoint is never completed
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(process.pid or 0, number)
        process.join(0.2)
    process.join(SAME_REQUEST_SECONDS)
    assert process.is_alive()
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    assert log_of(manifest).read_text().count("stopping at the next step boundary") == 1
    faults.share = 0.0
    assert checkpoints_of(f"{bucket}/checkpoints", tmp_path).steps() == []
