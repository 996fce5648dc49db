"""Claims about leases: one writer at a place, whoever is paused, killed or late."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import corpus.storage.lease
from corpus.storage import StorageError
from corpus.storage.lease import LEASE, Holder, Lease, LeaseError, acquire
from corpus.storage.store import Store
from tests.faults import FaultyProxy

HOLD = """
import sys, time
import corpus.storage.lease as lease
from corpus.storage.store import Store
from tests.faults import FaultyProxy
lease.RENEWAL = 0.1
held = lease.acquire(Store(sys.argv[1]), "another run")
print("held", flush=True)
sys.stdin.readline()
try:
    held.check()
    print("still held", flush=True)
except lease.LeaseError as error:
    print(error, flush=True)
"""


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.storage.lease, "SECONDS", 2.0)
    monkeypatch.setattr(corpus.storage.lease, "RENEWAL", 0.1)
    monkeypatch.setattr(corpus.storage.lease, "POLL", 0.05)
    monkeypatch.setattr(corpus.storage.lease, "SETTLE", 0.05)


@pytest.fixture(params=["folder", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/place"
    return str(tmp_path / "place") if request.param == "folder" else f"memory://{tmp_path}"


class Forgetful(MemoryFileSystem):
    """A store whose client ignores the condition of an upload, and which has folders, as fsspec's of SFTP."""

    protocol = "forgetful"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def put_file(self, *paths: str, mode: str = "overwrite", **options: Any) -> None:
        super().put_file(*paths, **options)

    def pipe_file(self, path: str, *content: Any, **options: Any) -> None:
        assert self.isdir(path.rpartition("/")[0]), "its folder is missing"
        super().pipe_file(path, *content, **options)


def of_another(store: Store, **fields: object) -> Holder:
    """Put the lease of a holder on another machine at a place."""
    holder = Holder(token="theirs", program="a run", host="elsewhere", machine="other", pid=1, started="1")
    holder = replace(holder, **fields)
    store.write(LEASE, holder.content())
    return holder


def test_released_lease_leaves_nothing_and_can_be_acquired_again(place: str) -> None:
    store = Store(place)
    said: list[str] = []
    for _ in range(2):
        with acquire(store, "a test", say=said.append) as lease:
            lease.check()
            assert LEASE in store.list()
        assert store.list() == {}
    assert said == []


def test_lease_is_renewed_and_then_refused_to_others(place: str) -> None:
    store = Store(place)
    holder = of_another(store)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.2):
            of_another(store, renewals=time.monotonic_ns())

    thread = threading.Thread(target=renew)
    thread.start()
    said: list[str] = []
    try:
        with pytest.raises(LeaseError, match=r"a run \(process 1 on elsewhere\) is writing there and renews its lease"):
            acquire(store, "a test", say=said.append)
    finally:
        stop.set()
        thread.join()
    assert "in use by a run (process 1 on elsewhere); waiting up to 2 s" in said[0]
    assert json.loads(store.read(LEASE))["token"] == holder.token


def test_lease_that_is_not_renewed_is_taken_over_after_its_time(place: str) -> None:
    store = Store(place)
    of_another(store)
    said: list[str] = []
    began = time.monotonic()
    with acquire(store, "a test", say=said.append) as lease:
        assert time.monotonic() - began >= 2.0
        lease.check()
        assert len(said) == 2
        of_another(store, token="newer")
        with pytest.raises(LeaseError, match="has taken over"):
            lease.check()
        with pytest.raises(LeaseError, match="has taken over"):
            lease.put(store, Path(__file__), "file")
    assert set(store.list()) == {LEASE}  # the newer one's
    store.delete(LEASE)


def hold(place: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_killed_holder_on_this_machine_is_replaced_at_once_and_a_paused_one_learns_that_it_was(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"{bucket}/place")
    killed = hold(f"{bucket}/place")
    killed.kill()
    killed.wait()
    monkeypatch.setattr(corpus.storage.lease, "SECONDS", 60.0)
    with acquire(store, "a test"):  # would take a minute
        pass
    monkeypatch.setattr(corpus.storage.lease, "SECONDS", 1.0)
    paused = hold(f"{bucket}/place")
    os.kill(paused.pid, signal.SIGSTOP)
    with acquire(store, "a successor") as lease:
        os.kill(paused.pid, signal.SIGCONT)
        output, _ = paused.communicate("\n", timeout=60)
        assert "a successor" in output
        assert "has taken over" in output
        lease.check()


def test_store_that_cannot_keep_a_paused_process_away_is_named() -> None:
    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    said: list[str] = []
    with acquire(Store("forgetful://place/deep"), "a test", say=said.append) as lease:
        assert not lease.conditional
        lease.put(lease._store, Path(__file__), "shards/x")
    assert len(said) == 1
    assert "this store has no conditional requests" in said[0]
    assert lease._store.list() == {"shards/x": Path(__file__).stat().st_size}


def test_of_many_that_come_at_once_one_holds_the_lease(place: str) -> None:
    store = Store(place)
    of_another(store, machine="", token="dead")
    together = threading.Barrier(6)
    held: list[Lease] = []
    refused: list[LeaseError] = []

    def come(number: int) -> None:
        together.wait()
        try:
            held.append(acquire(Store(place), f"number {number}", say=lambda _: None))
        except LeaseError as error:
            refused.append(error)

    # Leases of threads are as those of other machines: none counts as ended.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Holder, "has_ended", property(lambda self: False))
        threads = [threading.Thread(target=come, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(held) == 1
    assert len(refused) == 5
    held[0].check()
    held[0].release()
    assert store.list() == {}


def test_file_of_a_paused_process_does_not_replace_that_of_its_successor(bucket: str, tmp_path: Path) -> None:
    store = Store(f"{bucket}/place")
    (tmp_path / "late").write_text("late")
    (tmp_path / "new").write_text("new")
    with acquire(store, "a test") as lease:
        assert lease.conditional
        store.put(tmp_path / "late", "file", create=True)
        store.put(tmp_path / "late", "file", create=True)  # as after an answer that was lost
        old = store.mark("file")
        lease.put(store, tmp_path / "new", "file")
        assert store.read("file") == b"new"
        with pytest.raises(FileExistsError):
            store.put(tmp_path / "late", "file", create=True)
        store.delete("file", mark=old)
        assert store.read("file") == b"new"
        store.delete("file", mark=store.mark("file"))
        store.delete("file", mark=old)
        assert set(store.list()) == {LEASE}


def test_swap_changes_a_file_only_if_it_is_as_expected(place: str) -> None:
    store = Store(place)
    assert not store.swap("file", b"new", expected=b"old")
    assert store.swap("file", b"old", expected=None)
    assert not store.swap("file", b"new", expected=None)
    assert not store.swap("file", b"new", expected=b"other")
    assert store.read("file") == b"old"
    assert store.swap("file", b"new", expected=b"old")
    assert not store.swap("file", None, expected=b"old")
    assert store.swap("file", None, expected=b"new")
    assert store.list() == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'"' + b"[" * 100_000, b'{"format": "another/1"}'])
def test_file_that_is_no_lease_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    store = Store(str(tmp_path))
    store.write(LEASE, content)
    with pytest.raises(LeaseError, match="is not a lease of this version"):
        acquire(store, "a test")
    assert store.read(LEASE) == content


@pytest.mark.slow
def test_file_that_arrives_damaged_is_sent_again(faults: FaultyProxy, bucket: str, tmp_path: Path) -> None:
    store = Store(f"{bucket}/place")
    expected = {f"file{number}": os.urandom(3000) for number in range(12)}
    with acquire(store, "a test") as lease:
        faults.kinds, faults.only, faults.share = ("corrupt",), "/file", 0.3
        for name, content in expected.items():
            (tmp_path / name).write_bytes(content)
            lease.put(store, tmp_path / name, name)
        faults.share = 0.0
        assert faults.counts["corrupt"] > 2
        assert {name: store.read(name) for name in expected} == expected


def test_process_that_is_paused_in_a_change_of_the_lease_is_an_error_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpus.storage.store.ALONE", 0.1)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # another open file, as of another process
    with pytest.raises(StorageError, match="it is paused or hangs; end it"):
        Store(str(tmp_path), attempts=1).swap("a", b"1", expected=None)
    os.close(handle)
    assert Store(str(tmp_path), attempts=1).swap("a", b"1", expected=None)
