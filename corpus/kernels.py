"""What kernels share: options of numba, and how a kernel finds the few bytes that it must look at.

bytes ─ a loop that the compiler makes vector instructions of ─▶ a mark for each byte, 0 or 1 ─ next_mark ─▶ places
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

INNER_KERNEL: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
"""For `numba.njit` of functions that only kernels call and that allocate no array: they count no references.

Otherwise every array that is passed to an inlined helper costs two atomic operations, which take half of the time of a
tokenizer made of small functions. Without wrappers they also compile faster. LLVM
inlines the small ones as well as numba's `inline="always"` does, which compiles them once for each call.
"""

PART_OF_KERNEL: dict[str, Any] = INNER_KERNEL | {"inline": "always"}
"""For functions that one kernel calls once: they are compiled as a part of it, which takes numba a quarter less."""

KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}
"""For `numba.njit` of functions that Python calls and that allocate no array: what they fill is given to them.

Each way to allocate takes numba 0.05 to 0.2 seconds to compile for each type of array, in each process.
"""

_ONES = np.uint64(0x0101010101010101)


@njit(**INNER_KERNEL)
def next_mark(marks: NDArray[np.uint64], at: int) -> int:
    """Return the number of the first mark from `at` on, of which there must be one; a word has eight marks."""
    number = at // 8
    word = marks[number] >> np.uint64(8 * (at % 8))
    if word != 0:
        return at + _first_mark(word)
    number += 1
    while marks[number] == 0:
        number += 1
    return 8 * number + _first_mark(marks[number])


@njit(**INNER_KERNEL)
def copy_run(source: NDArray[np.uint8], begin: int, end: int, out: NDArray[np.uint8], to: int) -> int:
    """Copy the bytes from `begin` to `end` to `out`, from `to` on, and return where the copy ends."""
    target = out[to : to + end - begin]
    for place, byte in enumerate(source[begin:end]):
        target[place] = byte
    return to + end - begin


@njit(**INNER_KERNEL)
def _first_mark(word: np.uint64) -> int:
    """Return the number of the first mark in a word that has one."""
    lowest = word & (~word + np.uint64(1))
    return int((((lowest - np.uint64(1)) & _ONES) * _ONES) >> np.uint64(56))
