"""Shortages: the message for a build that runs out of disk or memory."""

from pathlib import Path

from corpus.storage.shortage import is_full_disk, lack


def shortage(error: BaseException, place: Path | str) -> str | None:
    """Return what a user should do about a full disk or a lack of memory; None for any other error.

    Parameters
    ----------
    error
        Raised while writing to `place`.
    place
        Where the build writes.
    """
    if is_full_disk(error):
        return (
            f"no space is left on the disk of {place} (or a quota, or the limit of a file's size, is reached). "
            "Finished work is kept: free some, or name a folder on another disk, and the same command continues"
        )
    if isinstance(error, MemoryError):
        return (
            "no memory is left. Finished work is kept: give less --memory or fewer --workers, so that each worker has "
            "more, and the same command continues"
        )
    if (what := lack(error)) is not None:
        return f"{place}: {what}. Finished work is kept, and the same command continues"
    return None
