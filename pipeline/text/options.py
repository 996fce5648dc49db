"""Options of numba that kernels share, and constants of one type to it."""

from typing import Any

import numpy as np

from corpus.kernels import INNER_KERNEL, KERNEL, PART_OF_KERNEL

__all__ = ["BACKWARD", "FALSE", "FORWARD", "INNER_KERNEL", "KERNEL", "PART_OF_KERNEL", "ZERO"]

ZERO: Any = np.int64(0)
FALSE: Any = np.bool_(False)
FORWARD: Any = np.int64(1)
BACKWARD: Any = np.int64(-1)
"""For arguments of kernels, and variables that a loop changes and passes to one.

Each literal is a type of its own, for which numba would compile the called function once more.
"""
