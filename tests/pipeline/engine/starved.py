"""Builds with too little of one thing after another, on a disk of this process alone.

    unshare -rm python -m tests.pipeline.engine.starved MANIFEST DISK SIZE RESULTS

The folder RESULTS gets what each build printed, `codes.json` by setting, and the dataset of the last one, which has
enough of everything but a clock that runs backwards.
"""

import ctypes
import errno
import json
import os
import resource
import shutil
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path

from corpus.contract import COMMIT
from pipeline.build import main as build

REMOUNT, READ_ONLY = 32, 1
ENOUGH = "size=400m,nr_inodes=9999"
SETTINGS = ("inodes", "files", "file size", "read-only", "shared memory", "clock")


def mount(place: Path | str, options: str, flags: int = 0) -> None:
    """Mount or change a disk in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    while libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", flags, options.encode()):
        if ctypes.get_errno() != errno.EBUSY:  # workers of the build before end a moment later
            raise OSError(ctypes.get_errno(), f"{place}: {options}")
        time.sleep(0.05)


def starve(setting: str, disk: Path) -> None:
    """Take away what the setting names."""
    if setting.startswith("size="):
        mount(disk, setting, REMOUNT)
    elif setting == "inodes":
        state = os.statvfs(disk)
        mount(disk, f"size=400m,nr_inodes={state.f_files - state.f_ffree + 20}", REMOUNT)
    elif setting == "read-only":
        mount(disk, ENOUGH, REMOUNT | READ_ONLY)
    elif setting == "files":
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    elif setting == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    elif setting == "shared memory":
        mount("/dev/shm", "size=4k,nr_inodes=2")
    elif setting == "clock":
        hours = count()
        vars(time).update(time=lambda: 1e9 - 3600 * next(hours), time_ns=lambda: 10**18 - 3600 * 10**9 * next(hours))


def main() -> None:
    """Entry point."""
    manifest, place, size, results = sys.argv[1:]
    disk, codes = Path(place), {}
    mount(disk, "size=1m,nr_inodes=9999")
    limits = {limit: resource.getrlimit(limit) for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)}
    for setting in (f"size={size}", *SETTINGS):
        starve(setting, disk)
        with open(Path(results, f"{setting}.said"), "w") as said, redirect_stdout(said), redirect_stderr(said):
            codes[setting] = build([manifest, "--out", str(disk / "out"), "--workers", "1"])
        assert (disk / "out" / COMMIT).exists() == (codes[setting] == 0), "half a dataset is published"
        for limit, before in limits.items():
            resource.setrlimit(limit, before)
        if setting == "shared memory":
            ctypes.CDLL(None).umount2(b"/dev/shm", 2)
        mount(disk, ENOUGH, REMOUNT)
    shutil.copytree(disk / "out", Path(results, "out"))
    Path(results, "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
