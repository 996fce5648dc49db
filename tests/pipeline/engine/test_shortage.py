"""A build that runs out of disk or memory reports it, keeps finished work, and continues when there is more."""

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest

from corpus.config import ConfigError
from corpus.discover import SourceFile
from pipeline.build import main
from pipeline.engine.budget import PIECE_BYTES, affordable_workers, pieces
from pipeline.engine.local import LocalExecutor
from pipeline.engine.progress import Display
from pipeline.engine.step import BuildError, Step
from pipeline.ingest.inputs import disk_warning
from tests.pipeline.conftest import REPOSITORY, contents, start

pytestmark = pytest.mark.slow  # builds datasets


def can_mount() -> bool:
    """Whether this process may mount a small disk for itself."""
    trial = 'mount -t tmpfs tmpfs "$(mktemp -d)"'
    return shutil.which("unshare") is not None and subprocess.call(["unshare", "-rm", "sh", "-c", trial]) == 0


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a disk in a namespace")
def test_build_short_of_anything_says_so_in_a_line_and_goes_on_when_there_is_enough(
    mix: Path, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    used = {path.stat().st_ino: 512 * path.stat().st_blocks for path in dataset.rglob("*")}
    size = f"size={sum(used.values()) * 4 // 10}"
    full = "error: .*: no space is left on the disk of .*/out/.work "
    expected = {
        size: full,
        "inodes": full,
        "files": r"error: .*: too many files are open: raise the limit \(`ulimit -n`\)",
        "file size": "error: .*: no space is left on the disk of .* the limit of a file's size",
        "read-only": "error: .*/disk/out: the disk can only be read: name a folder on another one",
        "shared memory": r"error: /dev/shm: the locks of worker processes cannot be made there \(No space left",
    }
    program = [sys.executable, "-m", "tests.pipeline.engine.starved"]
    arguments = [str(mix), str(tmp_path / "disk"), size.removeprefix("size="), str(tmp_path)]
    subprocess.run(["unshare", "-rm", *program, *arguments], cwd=REPOSITORY, check=True)
    codes = json.loads((tmp_path / "codes.json").read_text())
    assert codes == {**dict.fromkeys(expected, 1), "clock": 0}
    for setting, message in expected.items():
        said = (tmp_path / f"{setting}.said").read_text()
        (line,) = [line for line in said.splitlines() if "error: " in line]
        assert re.match(message, line), line
        assert "the same command continues" in line
        assert "Traceback" not in said
    assert "from an earlier run" in (tmp_path / "inodes.said").read_text()
    assert contents(tmp_path / "out") == contents(dataset)


def test_inputs_that_seem_too_large_for_the_disk_are_a_warning_with_numbers(tmp_path: Path) -> None:
    plain, packed = (
        SourceFile(source="s", path=name, url=name, bytes=size, format=kind)
        for name, size, kind in (("a.jsonl", 10**15, "jsonl"), ("b.parquet", 10**15, "parquet"))
    )
    warning = disk_warning([plain, packed], tmp_path)
    assert warning is not None
    assert "4000000.0 GB of text" in warning
    assert f"GB more in {tmp_path}" in warning
    assert disk_warning([], tmp_path) is None


def test_memory_too_small_for_one_step_is_refused_before_work_starts(
    mix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(mix), "--out", str(tmp_path / "out"), "--memory", "800MB"]) == 2
    assert "a build with one worker needs 1.34 GB" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_memory_decides_how_many_work_at_once() -> None:
    assert [affordable_workers(64, size * 10**9) for size in (2, 3, 8, 200)] == [1, 2, 7, 64]
    with pytest.raises(ConfigError, match=r"--memory is 1\.00 GB"):
        affordable_workers(1, 10**9)
    for size in (0, 1, PIECE_BYTES, PIECE_BYTES + 1, 10**12):
        count = pieces(size)
        assert size <= count * PIECE_BYTES
        assert count == 1 or size > count * PIECE_BYTES / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated:
    """Result of `Allocate`."""

    sum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocate(Step[Allocated]):
    """A step that takes some memory, in a process that may have hardly more than it has."""

    stage: ClassVar[str] = "allocate"

    size: int

    @property
    def partition(self) -> str:
        return f"{self.size} bytes"

    def run(self, work: Path, out: Path) -> Allocated:
        limit = psutil.Process().memory_info().vms + 2**27
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return Allocated(sum=int(np.ones(self.size, np.uint8).sum()))


@pytest.mark.skipif(sys.platform != "linux", reason="a process's address space is limited only on Linux")
def test_step_without_memory_is_a_clear_error_that_keeps_finished_work(tmp_path: Path) -> None:
    with LocalExecutor(tmp_path, 1, Display()) as executor:
        assert executor.map([Allocate(size=1000)]) == [Allocated(sum=1000)]
        with pytest.raises(BuildError, match=r"stage allocate, 1073741824 bytes: no memory is left.*fewer --workers"):
            executor.map([Allocate(size=2**30)])
        assert executor.map([Allocate(size=1000)]) == [Allocated(sum=1000)]


def test_worker_that_the_system_kills_is_a_clear_error_and_the_build_goes_on(
    mix: Path, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(mix, out, "--workers", "1")
    while not any((out / ".work/ingest").glob("*/result.json")):
        assert process.poll() is None
        time.sleep(0.01)
    for child in psutil.Process(process.pid).children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: stage" in said
    assert "ran out of memory" in said
    assert "Traceback" not in said
    again = start(mix, out, "--workers", "2")
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert "from an earlier run" in said
    assert contents(out) == contents(dataset)
