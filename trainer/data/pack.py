"""Packing of whole samples into rows of T tokens, K rows per batch: the second half of the batch plan.

Best-fit-decreasing over the next G = K·T tokens of the order. Samples that do not
fit are packed first in the next batch; remaining gaps are filled with the longest
fitting samples among the next `LOOKAHEAD`. Rows are then assigned to ranks in equal
numbers and with nearly equal work.

The length of a sample is here its number of positions in a row, which is one less than its
tokens: its last token, the end tag, is a target and never an input.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LOOKAHEAD = 1024
"""Number of samples after a batch that may fill its last gaps."""

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


def _low_bit_table() -> NDArray[np.uint8]:
    """Index of a single bit by the upper six bits of its product with a de Bruijn constant."""
    table = np.empty(64, np.uint8)
    for bit in range(64):
        table[(_DE_BRUIJN << bit & (1 << 64) - 1) >> 58] = bit
    return table


_DE_BRUIJN = 0x03F79D71B4CB0A89
_LOW_BIT = _low_bit_table()


@njit(cache=True, nogil=True)
def _next_set(words: U64, start: int) -> int:
    """Lowest set bit at or above `start`, or -1."""
    word = start >> 6
    bits = words[word] & (~np.uint64(0) << np.uint64(start & 63))
    while not bits:
        word += 1
        if word == len(words):
            return -1
        bits = words[word]
    low = bits & (~bits + np.uint64(1))
    return word * 64 + _LOW_BIT[(low * np.uint64(_DE_BRUIJN)) >> np.uint64(58)]


@njit(cache=True, nogil=True)
def _set(words: U64, bit: int) -> None:
    words[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)


@njit(cache=True, nogil=True)
def _clear(words: U64, bit: int) -> None:
    words[bit >> 6] &= ~(np.uint64(1) << np.uint64(bit & 63))


@njit(cache=True, nogil=True)
def positions(samples: NDArray[np.uint32], lengths: NDArray[np.uint16]) -> NDArray[np.int32]:
    """Positions that each sample takes in a row: its tokens but the last one."""
    out = np.empty(len(samples), np.int32)
    for i in range(len(samples)):
        out[i] = np.int32(lengths[samples[i], 0]) + np.int32(lengths[samples[i], 1]) - 1
    return out


@njit(cache=True, nogil=True)
def target_tokens(samples: NDArray[np.uint32], lengths: NDArray[np.uint16], begins: I64) -> I64:
    """Σ response length of samples[begins[b]:begins[b + 1]], for every b."""
    out = np.zeros(len(begins) - 1, np.int64)
    for b in range(len(out)):
        for i in range(begins[b], begins[b + 1]):
            out[b] += lengths[samples[i], 1]
    return out


@njit(cache=True, nogil=True)
def square_sums(samples: NDArray[np.uint32], lengths: NDArray[np.uint16], begins: I64) -> I64:
    """Σ positions² of samples[begins[r]:begins[r + 1]], for every r, which is the cost of attention."""
    out = np.zeros(len(begins) - 1, np.int64)
    for r in range(len(out)):
        for i in range(begins[r], begins[r + 1]):
            length = np.int64(lengths[samples[i], 0]) + np.int64(lengths[samples[i], 1]) - 1
            out[r] += length * length
    return out


@njit(cache=True, nogil=True)
def pack_rows(
    order: NDArray[np.uint32], length: NDArray[np.int32], rows: int, row_tokens: int
) -> tuple[NDArray[np.uint32], I64]:
    """Pack samples into rows.

    Parameters
    ----------
    order, length
        [M] samples in order, and their positions, 1 to T.
    rows, row_tokens
        K and T.

    Returns
    -------
    samples
        [M] samples in row order.
    row_ends
        [batches * K] end of each row in `samples`.
    """
    total = len(order)
    samples = np.empty(total, np.uint32)
    row_ends = np.empty(rows, np.int64)
    used = np.zeros(total, np.bool_)
    left = np.empty(0, np.int64)  # places that earlier batches took and could not fit
    at = 0  # first place that no batch has taken
    out = 0
    batches = 0

    words = (row_tokens >> 6) + 1
    row_free = np.empty(rows, np.int64)
    row_next = np.empty(rows, np.int32)  # rows with equal free space, as linked lists,
    free_head = np.empty(row_tokens + 1, np.int32)  # one list per free space;
    free_bits = np.empty(words, np.uint64)  # bit set of the lists that are not empty
    counts = np.empty(row_tokens + 2, np.int32)
    # Unused places in [at, at + LOOKAHEAD), as a queue per length. Slot T - length, so that longer ones come first.
    ahead_head = np.full(row_tokens + 1, -1, np.int64)
    ahead_tail = np.full(row_tokens + 1, -1, np.int64)
    ahead_next = np.empty(total, np.int64)
    ahead_bits = np.zeros(words, np.uint64)
    entered = 0  # places below have been entered into the queues

    budget = rows * row_tokens
    while at < total or len(left):
        # Take what earlier batches left, then the next of the order, up to G tokens.
        taken = np.empty(len(left) + min(total - at, budget), np.int64)
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
                    if at < entered:  # it is the head of its queue
                        slot = row_tokens - length[at]
                        ahead_head[slot] = ahead_next[at]
                        if ahead_head[slot] < 0:
                            _clear(ahead_bits, slot)
                at += 1
            entered = max(entered, at)
        while entered < min(total, at + LOOKAHEAD):
            slot = row_tokens - length[entered]
            ahead_next[entered] = -1
            if ahead_head[slot] < 0:
                ahead_head[slot] = entered
                _set(ahead_bits, slot)
            else:
                ahead_next[ahead_tail[slot]] = entered
            ahead_tail[slot] = entered
            entered += 1

        # Longest first (stable counting sort), but the oldest before all others, so that none is postponed forever.
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

        # Best fit: the row with the least sufficient free space.
        free_head[:] = -1
        free_bits[:] = 0
        for r in range(rows):
            row_free[r] = row_tokens
            row_next[r] = r - 1
        free_head[row_tokens] = rows - 1
        _set(free_bits, row_tokens)
        placed = np.empty(n + LOOKAHEAD, np.int64)
        placed_row = np.empty(n + LOOKAHEAD, np.int32)
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
                _clear(free_bits, free)
            free_now = free - length[item]
            row_free[r] = free_now
            row_next[r] = free_head[free_now]
            free_head[free_now] = r
            _set(free_bits, free_now)
            placed[p] = item
            placed_row[p] = r
            p += 1
        left = np.concatenate((np.sort(taken[:misfits]), rest))

        # Fill the gaps with the longest fitting samples ahead.
        for r in range(rows):
            while row_free[r] > 0:
                slot = _next_set(ahead_bits, row_tokens - row_free[r])
                if slot < 0:
                    break
                item = ahead_head[slot]
                ahead_head[slot] = ahead_next[item]
                if ahead_head[slot] < 0:
                    _clear(ahead_bits, slot)
                used[item] = True
                placed[p] = item
                placed_row[p] = r
                p += 1
                row_free[r] -= length[item]

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


@njit(cache=True, nogil=True)
def share_rows(work: I64, ranks: int) -> NDArray[np.int32]:
    """Assign rows to ranks, in equal numbers and with nearly equal sums of work.

    Rows are assigned by decreasing work to the rank with the least work that is not full. Then rows of the rank with
    the most work are exchanged for rows of others, while that lowers the larger work of the two ranks.

    Parameters
    ----------
    work
        [K] work of each row.
    ranks
        Number of ranks, a divisor of K.

    Returns
    -------
    ndarray
        int32 [K] rank of each row.
    """
    per_rank = len(work) // ranks
    owner = np.empty(len(work), np.int32)
    load = np.zeros(ranks, np.int64)
    assigned = np.zeros(ranks, np.int64)
    for r in np.argsort(-work, kind="mergesort"):
        best = -1
        for q in range(ranks):
            if assigned[q] < per_rank and (best < 0 or load[q] < load[best]):
                best = q
        owner[r] = best
        load[best] += work[r]
        assigned[best] += 1
    while True:
        heaviest = np.argmax(load)
        best_gain, row, other = np.int64(0), -1, -1
        for a in range(len(work)):
            if owner[a] != heaviest:
                continue
            for b in range(len(work)):
                moved = work[a] - work[b]
                if owner[b] == heaviest or moved <= 0:
                    continue
                # Decrease of the larger work of the two ranks.
                gain = min(moved, load[heaviest] - load[owner[b]] - moved)
                if gain > best_gain:
                    best_gain, row, other = gain, a, b
        if best_gain <= 0:
            return owner
        moved = work[row] - work[other]
        load[heaviest] -= moved
        load[owner[other]] += moved
        owner[row], owner[other] = owner[other], owner[row]
