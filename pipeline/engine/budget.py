"""Memory: how many steps may run at once, and how their work is cut to bounded sizes.

Every step is sized to take at most `STEP_BYTES` beyond the `PROCESS_BYTES` that its process takes for libraries,
however much data there is: larger work is cut into `pieces`. So a cap on the memory of all processes together only
bounds how many steps run at once, and changes neither a step nor a byte of its result.
"""

import math
import os
from pathlib import Path

from corpus.config import ConfigError

PROCESS_BYTES = 256 * 2**20
"""Memory that a process takes for its libraries."""
STEP_BYTES = 768 * 2**20
"""Most memory that a step may take beyond that."""
PIECE_BYTES = 256 * 2**20
"""Target size of a piece: smaller than `STEP_BYTES`, since pieces may be larger than the mean, and every step has
buffers
and batches of rows besides."""
DEFAULT_SHARE = 0.75
"""Share of the memory of the machine, or of the container, that a build may take."""


def pieces(size: int) -> int:
    """Return the number of equal pieces (ranges of a hash) that some data must be cut into.

    Parameters
    ----------
    size
        Bytes that all of the data would take in memory at its peak: rows x bytes of a row x arrays of that size that
        exist at once.

    Returns
    -------
    int
        A power of two, so that a little more data rarely changes it and finished pieces are recognised.
    """
    return 1 << max(0, math.ceil(math.log2(max(size, 1) / PIECE_BYTES)))


def affordable_workers(workers: int, memory: int) -> int:
    """Return how many of `workers` processes fit into `memory` bytes for all processes together.

    Raises
    ------
    corpus.config.ConfigError
        Not even one does.
    """
    fit = (memory - PROCESS_BYTES) // (PROCESS_BYTES + STEP_BYTES)
    if fit < 1:
        least = 2 * PROCESS_BYTES + STEP_BYTES
        raise ConfigError(
            f"--memory is {memory / 1e9:.2f} GB; a build with one worker needs {least / 1e9:.2f} GB "
            f"({PROCESS_BYTES / 1e9:.2f} for each of two processes, {STEP_BYTES / 1e9:.2f} for a step)"
        )
    return min(workers, fit)


def default_memory() -> int:
    """Return `DEFAULT_SHARE` of the memory that this process may use, in bytes."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(DEFAULT_SHARE * min([physical, *_cgroup_limits()]))


def _cgroup_limits() -> list[int]:
    """Memory limits of the control groups (version 1 and 2) of this process, up to the root."""
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
            except (OSError, ValueError):  # a group that a container does not see; "max" means no limit
                continue
    return limits
