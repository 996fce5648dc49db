"""Options of numba that several kernels share."""

from typing import Any

NO_ALLOCATION: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}
"""For `numba.njit` of functions that allocate no array: without numba's runtime they count no references.

Otherwise every array that is passed to an inlined helper costs two atomic operations, which take half of the time of a
tokenizer made of small functions.
"""
