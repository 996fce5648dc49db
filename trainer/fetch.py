"""Files of a dataset on this machine: read where they lie, or fetched once into a cache.

A dataset in a local folder is only ever read. One at an fsspec URL is copied
file by file into the cache: under a lock that ends with the process, retried
with a growing pause, checked before it gets its name. So the ranks of a node
share the cache, and a killed download leaves nothing that is taken for whole.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import fsspec
from filelock import FileLock

ATTEMPTS = 4
"""Tries before a file is given up."""
PAUSE = 0.5
"""Seconds before the second try; doubled before each further one."""


class DatasetError(Exception):
    """A dataset that cannot be used; the message names the file, what is wrong with it, and what to do."""


def is_url(location: str) -> bool:
    """Whether a location is for fsspec; `file://` counts as local."""
    return "://" in location and not location.startswith("file://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one dataset, by their path relative to it."""

    origin: str
    """Folder or URL, as given."""
    folder: Path
    """Where the files are read: the dataset's own folder, or the cache of a remote one."""
    remote: bool

    @classmethod
    def at(cls, location: str, cache: Path) -> "Files":
        """The files of the dataset at a folder or an fsspec URL, cached under `cache` in the latter case."""
        if is_url(location):
            return cls(origin=location, folder=cache, remote=True)
        folder = Path(location.removeprefix("file://"))
        return cls(origin=str(folder), folder=folder, remote=False)

    def url(self, name: str) -> str:
        """Where a file comes from, for messages."""
        return f"{self.origin}/{name}"

    def path(self, name: str) -> Path:
        """Where a file is read.

        Raises
        ------
        DatasetError
            The name leaves the dataset's folder.
        """
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
            raise DatasetError(
                f"{self.origin}: names the file {name!r}, which lies outside of the dataset; do not use it"
            )
        return self.folder.joinpath(*parts)

    def get(self, name: str, check: Callable[[Path], str | None]) -> Path:
        """The local path of a file that passes `check`.

        Parameters
        ----------
        name
            Path relative to the dataset.
        check
            What is wrong with a file, as a phrase, or None.

        Raises
        ------
        DatasetError
            The file is missing or fails the check, after `ATTEMPTS` tries if it is remote.
        """
        path = self.path(name)
        if not self.remote:
            fault = check(path) if path.is_file() else "is missing"
            if fault:
                raise DatasetError(f"{path}: {fault}; build the dataset again or copy it anew")
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.is_file() or check(path):
                new = path.with_name(path.name + ".part")
                self._retry(name, lambda source: check(_copy(source, new)))
                os.replace(new, path)
        return path

    def read(self, name: str) -> bytes:
        """The content of a small file as it is now, past any cache.

        Raises
        ------
        DatasetError
            The file is missing, or could not be read in `ATTEMPTS` tries if it is remote.
        """
        if not self.remote:
            return self.get(name, lambda path: None).read_bytes()
        content = b""

        def keep(source: IO[bytes]) -> None:
            nonlocal content
            content = source.read()

        self._retry(name, keep)
        return content

    def _retry(self, name: str, use: Callable[[IO[bytes]], str | None]) -> None:
        """Open a remote file and use it, until `use` finds no fault in it."""
        fault = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                with fsspec.open(self.url(name), "rb") as source:
                    found = use(source)
            except Exception as error:  # fsspec's file systems raise errors of their own
                fault = f"{type(error).__name__}: {error}"
                continue
            if found is None:
                return
            fault = f"the copy {found}"
        raise DatasetError(f"{self.url(name)}: could not be fetched in {ATTEMPTS} tries ({fault})")


def _copy(source: IO[bytes], to: Path) -> Path:
    with to.open("wb") as target:
        while chunk := source.read(1 << 22):
            target.write(chunk)
    return to
