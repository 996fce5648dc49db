"""Randomness as a pure function of a seed, a purpose and a row id.

There is no generator state, so a draw depends neither on order nor on partitions.
"""

import hashlib

import numpy as np

from pipeline.records.schema import U64


def keyed_hash(high: U64, low: U64, *, seed: int, purpose: str) -> U64:
    """Return a uniform 64-bit number for each row id.

    Parameters
    ----------
    high, low
        uint64 (n,): the two halves of the row ids.
    seed
        Seed of the mix.
    purpose
        What is drawn ("shuffle", …); draws for different purposes are independent.

    Returns
    -------
    uint64 (n,)
    """
    salt = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    first, second = (np.uint64(int.from_bytes(salt[i : i + 8], "big")) for i in (0, 8))
    with np.errstate(over="ignore"):
        return _mix(low + second ^ _mix(high + first))


def _mix(x: U64) -> U64:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
