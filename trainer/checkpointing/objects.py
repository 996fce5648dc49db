"""Files to and from an object store: tried again when the store fails, and checked when it says that all is well.

    put   local file ─▶ object: its ETag must be the MD5 that S3 defines for it; where the store has ETags of another
          kind (encryption with keys of one's own, other stores), the object is read back and compared
    get   object ─▶ local file of a known size and hash

Every operation is tried `ATTEMPTS` times with a growing pause between; in a store that has served before, it is tried
until the stated patience is over. That something is absent is an answer and not a failure.
"""

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from model.loading import CheckpointError, file_hash
from trainer.data.fetch import check_scheme, is_url, local_path, shown

ATTEMPTS = 7
"""Tries before an operation is given up."""
PAUSE = 0.5
"""Seconds before the second try, doubled before each further one, up to `LONGEST_PAUSE`; a random part of it is left
out, so that the ranks of a run do not come back all at once."""
LONGEST_PAUSE = 16.0
PART = 32 << 20
"""Bytes of one part of an upload in parts."""
COPIES = 3
"""Copies of an object that must differ from what was stored before it, and not the way to it, is taken for damaged."""
SILENCE = 20
"""Seconds without a byte after which a connection to S3 is given up."""
SLOWEST = 250_000
"""Bytes per second below which an upload has failed: aiohttp waits for ever for a server that takes nothing more."""

T = TypeVar("T")


class StorageError(Exception):
    """A store that does not do what it is asked; the message names the place and the last fault."""


class Objects:
    """A folder on this machine or in an object store.

    Parameters
    ----------
    url
        Folder or fsspec URL.
    patience
        Seconds for which an operation is tried again in a store that has served before.

    Raises
    ------
    StorageError
        There is no file system for the URL.
    """

    def __init__(self, url: str, *, patience: float = 0.0):
        try:
            check_scheme(url)
        except ValueError as error:
            raise StorageError(str(error)) from None
        url = url if is_url(url) else str(local_path(url))
        self._patience = patience
        self._has_served = False
        options = {"config_kwargs": {"read_timeout": SILENCE, "connect_timeout": SILENCE}}
        self._fs, self._root = fsspec.core.url_to_fs(url, **(options if url.startswith(("s3://", "s3a://")) else {}))
        self._url = shown(url.rstrip("/"))

    def list(self) -> dict[str, int]:
        """Path relative to the folder and size in bytes of each file below it; empty where there is no such folder.

        Raises
        ------
        StorageError
            The store does not answer, or the folder cannot be read.
        """

        def find() -> dict[str, int]:
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._root, detail=True) if self._fs.async_impl else self._below(self._root)
            except FileNotFoundError:
                if not Path(self._root).is_dir():
                    raise
                raise OSError("a file was removed meanwhile") from None  # of a folder on this machine
            return {name[len(self._root) :].lstrip("/"): int(about["size"]) for name, about in found.items()}

        try:
            return self._tried("listing", "", find)
        except FileNotFoundError:
            return {}

    def put(self, local: Path, name: str) -> None:
        """Store a file; it is there, whole, when this returns."""
        remote = f"{self._root}/{name}"
        limit = {"timeout": SILENCE + local.stat().st_size / SLOWEST} if self._fs.async_impl else {}

        def store() -> None:
            self._fs.put_file(str(local), remote, chunksize=PART, **limit)
            self._fs.invalidate_cache(remote)
            about = self._fs.info(remote)
            if about["size"] != local.stat().st_size:
                raise OSError(f"{about['size']:,} bytes arrived of {local.stat().st_size:,}")
            if not _has_tag(about, local) and not self._reads_back_as(local, remote):
                raise OSError("what arrived is not what was sent")

        self._tried("upload", name, store)

    def get(self, name: str, local: Path, *, size: int | None = None, digest: str | None = None) -> None:
        """Fetch a file, as large and with the XXH3-128 that are stated.

        Raises
        ------
        CheckpointError
            The object is absent or is another one than stated.
        StorageError
            The store does not answer.
        """

        def fetch() -> str | None:
            self._fs.get_file(f"{self._root}/{name}", str(local))
            found = local.stat().st_size
            if size is not None and found != size:
                return f"has {found:,} bytes; COMMIT.json says {size:,}"
            if digest is not None and file_hash(local) != digest:
                return "does not have the hash that COMMIT.json says"
            return None

        try:
            for _ in range(COPIES):
                fault = self._tried("download", name, fetch)
                if fault is None:
                    return
        except FileNotFoundError:
            fault = "is missing"
        raise CheckpointError(f"{self._url}/{name} {fault}")

    def probe(self) -> None:
        """Store an object and delete it.

        Raises
        ------
        StorageError
            That is not possible.
        """
        name = "write-probe"
        try:
            self._tried("upload", name, lambda: self._fs.pipe_file(f"{self._root}/{name}", b"?"))
        except FileNotFoundError as error:
            raise StorageError(f"{self._url}: nothing can be stored here, since it is not there ({error})") from None
        self.delete(name)

    def delete(self, name: str) -> None:
        """Remove a file, which may be absent."""
        with suppress(FileNotFoundError):
            self._tried("deletion", name, lambda: self._fs.rm_file(f"{self._root}/{name}"))

    def _below(self, folder: str) -> dict[str, Any]:
        """What `find` returns, which takes a folder on this machine that cannot be read for an empty one."""
        found: dict[str, Any] = {}
        for entry in self._fs.ls(folder, detail=True):
            found |= self._below(entry["name"]) if entry["type"] == "directory" else {entry["name"]: entry}
        return found

    def _reads_back_as(self, local: Path, remote: str) -> bool:
        with self._fs.open(remote, "rb") as there, local.open("rb") as here:
            while content := here.read(1 << 22):
                if there.read(len(content)) != content:
                    return False
        return True

    def _tried(self, what: str, name: str, action: Callable[[], T]) -> T:
        pause = PAUSE
        began = time.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                result = action()
                self._has_served = True
                return result
            except FileNotFoundError:
                self._has_served = True
                raise
            except Exception as error:  # file systems raise errors of their own
                waited = time.monotonic() - began
                refused = isinstance(error, PermissionError) and not self._fs.async_impl
                if refused or (tries >= ATTEMPTS and not (self._has_served and waited < self._patience)):
                    raise StorageError(
                        f"{self._url}/{name}: {what} failed {tries} times in {waited:.0f} s, at last with "
                        f"{type(error).__name__}: {shown(str(error))}; check the store, the credentials and the "
                        f"network, then run the same command"
                    ) from error
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)


def _has_tag(about: Mapping[str, Any], local: Path) -> bool:
    """Whether an object's ETag is the one that S3 gives to a file's content, sent whole or in parts of `PART` bytes."""
    tag = str(about.get("ETag", "")).strip('"')
    if len(tag.partition("-")[0]) != 32:
        return False
    whole, parts = hashlib.md5(usedforsecurity=False), []
    with local.open("rb") as file:
        while part := file.read(PART):
            whole.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    of_parts = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return tag in (whole.hexdigest(), f"{of_parts}-{len(parts)}")
