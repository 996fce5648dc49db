"""Shortages: the message for a build that runs out of disk or memory."""

import errno
import os
import re
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


def shortage(error: BaseException, place: Path | str) -> str | None:
    """Return what a user should do about a full disk or a lack of memory; None for any other error.

    Parameters
    ----------
    error
        Raised while writing to `place`.
    place
        Where the build writes.
    """
    if _is_full_disk(error):
        return (
            f"no space is left on the disk of {place} (or its quota is used up). Finished work is kept: free some, or "
            "name a folder on another disk, and the same command continues"
        )
    if isinstance(error, MemoryError):
        return (
            "no memory is left. Finished work is kept: give less --memory or fewer --workers, so that each worker has "
            "more, and the same command continues"
        )
    return None


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    # Libraries in Rust pass on only the system's message, numpy only how much of an array it could write.
    message = str(error)
    return any(os.strerror(code) in message for code in _FULL) or _SHORT_WRITE.search(message) is not None
