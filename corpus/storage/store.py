"""A store: the files of a folder on this machine or at an fsspec URL."""

import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec
from fsspec.callbacks import Callback

from corpus.storage import MismatchError, StorageError
from corpus.storage.connect import SILENCE, connect, file_of, storage_errors
from corpus.storage.location import check_scheme, is_url, local_path
from corpus.storage.redact import redact
from corpus.storage.retry import ANSWERS, ATTEMPTS, FINAL_AFTER, retry
from corpus.storage.verify import PART, has_etag, reads_back_as
from corpus.storage.watch import watched

T = TypeVar("T")

SLOWEST = 250_000
"""Bytes per second below which an upload has failed: aiohttp waits without end for a server that takes no more."""
READINGS = 20
"""Readings of a file without a known hash of which two in a row must agree."""


class Store:
    """The files below a location, by their paths relative to it.

    Parameters
    ----------
    location
        Folder, `file://` or fsspec URL.
    attempts
        Attempts of an operation on a URL. On a folder there is always one.
    timeout
        Seconds for which an operation is retried, instead of `attempts`, once the store has served: then its location
        and the credentials are known to be right. None: `attempts` always.
    stall
        Seconds without a byte after which `read` and `get` of a URL have failed. None: the client decides, which for
        S3 waits for `SILENCE`.

    Raises
    ------
    StorageError
        There is no file system for the URL; from all methods: the store fails or cannot be reached.
    FileNotFoundError, PermissionError
        From all methods but `list` and `delete`: what the store answers about a file.
    """

    def __init__(
        self, location: str, *, attempts: int = ATTEMPTS, timeout: float | None = None, stall: float | None = None
    ) -> None:
        try:
            check_scheme(location)
        except ValueError as error:
            raise StorageError(str(error)) from None
        self.remote = is_url(location)
        self._location = location.rstrip("/") if self.remote else str(local_path(location).absolute())
        self.shown = redact(self._location)
        """The location, for messages."""
        self._attempts = attempts if self.remote else 1
        self._timeout = timeout if self.remote else None
        self._stall = stall if self.remote else None
        self._has_served = False

    def list(self, folders: Collection[str] | None = None) -> dict[str, int]:
        """Size in bytes of each file, by its path; empty if there is no such location.

        Parameters
        ----------
        folders
            Only the files at the top and those below these folders; None: all files.
        """

        @storage_errors()
        def find() -> dict[str, int]:
            filesystem, root = self._connect()
            tops = [root] if folders is None else [f"{root}/{folder}" for folder in folders]
            if not self.remote:
                return _sizes_below(root, tops, top_files=folders is not None)
            filesystem.invalidate_cache()
            found: dict[str, Any] = {}
            for top in tops:
                found |= filesystem.find(top, detail=True)
            if folders is not None:
                found |= {info["name"]: info for info in filesystem.ls(root, detail=True) if info["type"] == "file"}
            return {path[len(root) :].lstrip("/"): int(info["size"]) for path, info in found.items()}

        try:
            return self._retry("listing", "", find)
        except FileNotFoundError:
            return {}

    def read(self, name: str) -> bytes:
        """Content of a file as it is now, past any cache."""

        @storage_errors()
        def content() -> bytes:
            filesystem, root = self._connect()
            filesystem.invalidate_cache()
            found: bytes = filesystem.cat_file(f"{root}/{name}")
            return found

        return self._retry("reading", name, lambda: watched(content, stall=self._stall))

    def read_confirmed(self, name: str) -> bytes:
        """Content of a file whose hash is not recorded anywhere: read until two readings agree."""
        content = self.read(name)
        if not self.remote:
            return content
        for _ in range(READINGS):
            before, content = content, self.read(name)
            if content == before:
                return content
        raise StorageError(f"{self.shown}/{name}: none of {READINGS} readings agrees with the one before it")

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading, with random access; errors while it is read are `StorageError`."""
        path = f"{self._location}/{name}"
        if not self.remote:
            return open(path, "rb")

        @storage_errors()
        def opened() -> Any:
            filesystem, root = self._connect()
            return filesystem.open(f"{root}/{name}", "rb")

        return file_of(self._retry("opening", name, opened), path)

    def get(
        self,
        name: str,
        local: Path,
        *,
        check: Callable[[Path], str | None] | None = None,
        prepare: Callable[[Path], None] | None = None,
        attempts: int | None = None,
    ) -> None:
        """Copy a file to this machine; the copy gets its name when it is complete and has passed `check`.

        An answer that the file is absent, and a copy that fails the check, count after `FINAL_AFTER` of them.

        Parameters
        ----------
        local
            Path of the copy. Until it is complete it is beside it, with the suffix `.part`.
        check
            Returns what is wrong with a copy, as a phrase ("has 5 bytes; …"), or None. Any exception of its own or of
            `prepare` that is no `OSError` is raised at once.
        prepare
            Called before each attempt with the path that is going to be written.
        attempts
            Instead of the store's own limits.

        Raises
        ------
        MismatchError
            All copies fail the check.
        """

        def fetch() -> None:
            part = local.with_name(f"{local.name}.{os.getpid()}-{time.monotonic_ns()}.part")
            try:
                if prepare is not None:
                    prepare(part)
                self._download(name, part)
                fault = check(part) if check is not None else None
                if fault:
                    raise MismatchError(f"the copy {fault}")
                os.replace(part, local)
            finally:
                part.unlink(missing_ok=True)

        self._retry("download", name, fetch, attempts=attempts, final_after=FINAL_AFTER)

    def put(self, local: Path, name: str) -> None:
        """Store a file. When this returns the store holds exactly its bytes: by their MD5, or by reading them back."""
        size = local.stat().st_size

        @storage_errors()
        def send() -> None:
            filesystem, root = self._connect()
            remote = f"{root}/{name}"
            if not filesystem.async_impl:  # object stores have no folders
                filesystem.makedirs(remote.rpartition("/")[0], exist_ok=True)
            silence = SILENCE if self._timeout is None else min(SILENCE, self._timeout / 4)
            options = {"timeout": silence + size / SLOWEST} if filesystem.async_impl else {}
            if "s3" in filesystem.protocol:
                options["chunksize"] = PART
            filesystem.put_file(str(local), remote, **options)
            filesystem.invalidate_cache(remote.rpartition("/")[0])
            info = filesystem.info(remote)
            if info["size"] != size:
                raise StorageError(f"{info['size']:,} bytes arrived of {size:,}")
            if not has_etag(info, local) and not reads_back_as(filesystem, remote, local):
                raise StorageError("the stored bytes differ from the local file")

        self._retry("upload", name, send)

    def delete(self, name: str) -> None:
        """Remove a file, which may be absent."""

        @storage_errors()
        def remove() -> None:
            filesystem, root = self._connect()
            filesystem.rm_file(f"{root}/{name}")

        with suppress(FileNotFoundError):
            self._retry("deletion", name, remove)

    def probe(self) -> None:
        """Check that files can be stored: store one and delete it."""
        name = "write-probe"

        @storage_errors()
        def store() -> None:
            filesystem, root = self._connect()
            filesystem.pipe_file(f"{root}/{name}", b"?")

        try:
            self._retry("upload", name, store)
        except FileNotFoundError as error:
            raise StorageError(
                f"{self.shown}: nothing can be stored here, the location does not exist ({error})"
            ) from None
        self.delete(name)

    def _connect(self) -> tuple[fsspec.AbstractFileSystem, str]:
        # Not kept: a file system must not be used after a fork. fsspec caches them by process.
        filesystem, root = connect(self._location)
        return filesystem, root.rstrip("/")

    @storage_errors()
    def _download(self, name: str, part: Path) -> None:
        filesystem, root = self._connect()
        progress = Callback()
        abandoned = threading.Event()
        options: dict[str, Any] = {}
        if self._stall is not None and "s3" in filesystem.protocol:
            options["max_concurrency"] = 1  # of several streams, s3fs reports nothing until all have ended

        def copy() -> None:
            try:
                filesystem.get_file(f"{root}/{name}", str(part), callback=progress, **options)
            finally:
                if abandoned.is_set():
                    part.unlink(missing_ok=True)

        try:
            watched(copy, stall=self._stall, progress=lambda: progress.value)
        finally:
            abandoned.set()

    def _retry(
        self,
        operation: str,
        name: str,
        action: Callable[[], T],
        *,
        attempts: int | None = None,
        final_after: int = 1,
    ) -> T:
        """`action` under the retry policy; its error names the operation and the file."""
        began = time.monotonic()
        made = 0
        # Once the store has served, missing permission may end: credentials are renewed during a long run.
        patient = self._timeout is not None and self._has_served and attempts is None
        answers = (FileNotFoundError, MismatchError) if patient else ANSWERS

        def attempt() -> T:
            nonlocal made
            made += 1
            try:
                result = action()
            except FileNotFoundError:
                self._has_served = True
                raise
            self._has_served = True
            return result

        try:
            return retry(
                attempt,
                attempts=None if patient else attempts or self._attempts,
                timeout=self._timeout if patient else None,
                final_after=final_after,
                answers=answers,
            )
        except OSError as error:
            kind = next((answer for answer in answers if isinstance(error, answer)), StorageError)
            if isinstance(error, NotADirectoryError):  # a path below a file
                kind = FileNotFoundError
            after = "" if made == 1 else f" after {made} attempts in {time.monotonic() - began:.0f} s"
            detail = redact(str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}")
            place = f"{self.shown}/{name}" if name else self.shown
            raise kind(f"{place}: {operation} failed{after}: {detail}") from None


def _sizes_below(root: str, tops: Collection[str], *, top_files: bool) -> dict[str, int]:
    """Sizes of the files below folders of this machine, and directly in `root` if `top_files`.

    fsspec's own listing takes a folder that cannot be read for an empty one. What is removed meanwhile is absent.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    paths = [
        os.path.join(folder, name) for top in tops for folder, _, names in os.walk(top, onerror=fail) for name in names
    ]
    if top_files:
        paths += [entry.path for entry in os.scandir(root) if entry.is_file()]
    sizes = {}
    for path in paths:
        with suppress(FileNotFoundError):
            sizes[os.path.relpath(path, root)] = os.stat(path).st_size
    return sizes
