"""Which samples an epoch draws, and in which order: the first half of the batch plan.

A stratum is an endless sequence of passes over its samples, each pass in a new
seeded order; an epoch takes the next `per_epoch` of it. So draws are without
replacement until the stratum is used up, and caps and repeats hold exactly.
The order inside a pass is shuffled in blocks, so that an epoch's draw stays a
contiguous range of shards. Strata are interleaved so that each is spread
evenly over the epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 8192
"""Samples of a stratum that are shuffled among each other; bounds how many shards an epoch's draw touches."""
WINDOW = 1 << 18
"""Samples that are interleaved at a time; bounds memory."""

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class PlanError(Exception):
    """The dataset cannot be packed as asked; the message says how many samples are the cause, and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Samples [begin, end) of the dataset that are drawn as one group."""

    source: str
    task: str
    begin: int
    end: int
    max_per_epoch: int | None
    repeat: int

    @property
    def samples(self) -> int:
        """How many samples the stratum has."""
        return self.end - self.begin

    @property
    def per_epoch(self) -> int:
        """How many draws an epoch makes: every sample `repeat` times, at most `max_per_epoch`."""
        wanted = self.samples * self.repeat
        return wanted if self.max_per_epoch is None else min(wanted, self.max_per_epoch)


@njit(cache=True)
def _mix(x: np.uint64) -> np.uint64:
    """One step of splitmix64: a well mixed 64-bit function of `x`."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def _permuted(index: int, size: int, key: np.uint64) -> np.int64:
    """Where a keyed permutation of [0, size) sends `index`, without making the permutation.

    Invertible steps on the next power of two (at least 256, below which they mix too little), walked until the image
    is below `size`.
    """
    bits = 8
    while (1 << bits) < size:
        bits += 1
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64(bits // 2 + 1)
    x = np.uint64(index)
    while True:
        k = key
        for _ in range(4):
            k = _mix(k)
            x = (x + k) & mask
            x = (x * (k | np.uint64(1))) & mask
            x = x ^ (x >> shift)
        if x < np.uint64(size):
            return np.int64(x)


@njit(cache=True)
def _draw_window(
    begin: I64, size: I64, draws: I64, phase: NDArray[np.float64], seed: int, epoch: int, window: int, windows: int,
    keys: U64, samples: NDArray[np.uint32],
) -> int:  # fmt: skip
    """Draws of every stratum that belong to one window of the epoch, as sort keys and samples; returns how many.

    Stratum s gives its draws j in [⌊w·m/W + φ⌋, ⌊(w+1)·m/W + φ⌋); draw j stands at (j + u_j)/m of the epoch, u_j in
    [0, 1). A key is that place in 44 bits, and the number in the window in 20 bits so that keys differ.
    """
    count = 0
    for s in range(len(begin)):
        m = draws[s]
        first = np.int64(np.floor(window * m / windows + phase[s]))
        last = np.int64(np.floor((window + 1) * m / windows + phase[s]))
        if window == windows - 1:
            last = m
        stratum_seed = _mix(np.uint64(seed) ^ _mix(np.uint64(s)))
        epoch_seed = _mix(stratum_seed ^ np.uint64(epoch + 1))
        for j in range(first, last):
            position = epoch * m + j
            turn = position // size[s]
            inside = position - turn * size[s]
            block = inside // BLOCK
            block_size = min(np.int64(BLOCK), size[s] - block * BLOCK)
            block_seed = _mix(_mix(stratum_seed + np.uint64(turn)) + np.uint64(block))
            samples[count] = begin[s] + block * BLOCK + _permuted(inside - block * BLOCK, block_size, block_seed)
            jitter = np.float64(_mix(epoch_seed + np.uint64(j)) >> np.uint64(11)) * 2.0**-53
            place = np.uint64((j + jitter) / m * 2.0**43)
            keys[count] = (place << np.uint64(20)) | np.uint64(count)
            count += 1
    return count


def draw_order(strata: Sequence[Stratum], seed: int, epoch: int) -> NDArray[np.uint32]:
    """The samples of an epoch in the order they are packed in: uint32 [M], M = Σ `per_epoch`."""
    drawn = [s for s in strata if s.per_epoch]
    begin = np.array([s.begin for s in drawn], np.int64)
    size = np.array([s.samples for s in drawn], np.int64)
    draws = np.array([s.per_epoch for s in drawn], np.int64)
    total = int(draws.sum())
    windows = max(1, -(-total // WINDOW))
    phase = np.random.default_rng([seed, epoch, 0x9A5E]).random(len(drawn))
    # A stratum adds at most one draw to a window beyond its share.
    keys = np.empty(min(total, WINDOW + len(drawn) + 1), np.uint64)
    samples = np.empty(len(keys), np.uint32)
    if len(keys) > 1 << 20:
        raise PlanError(f"the dataset has {len(drawn):,} strata; a plan is made for at most {(1 << 20) - WINDOW:,}")
    order = np.empty(total, np.uint32)
    at = 0
    for window in range(windows):
        count = _draw_window(begin, size, draws, phase, seed, epoch, window, windows, keys, samples)
        ranked = np.sort(keys[:count]) & np.uint64((1 << 20) - 1)
        order[at : at + count] = samples[:count][ranked.astype(np.int64)]
        at += count
    return order
