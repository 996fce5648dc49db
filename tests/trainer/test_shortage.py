"""A run that is short of disk, inodes or open files says so in a line, and continues when there is more."""

import ctypes
import json
import os
import resource
import shutil
from pathlib import Path

import pytest

from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import CONTEXT, determined, log_of, run

pytestmark = pytest.mark.slow  # trains models

NOT_PERMITTED = 77
_NEW_MOUNTS, _NEW_USER, _REMOUNT, _READ_ONLY = 0x00020000, 0x10000000, 32, 1
SHORT = ("size=8k", "size=600k", "inodes", "files", "read-only", "enough")
"""Settings of the disk from one start of the run to the next; the last one is enough."""


def _starved(manifest: str, disk: str, out: str, log: str) -> None:
    """Start a run once for each setting, on a disk of this process alone; copy what is on it at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_MOUNTS):
        os._exit(NOT_PERMITTED)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    if libc.mount(b"tmpfs", disk.encode(), b"tmpfs", 0, SHORT[0].encode()):
        os._exit(NOT_PERMITTED)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from trainer.train import main

    codes = []
    for setting in SHORT:
        flags, options = _REMOUNT | (_READ_ONLY if setting == "read-only" else 0), "size=90m,nr_inodes=9999"
        if setting.startswith("size"):
            options = setting
        if setting == "inodes":
            state = os.statvfs(disk)
            options = f"size=90m,nr_inodes={state.f_files - state.f_ffree + 3}"
        if libc.mount(b"tmpfs", disk.encode(), b"tmpfs", flags, options.encode()):
            raise OSError(ctypes.get_errno(), f"{setting}: {options}")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if setting == "files":
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, before[1]))
        os.write(1, f"\n=== {setting}\n".encode())
        codes.append(main([manifest]))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    shutil.copytree(Path(disk) / "run", out)
    Path(out, "codes.json").write_text(json.dumps(codes))


def test_run_short_of_disk_inodes_or_files_says_so_and_continues_as_if_undisturbed(data: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    changes = {"epochs": None, "steps": 12, "out": str(disk / "run")}
    manifest = write_manifest(tmp_path, data, **changes)
    out, log = tmp_path / "out", tmp_path / "starved.log"
    process = CONTEXT.Process(target=_starved, args=(str(manifest), str(disk), str(out), str(log)))
    process.start()
    process.join(200)
    if process.exitcode == NOT_PERMITTED:
        pytest.skip("needs the right to mount a disk in a namespace")
    said = log.read_text()
    assert process.exitcode == 0, said
    assert "Traceback" not in said
    codes = json.loads((out / "codes.json").read_text())
    parts = said.split("\n=== ")[1:]
    for setting, code, part in zip(SHORT, codes, parts, strict=True):
        errors = [line for line in part.splitlines() if "error: " in line]
        if setting == SHORT[-1]:
            assert (code, errors) == (0, []), part
        else:
            assert code == 1, part
            assert len(errors) == 1, part
            assert "the same command continues" in errors[0], part
    assert run(manifest, f"out={tmp_path / 'whole'}") == 0, log_of(manifest).read_text()
    assert determined(out) == determined(tmp_path / "whole")
