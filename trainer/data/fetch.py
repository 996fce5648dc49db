"""Files of a dataset on this machine: read in place, or fetched once into a cache.

    local folder ─────────────────────────────────────────────▶ checked, read in place, never changed
    URL ─▶ lock of the file ─▶ Store.get: fetched and checked ─▶ cache, which the ranks of a node share

A lock ends with its process, and a copy gets its name only once it has passed its check: a killed download leaves
nothing that could be taken for a complete file.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from corpus.contract import DatasetError
from corpus.storage import StorageError
from corpus.storage.connect import SILENCE
from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact
from corpus.storage.store import Store

Check = Callable[[Path], str | None]
MakeRoom = Callable[[Path], None]

STORAGE_TIMEOUT = 600.0
"""Seconds after which a file that cannot be fetched stops the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one dataset, by their paths relative to it."""

    origin: str
    """Folder or URL of the dataset; may hold credentials."""
    folder: Path
    """Folder the files are read from: the dataset's own, or the cache of a remote one."""
    store: Store | None
    """Where a remote dataset is fetched from; None for a local one."""
    storage_timeout: float = STORAGE_TIMEOUT
    """Seconds for which a file of a remote dataset is retried."""

    @classmethod
    def at(cls, location: str, cache: Path, *, storage_timeout: float = STORAGE_TIMEOUT) -> "Files":
        """The files of the dataset at a folder or an fsspec URL; those of a URL are cached in the folder `cache`.

        Raises
        ------
        DatasetError
            There is no file system for the URL.
        """
        if not is_url(location):
            folder = local_path(location)
            return cls(origin=str(folder), folder=folder, store=None)
        try:
            store = Store(location, timeout=storage_timeout, stall=_stall(storage_timeout))
        except StorageError as error:
            raise DatasetError(str(error)) from None
        return cls(origin=location, folder=cache, store=store, storage_timeout=storage_timeout)

    @property
    def remote(self) -> bool:
        """Whether the files are fetched into a cache."""
        return self.store is not None

    def url(self, name: str) -> str:
        """Location of a file, for messages: without credentials."""
        return f"{redact(self.origin)}/{name}"

    def path(self, name: str) -> Path:
        """Path that a file is read from.

        Raises
        ------
        DatasetError
            The name leads out of the dataset's folder.
        """
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
            raise DatasetError(
                f"{redact(self.origin)}: names the file {name!r}, which is outside of the dataset; do not use it"
            )
        return self.folder.joinpath(*parts)

    def get(self, name: str, check: Check, make_room: MakeRoom | None = None) -> Path:
        """Return the local path of a file that passes `check`, fetching it if necessary.

        Parameters
        ----------
        name
            Path relative to the dataset.
        check
            Returns what is wrong with a file, as a phrase, or None.
        make_room
            Called before each attempt to fetch the file, with the path that is going to be written.

        Raises
        ------
        DatasetError
            The file is missing, fails the check, or could not be fetched in time.
        """
        path = self.path(name)
        if self.store is None:
            fault = check(path) if path.is_file() else "is missing"
            if fault:
                raise DatasetError(f"{path}: {fault}; build the dataset again or copy it again")
            return path
        began = time.monotonic()
        try:
            # A holder stops at its timeout, which leaves time for one attempt of this process to report the cause.
            with _lock(path, timeout=self.storage_timeout + 2 * _stall(self.storage_timeout)):
                _fetch(self.store, name, path, check, make_room)
        except Timeout:
            raise DatasetError(
                f"{self.url(name)}: other processes of this machine have been fetching it for "
                f"{time.monotonic() - began:.0f} s; see their messages"
            ) from None
        except OSError as error:
            raise DatasetError(
                f"{error}; check that the file exists and is complete, and that its store can be reached"
            ) from None
        return path

    def get_if_free(self, name: str, check: Check, make_room: MakeRoom | None = None) -> bool:
        """Like `get`, in one attempt and only if no other process is fetching it; return whether the file is there."""
        path = self.path(name)
        try:
            with _lock(path, timeout=0):
                if self.store is not None:
                    _fetch(self.store, name, path, check, make_room, attempts=1)
            return True
        except Exception:  # `get` will meet it again and report it
            return False

    def read(self, name: str) -> bytes:
        """Content of a small file as it is now, past any cache; without a recorded hash, so two readings must agree.

        Raises
        ------
        DatasetError
            The file is missing or could not be read in time.
        """
        if self.store is None:
            return self.get(name, lambda path: None).read_bytes()
        try:
            return self.store.read_confirmed(name)
        except OSError as error:
            raise DatasetError(f"{error}; check that a dataset is there and that its store can be reached") from None


def _stall(storage_timeout: float) -> float:
    """Seconds without a byte after which an attempt has failed."""
    return min(SILENCE, storage_timeout / 4)


def _lock(path: Path, *, timeout: float) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock", timeout=timeout)


def _fetch(
    store: Store, name: str, path: Path, check: Check, make_room: MakeRoom | None, attempts: int | None = None
) -> None:
    """Fetch a file unless a copy that passes the check is there. Its lock is held."""
    with suppress(FileNotFoundError):
        if not check(path):
            return
    path.unlink(missing_ok=True)
    for left in path.parent.glob(f"{path.name}.*.part"):  # of processes that were killed
        left.unlink(missing_ok=True)
    store.get(name, path, check=check, prepare=make_room, attempts=attempts)
