"""Verification of an upload: whether a store holds the bytes of a local file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec

PART = 32 << 20
"""Bytes of a part of an upload to S3."""
_BLOCK = 8 << 20


def reads_back_as(filesystem: fsspec.AbstractFileSystem, remote: str, local: Path) -> bool:
    """Whether reading a stored file gives the bytes of a local one."""
    with filesystem.open(remote, "rb", cache_type="none") as stored, local.open("rb") as sent:
        while content := sent.read(_BLOCK):
            if stored.read(len(content)) != content:
                return False
        return not stored.read(1)


def has_etag(info: Mapping[str, Any], local: Path) -> bool:
    """Whether an object's ETag is the MD5 that S3 defines for a file sent whole or in parts of `PART` bytes."""
    etag = str(info.get("ETag", "")).strip('"')
    if len(etag.partition("-")[0]) != 32:
        return False
    whole, parts = hashlib.md5(usedforsecurity=False), []
    with local.open("rb") as file:
        while part := file.read(PART):
            whole.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    of_parts = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return etag in (whole.hexdigest(), f"{of_parts}-{len(parts)}")
