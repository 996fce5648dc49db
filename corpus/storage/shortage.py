"""Shortages: whether an error means that a machine has run out of disk, open files or memory, whoever raised it."""

import errno
import os
import re
from collections.abc import Iterator

FULL = "no space is left on the disk, no inode, or a quota is used up"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OPEN = (errno.EMFILE, errno.ENFILE)
_SHORT_WRITE = re.compile(
    r"\d+ requested and \d+ written|inline_container\.cc.*unexpected pos|PytorchStreamWriter failed"
)
"""Libraries in Rust pass on the system's message only; numpy and torch only that a write was short."""


def lack(error: BaseException) -> str | None:
    """Return what is short and what to do, as a phrase; None if the error means something else.

    Parameters
    ----------
    error
        The error, or one that was raised because of it.
    """
    for cause in causes(error):
        if is_full_disk(cause):
            return f"{FULL}: free some"
        if isinstance(cause, OSError) and cause.errno in _OPEN:
            return "too many files are open: raise the limit (`ulimit -n`)"
        if isinstance(cause, OSError) and cause.errno == errno.EROFS:
            return "the disk can only be read: name a folder on another one"
        if isinstance(cause, MemoryError):
            return "no memory is left"
    return None


def is_full_disk(error: BaseException) -> bool:
    """Whether the error, by itself, means that a disk or quota is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    message = str(error)
    return any(os.strerror(code) in message for code in _FULL) or _SHORT_WRITE.search(message) is not None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the errors that led to it, and those of ranks that torch has collected in it."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        failures = getattr(cause, "failures", None)
        collected = [failure[0] for failure in failures.values()] if isinstance(failures, dict) else []
        waiting += [cause.__context__, cause.__cause__, *collected]
