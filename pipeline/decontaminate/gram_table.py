"""The hash table from n-grams to entries, with a sieve in front of it that settles most lookups by two bits."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text.hash_table import slot_of, slots_for
from pipeline.text.hashing import U64
from pipeline.text.options import INNER_KERNEL, KERNEL

_SLOTS, _SIEVE_BITS = 2, 16
"""Least number of slots of the table, and of bits of the sieve, for each n-gram."""
_LEAST_SLOTS = 1024


@numba.njit(**INNER_KERNEL)
def gram_slot(table: U64, key: np.uint64) -> Any:
    """Slot of an n-gram, or the empty slot where it belongs."""
    return slot_of(table, key, key >> np.uint64(20))


def build_gram_table(grams: U64) -> tuple[U64, NDArray[np.int32], NDArray[np.int32], U64]:
    """Table of entries.

    Parameters
    ----------
    grams
        uint64 (e,), sorted, none 0: n-gram of each entry.

    Returns
    -------
    table, first
        n-gram and first entry of each slot.
    following
        (e,): the next entry of the same n-gram, -1 after the last.
    sieve
        Bit set of the n-grams.
    """
    slots = slots_for(max(_LEAST_SLOTS, _SLOTS * len(grams)))
    table, first = np.zeros(slots, np.uint64), np.full(slots, -1, np.int32)
    following = np.full(len(grams), -1, np.int32)
    sieve = np.zeros(slots * (_SIEVE_BITS // _SLOTS) // 64, np.uint64)
    _fill(grams, table, first, following, sieve)
    return table, first, following, sieve


@numba.njit(**KERNEL)
def _fill(grams: U64, table: U64, first: NDArray[np.int32], following: NDArray[np.int32], sieve: U64) -> None:
    """Fill a table that is empty."""
    for entry in range(len(grams)):
        key = grams[entry]
        if entry and grams[entry - 1] == key:
            following[entry - 1] = entry
            continue
        slot = gram_slot(table, key)
        table[slot], first[slot] = key, entry
        word, one, other = _sieve_bits(sieve, key)
        sieve[word] |= np.uint64(1) << one | np.uint64(1) << other


@numba.njit(**INNER_KERNEL)
def _sieve_bits(sieve: U64, key: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Word of the sieve that has an n-gram, and its two bits there; the lowest bit of a key is always set."""
    return (
        (key >> np.uint64(7)) & np.uint64(len(sieve) - 1),
        (key >> np.uint64(1)) & np.uint64(63),
        key >> np.uint64(58),
    )


@numba.njit(**INNER_KERNEL)
def may_have(sieve: U64, key: np.uint64) -> Any:
    """Whether an n-gram may have an entry; in loops, `sieve` should be a local variable, which is much faster."""
    word, one, other = _sieve_bits(sieve, key)
    return (sieve[word] >> one) & (sieve[word] >> other) & np.uint64(1)


@numba.njit(**INNER_KERNEL)
def find_entry(key: np.uint64, table: U64, first: NDArray[np.int32], sieve: U64) -> int:
    """First entry of an n-gram, -1 if there is none."""
    if not may_have(sieve, key):
        return -1
    return first_entry(key, table, first)


@numba.njit(**INNER_KERNEL)
def first_entry(key: np.uint64, table: U64, first: NDArray[np.int32]) -> int:
    """First entry of an n-gram that the sieve has, -1 if there is none."""
    return first[gram_slot(table, key)]
