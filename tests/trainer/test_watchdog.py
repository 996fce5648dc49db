"""Claims about processes whose main thread is blocked: they answer signals and end after a stated time."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import finish, kill, log_of, run_ranks, start, start_ranks, steps, wait_for_step
from trainer.stop import EXIT_RESUMABLE

pytestmark = pytest.mark.slow  # waits for timeouts


@pytest.mark.parametrize(
    ("is_signalled", "limit", "message"),
    [(True, "stop_timeout=3", "SIGTERM: no step boundary within"), (False, "stall_timeout=6", "no progress for")],
    ids=["signalled", "unsignalled"],
)
def test_rank_that_waits_for_a_frozen_one_exits_as_resumable_and_says_why(
    data: Path, tmp_path: Path, is_signalled: bool, limit: str, message: str
) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=400, checkpoint={"every": 5})
    ranks = start_ranks(2, manifest, limit)
    wait_for_step(ranks[0], tmp_path / "run", 12)
    os.kill(ranks[1].pid or 0, signal.SIGSTOP)
    time.sleep(1)
    if is_signalled:
        os.kill(ranks[0].pid or 0, signal.SIGTERM)
    ranks[0].join(60)
    code = ranks[0].exitcode
    kill(ranks)
    assert code == EXIT_RESUMABLE
    assert message in log_of(manifest).read_text()
    reached = steps(tmp_path / "run")[-1]["step"]
    run_ranks(2, manifest, f"steps={reached + 3}")
    assert [line["step"] for line in steps(tmp_path / "run")] == list(range(1, reached + 4))


def test_rank_whose_peer_was_killed_leaves_within_a_minute_and_says_why(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=400, checkpoint={"every": 5})
    ranks = start_ranks(2, manifest)
    wait_for_step(ranks[0], tmp_path / "run", 12)
    os.kill(ranks[1].pid or 0, signal.SIGKILL)
    began = time.monotonic()
    ranks[0].join(60)
    seconds = time.monotonic() - began
    code = ranks[0].exitcode
    kill(ranks)
    said = log_of(manifest).read_text()
    print(f"the other rank left after {seconds:.1f} s")
    assert code == EXIT_RESUMABLE, said
    assert said.count("error: another rank has ended or cannot be reached") == 1
    assert "Traceback" not in said
    reached = steps(tmp_path / "run")[-1]["step"]
    run_ranks(2, manifest, f"steps={reached + 3}")
    assert [line["step"] for line in steps(tmp_path / "run")] == list(range(1, reached + 4))


def test_process_that_waits_for_other_ranks_to_start_answers_a_signal(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=5)
    (alone, other) = start_ranks(2, manifest)
    os.kill(other.pid or 0, signal.SIGSTOP)
    time.sleep(3)
    os.kill(alone.pid or 0, signal.SIGTERM)
    alone.join(60)
    code = alone.exitcode
    kill([alone, other])
    assert code == EXIT_RESUMABLE
    assert "no work is lost" in log_of(manifest).read_text()


def test_watched_run_is_otherwise_unchanged(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=6)
    assert finish([start(manifest, "stall_timeout=60")], manifest) == [0]
    assert "no progress" not in log_of(manifest).read_text()
