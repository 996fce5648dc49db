"""Claims about runs that share a location of checkpoints: one writes, and nothing of the other's is lost."""

import fcntl
import os
import random
import re
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

import corpus.storage.lease as lease
from corpus.storage.lease import LEASE, Holder
from corpus.storage.store import Store
from model.loading import CheckpointError
from tests.trainer import processes
from tests.trainer.checkpointing.test_manager import Written
from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import CONTEXT, log_of, wait_for_step
from trainer.checkpointing.manager import CheckpointManager
from trainer.data.dataset import Dataset, open_dataset

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture
def dataset(data: Path, tmp_path: Path) -> Dataset:
    return open_dataset(str(data), tmp_path)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "shared") if request.param == "local" else f"{request.getfixturevalue('bucket')}/shared"


@pytest.fixture
def _on_another_machine_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holders in this process count as processes of other machines, of which the first is paused and renews nothing."""
    monkeypatch.setattr(Holder, "has_ended", property(lambda self: False))
    monkeypatch.setattr(lease, "SECONDS", 0.5)
    monkeypatch.setattr(lease, "POLL", 0.05)
    monkeypatch.setattr(lease, "RENEWAL", 1000.0)


@pytest.mark.usefixtures("_on_another_machine_each")
def test_paused_run_writes_and_deletes_nothing_after_its_successor_took_over(
    dataset: Dataset, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    paused, successor = Written(place, dataset), Written(place, dataset)
    paused.checkpoints.own()
    paused.save(1, 2)
    successor.checkpoints.own()
    assert "waiting up to 0 s for it to end or be found dead" in caplog.text
    successor.save(3, 4)
    before = Store(place).list()
    for step in (3, 4, 5):
        with pytest.raises(CheckpointError, match="has taken over"):
            paused.save(step)
    paused.checkpoints._retain(9)
    paused.checkpoints.release()
    assert Store(place).list() == before
    for step in successor.checkpoints.steps():
        successor.checkpoints.fetch(step)
    assert successor.checkpoints.steps() == [3, 4]
    successor.checkpoints.release()
    assert LEASE not in Store(place).list()


@pytest.mark.usefixtures("_on_another_machine_each")
def test_upload_that_a_pause_interrupted_does_not_damage_the_checkpoint_of_the_successor(
    dataset: Dataset, bucket: str
) -> None:
    place = f"{bucket}/shared"
    paused, successor = Written(place, dataset), Written(place, dataset)
    paused.checkpoints.own()
    put, met = Store.put, []

    def put_late(store: Store, local: Path, name: str, *, create: bool = False) -> None:
        """The successor writes the whole checkpoint between the check of the lease and the request."""
        if not met:
            met.append(name)
            successor.checkpoints.own()
            successor.save(7)
        put(store, local, name, create=create)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "put", put_late)
        with pytest.raises(CheckpointError, match="has taken over"):
            paused.save(7)
    assert met
    successor.checkpoints.fetch(7)
    successor.checkpoints.release()


@pytest.mark.usefixtures("_on_another_machine_each")
def test_retention_deletes_only_what_the_run_found_or_wrote(dataset: Dataset, place: str) -> None:
    before, run, stranger = (Written(place, dataset, keep=keep) for keep in (2, 1, 9))
    before.save(1, 2)
    run.checkpoints.own()
    stranger.save(3)
    run.save(5)
    assert run.checkpoints.steps() == [3, 5]
    run.checkpoints.release()


def _run_with_a_short_lease(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    lease.SECONDS, lease.RENEWAL, lease.POLL = 2.0, 0.2, 0.1
    processes._run(arguments, log, environment)


def start(manifest: Path, *overrides: str) -> BaseProcess:
    environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    arguments = ([str(manifest), *overrides], str(log_of(manifest)), environment)
    process = CONTEXT.Process(target=_run_with_a_short_lease, args=arguments)
    process.start()
    return process


def pause(process: BaseProcess, place: str) -> None:
    """Stop a process, but not within a change of its folder, which only ends with the process."""
    assert process.pid is not None
    while True:
        os.kill(process.pid, signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        if "://" in place:
            return
        folder = os.open(place, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.01)
        finally:
            os.close(folder)


@pytest.mark.slow  # pairs of runs
def test_requeued_run_and_its_paused_predecessor_lose_nothing(data: Path, tmp_path: Path, place: str) -> None:
    settings = {
        "epochs": None,
        "steps": 40,
        "checkpoint": {"every": 2, "keep": 2, "path": place},
        "eval": {"every": 1000},
    }
    draw = random.Random(0)
    for number in range(int(os.environ.get("ROUNDS", "1"))):
        manifest = write_manifest(tmp_path, data, **settings, seed=number)
        first, second = tmp_path / f"first{number}", tmp_path / f"second{number}"
        zombie = start(manifest, f"out={first}", f"checkpoint.path={place}/{number}")
        wait_for_step(zombie, first, draw.randrange(3, 12))
        time.sleep(draw.uniform(0, 0.2))
        pause(zombie, f"{place}/{number}")
        successor = start(manifest, f"out={second}", f"checkpoint.path={place}/{number}")
        wait_for_step(successor, second, draw.randrange(14, 38))
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGCONT)
        successor.join(120)
        zombie.join(120)
        said = log_of(manifest).read_text()
        assert (successor.exitcode, zombie.exitcode) == (0, 1), said
        assert re.search(r"(has taken over|its lease was deleted), because this process was paused", said), said
        stored = CheckpointManager(f"{place}/{number}", staging=tmp_path / f"look{number}", keep=1)
        assert stored.steps() == [38, 40]
        for step in stored.steps():
            stored.fetch(step)
        assert LEASE not in Store(f"{place}/{number}").list()


@pytest.mark.slow  # two runs
def test_second_run_with_the_same_checkpoints_is_refused_and_both_are_whole(
    data: Path, tmp_path: Path, bucket: str
) -> None:
    settings = {"epochs": None, "steps": 4000, "checkpoint": {"every": 20, "path": f"{bucket}/shared"}}
    manifest = write_manifest(tmp_path, data, **settings)
    first = start(manifest, f"out={tmp_path}/first")
    wait_for_step(first, tmp_path / "first", 2)
    second = start(manifest, f"out={tmp_path}/second")
    second.join(120)
    said = log_of(manifest).read_text()
    assert second.exitcode == 1, said
    assert "is writing there and renews its lease: wait until it ends" in said
    assert first.pid is not None
    os.kill(first.pid, signal.SIGTERM)
    first.join(60)
    assert first.exitcode == 75
    third = start(manifest, f"out={tmp_path}/third", "steps=1")
    third.join(60)
    assert third.exitcode == 0, log_of(manifest).read_text()
