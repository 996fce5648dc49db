"""Whole samples into rows of T tokens, K rows a batch: the second half of the batch plan.

Best-fit-decreasing over the next ~G = K·T tokens of the order; a sample that
does not fit opens the next batch; remaining holes are filled with the longest
fitting samples a little ahead in the order.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LOOKAHEAD = 1024
"""How many samples ahead of a batch may fill its last holes."""

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@njit(cache=True)
def _next_set(words: U64, start: int) -> int:
    """The lowest set bit at or above `start`, or -1."""
    word = start >> 6
    bits = words[word] & (~np.uint64(0) << np.uint64(start & 63))
    while True:
        if bits:
            low = bits & (~bits + np.uint64(1))
            place = 0
            while low > np.uint64(0xFF):
                low >>= np.uint64(8)
                place += 8
            while low > np.uint64(1):
                low >>= np.uint64(1)
                place += 1
            return word * 64 + place
        word += 1
        if word == len(words):
            return -1
        bits = words[word]


@njit(cache=True)
def _previous_set(words: U64, start: int) -> int:
    """The highest set bit at or below `start`, or -1."""
    word = start >> 6
    bits = words[word] & (~np.uint64(0) >> np.uint64(63 - (start & 63)))
    while True:
        if bits:
            place = 0
            while bits > np.uint64(0xFF):
                bits >>= np.uint64(8)
                place += 8
            while bits > np.uint64(1):
                bits >>= np.uint64(1)
                place += 1
            return word * 64 + place
        word -= 1
        if word < 0:
            return -1
        bits = words[word]


@njit(cache=True)
def total_lengths(samples: NDArray[np.uint32], lengths: NDArray[np.uint16]) -> NDArray[np.int32]:
    """Prefix plus response length of each of `samples`."""
    out = np.empty(len(samples), np.int32)
    for i in range(len(samples)):
        out[i] = np.int32(lengths[samples[i], 0]) + np.int32(lengths[samples[i], 1])
    return out


@njit(cache=True)
def target_tokens(samples: NDArray[np.uint32], lengths: NDArray[np.uint16], begins: I64) -> I64:
    """Σ response length of samples[begins[b]:begins[b + 1]], for every b."""
    out = np.zeros(len(begins) - 1, np.int64)
    for b in range(len(out)):
        for i in range(begins[b], begins[b + 1]):
            out[b] += lengths[samples[i], 1]
    return out


@njit(cache=True)
def pack_rows(
    order: NDArray[np.uint32], length: NDArray[np.int32], rows: int, row_tokens: int
) -> tuple[NDArray[np.uint32], I64]:
    """Pack the order of an epoch into rows.

    Parameters
    ----------
    order, length
        [M] samples in order, and the length of each, in tokens.
    rows, row_tokens
        K and T.

    Returns
    -------
    samples
        [M] samples in row order.
    row_ends
        [batches * K] where each row ends in `samples`.
    """
    total = len(order)
    samples = np.empty(total, np.uint32)
    row_ends = np.empty(rows, np.int64)
    used = np.zeros(total, np.bool_)
    left = np.empty(0, np.int64)  # places in the order that earlier batches took up and could not hold
    at = 0  # place in the order that no batch has taken up
    out = 0
    batches = 0

    words = (row_tokens >> 6) + 1
    row_free = np.empty(rows, np.int64)
    row_next = np.empty(rows, np.int64)  # rows with equal free space, as linked lists …
    free_head = np.empty(row_tokens + 1, np.int64)  # … one list per free space …
    free_bits = np.empty(words, np.uint64)  # … and which of the lists hold a row
    ahead_head = np.empty(row_tokens + 1, np.int64)
    ahead_tail = np.empty(row_tokens + 1, np.int64)
    ahead_next = np.empty(LOOKAHEAD, np.int64)
    ahead_bits = np.empty(words, np.uint64)
    counts = np.empty(row_tokens + 2, np.int64)

    while at < total or len(left):
        # Take up: what earlier batches left, then the order, up to G tokens.
        budget = rows * row_tokens
        room = len(left) + min(total - at, budget)
        taken = np.empty(room, np.int64)
        n = 0
        tokens = 0
        kept = 0
        for i in range(len(left)):
            if n and tokens + length[left[i]] > budget:
                break
            taken[n] = left[i]
            tokens += length[left[i]]
            n += 1
            kept += 1
        rest = left[kept:]
        if not len(rest):
            while at < total:
                if not used[at]:
                    if n and tokens + length[at] > budget:
                        break
                    taken[n] = at
                    tokens += length[at]
                    n += 1
                at += 1

        # Longest first (stable counting sort), but the oldest before all, so that nothing waits for ever.
        counts[:] = 0
        for i in range(1, n):
            counts[row_tokens - length[taken[i]] + 1] += 1
        for i in range(row_tokens + 1):
            counts[i + 1] += counts[i]
        ranked = np.empty(n, np.int64)
        ranked[0] = taken[0]
        for i in range(1, n):
            slot = row_tokens - length[taken[i]]
            ranked[1 + counts[slot]] = taken[i]
            counts[slot] += 1

        # Best fit: the row with the least free space that is enough.
        free_head[:] = -1
        free_bits[:] = 0
        for r in range(rows):
            row_free[r] = row_tokens
            row_next[r] = r - 1
        free_head[row_tokens] = rows - 1
        free_bits[row_tokens >> 6] |= np.uint64(1) << np.uint64(row_tokens & 63)
        placed = np.empty(n + LOOKAHEAD, np.int64)
        placed_row = np.empty(n + LOOKAHEAD, np.int64)
        p = 0
        misfits = 0
        for i in range(n):
            item = ranked[i]
            free = _next_set(free_bits, length[item])
            if free < 0:
                taken[misfits] = item
                misfits += 1
                continue
            r = free_head[free]
            free_head[free] = row_next[r]
            if free_head[free] < 0:
                free_bits[free >> 6] &= ~(np.uint64(1) << np.uint64(free & 63))
            now = free - length[item]
            row_free[r] = now
            row_next[r] = free_head[now]
            free_head[now] = r
            free_bits[now >> 6] |= np.uint64(1) << np.uint64(now & 63)
            placed[p] = item
            placed_row[p] = r
            p += 1
        left = np.concatenate((np.sort(taken[:misfits]), rest))

        # Fill the holes with the longest samples ahead that fit.
        ahead_head[:] = -1
        ahead_bits[:] = 0
        for i in range(min(LOOKAHEAD, total - at)):
            if used[at + i]:
                continue
            size = length[at + i]
            ahead_next[i] = -1
            if ahead_head[size] < 0:
                ahead_head[size] = i
                ahead_bits[size >> 6] |= np.uint64(1) << np.uint64(size & 63)
            else:
                ahead_next[ahead_tail[size]] = i
            ahead_tail[size] = i
        for r in range(rows):
            while row_free[r] > 0:
                size = _previous_set(ahead_bits, row_free[r])
                if size < 0:
                    break
                i = ahead_head[size]
                ahead_head[size] = ahead_next[i]
                if ahead_head[size] < 0:
                    ahead_bits[size >> 6] &= ~(np.uint64(1) << np.uint64(size & 63))
                used[at + i] = True
                placed[p] = at + i
                placed_row[p] = r
                p += 1
                row_free[r] -= size

        # Write the batch row by row.
        if (batches + 1) * rows > len(row_ends):
            row_ends = np.concatenate((row_ends, np.empty_like(row_ends)))
        starts = np.zeros(rows + 1, np.int64)
        for i in range(p):
            starts[placed_row[i] + 1] += 1
        for r in range(rows):
            starts[r + 1] += starts[r]
            row_ends[batches * rows + r] = out + starts[r + 1]
        for i in range(p):
            samples[out + starts[placed_row[i]]] = order[placed[i]]
            starts[placed_row[i]] += 1
        out += p
        batches += 1
    return samples, row_ends[: batches * rows]
