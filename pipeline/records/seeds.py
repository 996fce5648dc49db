"""Randomness as a pure function of a seed, a purpose and a row id.

There is no generator state, so a draw depends neither on order nor on partitions.
"""

import hashlib

import numpy as np

from pipeline.text.hashing import U64, mix_array


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
        return mix_array(low + second ^ mix_array(high + first))
