"""Detection of stragglers: ranks that compute slower than the others and make them wait.

    compute_started ─▶ forward, backward ─▶ compute_ended      no rank waits for another in between (under ddp)
    every `INTERVAL` steps: mean time of each rank ─ all-gather ─▶ slowest rank, compared with the median

All ranks take the same time for a whole step, since fast ranks wait in the sum of the gradients. What differs is the
time before it: waiting for data, and forward and backward pass. Under fsdp2 ranks also wait for each other inside the
pass, so only the wait for data and the time between two gathers can differ.
"""

import statistics
import time

import torch

from trainer.distributed.world import World

INTERVAL = 50
"""Steps between two comparisons; each takes one small message per rank."""
STRAGGLER_RATIO = 1.25
"""A rank is reported if it takes at least this many times the median."""


class StragglerMonitor:
    """Timer of this rank's own work, compared with the other ranks' every `INTERVAL` steps.

    Parameters
    ----------
    world
        The ranks. On CUDA the pass is timed by events on the device, without synchronizing.
    """

    def __init__(self, world: World):
        self._world = world
        self._cuda = world.device.type == "cuda"
        self._seconds = 0.0
        self._steps = 0
        if self._cuda:
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))

    def compute_started(self) -> None:
        """Mark the start of forward and backward pass."""
        if self._cuda:
            self._events[0].record()
        self._began = time.perf_counter()

    def compute_ended(self) -> None:
        """Mark the end of the backward pass, before gradients are summed over ranks."""
        if self._cuda:
            self._events[1].record()
        self._ended = time.perf_counter()

    def compare(self, step: int, waited: float) -> dict[str, float | int]:
        """Compare the ranks if an interval has ended; called after each step, when the device has finished it.

        Parameters
        ----------
        step
            Steps of the run so far.
        waited
            Seconds that this rank waited for the step's data.

        Returns
        -------
        dict
            `slowest_rank`, `slowest_seconds` (of its own work per step) and `median_seconds`; empty between comparisons
            and in a run of one rank.
        """
        if self._world.size == 1:
            return {}
        own = self._events[0].elapsed_time(self._events[1]) / 1e3 if self._cuda else self._ended - self._began
        self._seconds += waited + own
        self._steps += 1
        if step % INTERVAL:
            return {}
        means = self._world.all_gather(self._seconds / self._steps)
        self._seconds, self._steps = 0.0, 0
        slowest = max(range(len(means)), key=means.__getitem__)
        return {
            "slowest_rank": slowest,
            "slowest_seconds": means[slowest],
            "median_seconds": statistics.median_low(means),
        }


def straggler_warning(compared: dict[str, float | int]) -> str | None:
    """Message about the slowest rank of a comparison if it is a straggler, else None."""
    if not compared or compared["slowest_seconds"] < STRAGGLER_RATIO * compared["median_seconds"]:
        return None
    return (
        f"rank {compared['slowest_rank']} is a straggler: {compared['slowest_seconds']:.3f} s of own work per step, "
        f"the median of the ranks is {compared['median_seconds']:.3f} s; the others wait for it"
    )
