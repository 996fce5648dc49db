"""Options of numba that kernels share."""

from corpus.kernels import INNER_KERNEL, KERNEL

__all__ = ["INNER_KERNEL", "KERNEL"]
