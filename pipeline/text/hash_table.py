"""Open addressing with linear probing: hash tables and sets of uint64 keys, for kernels.

A table is an array of 2^k slots, at least one of them empty. An empty slot holds 0, so 0 is not a key.
"""

from typing import Any

import numba
import numpy as np

from pipeline.text.hashing import U64
from pipeline.text.options import INNER_KERNEL


@numba.njit(cache=True, nogil=True)
def slots_for(least: int) -> int:
    """Size of a table: the smallest power of two that is at least `least`."""
    slots = 1
    while slots < least:
        slots *= 2
    return slots


@numba.njit(**INNER_KERNEL)
def slot_of(table: U64, key: np.uint64, start: np.uint64) -> Any:
    """Slot that holds `key`, or the empty slot where it belongs; probing begins at slot `start` modulo the size."""
    mask = np.uint64(len(table) - 1)
    slot = start & mask
    while table[slot] != 0 and table[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot
