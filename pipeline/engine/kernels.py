"""Compiled kernels: whether numba's cache has them, so that a first build can say what its first minute is for."""

import os
from pathlib import Path


def are_compiled() -> bool:
    """Whether any kernel of this package has been compiled before, where numba keeps compiled code."""
    package = Path(__file__).parents[1]
    cache = package
    if folder := os.environ.get("NUMBA_CACHE_DIR"):
        cache = Path(folder)
    elif not os.access(package, os.W_OK):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba"
    return cache.is_dir() and next(cache.rglob("*.nbi"), None) is not None
