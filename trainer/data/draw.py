"""Draw of an epoch: its samples and their order, the first half of the batch plan.

A stratum is an endless sequence of passes over its samples, each in a new seeded
order; an epoch takes the next `per_epoch` of it. So draws are without replacement
until the stratum is used up, and caps and repeats hold exactly. A pass is shuffled
in blocks, so that the draw of an epoch is from a contiguous range of shards. No block
reaches over the end of an epoch: the first E epochs of a capped stratum draw its first
E x `per_epoch` samples and no other, so a dataset that has only these gives the same draws.

Draw j of the m draws of a stratum is placed at (j + u)/m of the epoch, with u
random in [0, 1). So each stratum is spread evenly over the epoch, and the draws of
a chunk [c/C, (c + 1)/C) of the epoch are computed from c, without earlier chunks.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from corpus.contract import Stratum

BLOCK = 8192
"""Samples of a stratum that are shuffled together; bounds how many shards are read at a time."""

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class PlanError(Exception):
    """The dataset cannot be packed into rows; the message says which samples are the cause, and the remedy."""


def draw_order(
    strata: Sequence[Stratum], seed: int, epoch: int, *, chunk: int = 0, chunks: int = 1
) -> NDArray[np.uint32]:
    """Draw the samples of a chunk of an epoch, in the order in which they are packed.

    Parameters
    ----------
    strata
        All strata of the dataset.
    seed, epoch
        Determine the order.
    chunk, chunks
        Index of the chunk, and number of equal chunks of an epoch.

    Returns
    -------
    ndarray
        uint32 [m] sample indices; the m of all chunks sum to Σ `per_epoch`.
    """
    drawn = [s for s in strata if s.per_epoch]
    begin = np.array([s.begin for s in drawn], np.int64)
    size = np.array([s.samples for s in drawn], np.int64)
    draws = np.array([s.per_epoch for s in drawn], np.int64)
    first = chunk * draws // chunks
    last = ((chunk + 1) * draws - 1) // chunks
    limit = int((last - first + 1).sum())
    places, samples = np.empty(limit, np.uint32), np.empty(limit, np.uint32)
    count = _draw(begin, size, draws, first, last, seed, epoch, chunk, chunks, places, samples)
    return _by_place(places[:count], samples[:count])


@njit(cache=True, nogil=True)
def _mix(x: np.uint64) -> np.uint64:
    """One step of SplitMix64: a 64-bit hash of `x`."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _bits(size: int) -> int:
    """Width of the numbers that `_permuted` mixes for [0, size), in bits: at least 8, because fewer mix badly."""
    bits = 8
    while (1 << bits) < size:
        bits += 1
    return bits


@njit(cache=True, nogil=True)
def _permuted(index: int, size: int, bits: int, keys: U64) -> np.int64:
    """Image of `index` under a pseudorandom permutation of [0, size) with four `keys`, without tabulating it.

    Invertible steps on numbers of `bits` bits, repeated until the image is below `size` (cycle walking).
    """
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64(bits // 2 + 1)
    x = np.uint64(index)
    while True:
        for k in keys:
            x = (x + k) & mask
            x = (x * (k | np.uint64(1))) & mask
            x = x ^ (x >> shift)
        if x < np.uint64(size):
            return np.int64(x)


@njit(cache=True, nogil=True)
def _draw(
    begin: I64, size: I64, draws: I64, firsts: I64, lasts: I64, seed: int, epoch: int, chunk: int, chunks: int,
    places: NDArray[np.uint32], samples: NDArray[np.uint32],
) -> int:  # fmt: skip
    """Write the draws of every stratum in one chunk, and their 32-bit places in it; returns their number.

    Of stratum s these are draws firsts[s] to lasts[s], except the first and the last one if they are in another chunk.
    """
    count = 0
    keys = np.empty(4, np.uint64)
    for s in range(len(begin)):
        m = draws[s]
        first, last = firsts[s], lasts[s]
        scale = chunks / m
        stratum_seed = _mix(np.uint64(seed) ^ _mix(np.uint64(s)))
        epoch_seed = _mix(stratum_seed ^ np.uint64(epoch + 1))
        j = first
        while j <= last:
            # Draws up to the end of the shuffled block.
            position = epoch * m + j
            pass_number = position // size[s]
            pass_begin = pass_number * size[s]
            inside = position - pass_begin
            block = inside // BLOCK
            # A block that the begin or end of the epoch divides is two.
            block_begin = max(block * BLOCK, epoch * m - pass_begin)
            block_end = min(min((block + 1) * BLOCK, size[s]), (epoch + 1) * m - pass_begin)
            block_size = block_end - block_begin
            until = min(last + 1, j + block_end - inside)
            bits = _bits(block_size)
            key = _mix(_mix(stratum_seed + np.uint64(pass_number)) + np.uint64(block))
            if block_begin > block * BLOCK:
                key = _mix(key + np.uint64(block_begin))
            for k in range(4):
                key = _mix(key)
                keys[k] = key
            offset = inside - block_begin - j
            while j < until:
                u = np.float64(_mix(epoch_seed + np.uint64(j)) >> np.uint64(11)) * 2.0**-53
                place = (j + u) * scale - chunk
                # Exact bounds of the place of draw j, so that rounding puts it neither in two chunks nor in none.
                before = place < 0 and j * chunks // m < chunk
                after = place >= 1 and ((j + 1) * chunks - 1) // m > chunk
                if not before and not after:
                    places[count] = np.uint32(min(max(place * 2.0**32, 0.0), 2.0**32 - 1))
                    samples[count] = begin[s] + block_begin + _permuted(j + offset, block_size, bits, keys)
                    count += 1
                j += 1
    return count


@njit(cache=True, nogil=True)
def _by_place(places: NDArray[np.uint32], samples: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Sort samples by place, stably: bucket sort with as many buckets as samples, then insertion sort."""
    n = np.uint64(len(places))
    ends = np.zeros(len(places) + 1, np.int64)
    for place in places:
        ends[((place * n) >> np.uint64(32)) + 1] += 1
    for b in range(len(places)):
        ends[b + 1] += ends[b]
    ranked = np.empty(len(places), np.uint32)
    order = np.empty(len(places), np.uint32)
    for i in range(len(places)):
        place = places[i]
        bucket = (place * n) >> np.uint64(32)
        order[ends[bucket]] = samples[i]
        ranked[ends[bucket]] = place
        ends[bucket] += 1
    for i in range(1, len(places)):
        place, sample = ranked[i], order[i]
        j = i - 1
        while j >= 0 and ranked[j] > place:
            ranked[j + 1], order[j + 1] = ranked[j], order[j]
            j -= 1
        ranked[j + 1], order[j + 1] = place, sample
    return order
