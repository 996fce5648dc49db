"""The 64-bit hash primitives that kernels share."""

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text.options import INNER_KERNEL

U64 = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, made odd: SplitMix64's increment, and a multiplier of polynomial hashes."""


@numba.njit(**INNER_KERNEL)
def mix(x: np.uint64) -> np.uint64:
    """SplitMix64's finalizer, a bijection of the 64-bit numbers (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mix_array(x: U64) -> U64:
    """`mix` of each number of an array."""
    return mix.py_func(x)
