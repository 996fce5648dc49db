"""Memory: how much a build may take, and how its work is cut so that it stays below.

Every step is sized to take at most `STEP_BYTES` beyond what its process takes
for its libraries (`PROCESS_BYTES`), however much data there is: what is larger
is cut into `pieces`. So a cap on the memory of all processes together is a cap
on how many steps are at work at once, and changes neither a step nor a byte of
its result.
"""

import math
import os
from pathlib import Path

from corpus.config import ConfigError

PROCESS_BYTES = 256 * 2**20
"""Taken by a process for its libraries."""
STEP_BYTES = 768 * 2**20
"""Most that a step may take beyond that."""
PIECE_BYTES = 256 * 2**20
"""What `pieces` sizes for: it leaves room for pieces that come out larger than the mean, and for what all steps have,
buffers and batches of rows."""
DEFAULT_SHARE = 0.75
"""Of the machine's memory, or of the container's."""


def pieces(size: int) -> int:
    """Into how many equal pieces (ranges of a hash) a step's data is to be cut.

    Parameters
    ----------
    size
        Bytes in memory that the whole would take at its worst moment: working copies included, so for example rows x
        bytes of a row x arrays of that size that are alive together.

    Returns
    -------
    int
        A power of two, so that a little more data rarely changes it and finished pieces are recognised.
    """
    return 1 << max(0, math.ceil(math.log2(max(size, 1) / PIECE_BYTES)))


def affordable_workers(workers: int, memory: int) -> int:
    """How many of `workers` processes may be at work within `memory` bytes for all processes together.

    Raises
    ------
    corpus.config.ConfigError
        Not even one.
    """
    fit = (memory - PROCESS_BYTES) // (PROCESS_BYTES + STEP_BYTES)
    if fit < 1:
        least = 2 * PROCESS_BYTES + STEP_BYTES
        raise ConfigError(
            f"--memory is {memory / 1e9:.2f} GB; a build with one worker needs {least / 1e9:.2f} GB "
            f"({PROCESS_BYTES / 1e9:.2f} for each of two processes, {STEP_BYTES / 1e9:.2f} for the step at work)"
        )
    return min(workers, fit)


def default_memory() -> int:
    """`DEFAULT_SHARE` of the memory that this process may use, in bytes."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(DEFAULT_SHARE * min([physical, *_cgroup_limits()]))


def _cgroup_limits() -> list[int]:
    """Limits of the control groups (version 1 and 2) that this process is in, from its own up to the root."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        root, name = Path("/sys/fs/cgroup"), "memory.max"
        if controllers:
            root, name = root / "memory", "memory.limit_in_bytes"
            if "memory" not in controllers.split(","):
                continue
        own = root / group.lstrip("/")
        for folder in [own, *own.parents]:
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # no such group as seen from inside a container; "max" is no limit
                continue
    return limits
