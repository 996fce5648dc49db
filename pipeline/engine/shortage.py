"""Shortages: what a build says when disk or memory is not enough, before it begins and when it happens."""

import errno
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from corpus.discover import SourceFile

DISK_PER_TEXT = 3.0
"""Bytes of intermediate results and dataset for a byte of text; builds of benchmark texts take 2.4."""
TEXT_PER_BYTE = {None: 1.0, "gz": 3.0, "zst": 3.0}
"""Bytes of text for a byte of an input file, by its compression."""
PACKED_FORMATS = ("parquet",)
"""Formats that compress by themselves, as much as gzip does."""


def disk_warning(files: Sequence[SourceFile], work: Path) -> str | None:
    """A sentence for the user if the disk of the existing folder `work` seems too small for a build of `files`.

    It is an estimate, so no reason to stop. What an earlier run has left in `work` needs no more space.
    """
    text = sum(
        file.bytes * TEXT_PER_BYTE["gz" if file.format in PACKED_FORMATS else file.compression] for file in files
    )
    needed = DISK_PER_TEXT * text - sum(path.lstat().st_size for path in work.rglob("*") if path.is_file())
    free = shutil.disk_usage(work).free
    if needed <= free:
        return None
    return (
        f"the inputs' {text / 1e9:.1f} GB of text (an estimate) need about {needed / 1e9:.1f} GB more in {work}, where "
        f"{free / 1e9:.1f} GB are free; --work names a folder on another disk"
    )


_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


def shortage(error: BaseException, place: Path | str) -> str | None:
    """What a full disk or a lack of memory means for a build that writes to `place`; None for any other error."""
    if _is_full_disk(error):
        return (
            f"no space is left on the disk of {place} (or its quota is used up). Finished work is kept: free some, or "
            "name a folder on another disk, and the same command continues"
        )
    if isinstance(error, MemoryError):
        return (
            "no memory is left. Finished work is kept: give less --memory or fewer --workers, which leaves more to "
            "each, and the same command continues"
        )
    return None


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    # Libraries in Rust pass on only the system's words, numpy only how much of an array it could write.
    said = str(error)
    return any(os.strerror(code) in said for code in _FULL) or _SHORT_WRITE.search(said) is not None
