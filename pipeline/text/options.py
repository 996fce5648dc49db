"""Options of numba that several kernels share."""

from typing import Any

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

KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}
"""For `numba.njit` of functions that Python calls and that allocate no array: what they fill is given to them.

Each way to allocate takes numba 0.05 to 0.2 seconds to compile for each type of array, in each process.
"""
