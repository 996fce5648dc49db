"""Which rank holds the others up: how long each computes by itself, compared now and then.

    begin ─▶ forward, backward ─▶ end        between them no rank waits for another (under ddp)
    every `EVERY` steps: the mean of each rank, gathered ─▶ the slowest, beside the median

Ranks that train together take the same time for a step, since the fast ones wait in the sum of the gradients; only
what comes before it tells them apart: the wait for data and the pass. Under fsdp2 ranks wait for each other inside the
pass too, and what is left to see is the wait for data and what differs between two gathers.
"""

import statistics
import time

import torch

from trainer.distributed.world import World

EVERY = 50
"""Steps between two comparisons; each is one small message per rank."""
MUCH = 1.25
"""Times the median from which a rank is said to lag."""


class Lag:
    """The time that this rank and the others need for themselves.

    Parameters
    ----------
    world
        The ranks. On CUDA the pass is timed by events on the device, without waiting for it.
    """

    def __init__(self, world: World):
        self._world = world
        self._cuda = world.device.type == "cuda"
        self._seconds = 0.0
        self._steps = 0
        if self._cuda:
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))

    def begin(self) -> None:
        """The pass begins."""
        if self._cuda:
            self._events[0].record()
        self._began = time.perf_counter()

    def end(self) -> None:
        """The pass is over; the sum over ranks comes next."""
        if self._cuda:
            self._events[1].record()
        self._ended = time.perf_counter()

    def compare(self, step: int, waited: float) -> dict[str, float | int]:
        """The slowest rank, when it is time to compare; to be called after each step, when the device is done with it.

        Parameters
        ----------
        step
            Steps of the run so far.
        waited
            Seconds that this rank waited for the step's data.

        Returns
        -------
        dict
            Empty between comparisons and in a run of one rank, else `slowest_rank`, `slowest_seconds` (of its own work
            per step) and `median_seconds`.
        """
        if self._world.size == 1:
            return {}
        own = self._events[0].elapsed_time(self._events[1]) / 1e3 if self._cuda else self._ended - self._began
        self._seconds += waited + own
        self._steps += 1
        if step % EVERY:
            return {}
        means = self._world.gather(self._seconds / self._steps)
        self._seconds, self._steps = 0.0, 0
        slowest = max(range(len(means)), key=means.__getitem__)
        return {
            "slowest_rank": slowest,
            "slowest_seconds": means[slowest],
            "median_seconds": statistics.median_low(means),
        }


def warning(compared: dict[str, float | int]) -> str | None:
    """One sentence about a rank that lags; None where none does."""
    if not compared or compared["slowest_seconds"] < MUCH * compared["median_seconds"]:
        return None
    return (
        f"rank {compared['slowest_rank']} lags: {compared['slowest_seconds']:.3f} s of its own work a step, the median "
        f"of the ranks is {compared['median_seconds']:.3f} s; the others wait for it"
    )
