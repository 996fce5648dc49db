"""Size and hash of a finished file, as dataset.json records them."""

import hashlib
from pathlib import Path

from corpus.contract import FileInfo


def file_info(path: Path) -> FileInfo:
    """Return size and sha256 of a file."""
    with path.open("rb") as file:
        return FileInfo(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
