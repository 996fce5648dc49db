"""Files of a dataset on this machine: read where they lie, or fetched once into a cache.

A dataset in a local folder is only ever read. One at an fsspec URL is copied
file by file into the cache: under a lock that ends with the process, checked
before it gets its name. So the ranks of a node share the cache, and a killed
download leaves nothing that is taken for whole.

A try that fails is repeated with growing pauses until a deadline. One that
brings no byte for a while has failed too, whatever the store's client thinks of
it: it is left to itself, and what it still brings is thrown away.
"""

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import fsspec
from filelock import FileLock, Timeout
from fsspec.callbacks import Callback

from corpus.contract import DatasetError

T = TypeVar("T")
Check = Callable[[Path], str | None]
MakeRoom = Callable[[Path], None]

DEADLINE = 600.0
"""Seconds after which a file that cannot be fetched stops the run."""
STALL = 20.0
"""Seconds without a byte after which a try has failed; at most a quarter of the deadline."""
PAUSE = 0.5
"""Seconds before the second try; doubled before each further one, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 15.0
SURE = 4
"""Tries after which a store is believed that says a file is not there, or gives another one than it should."""


class _StallError(Exception):
    """No byte came for too long."""


class _WrongCopyError(Exception):
    """What came is not the file."""


def is_url(location: str) -> bool:
    """Whether a location is for fsspec; `file://` counts as local."""
    return "://" in location and not location.startswith("file://")


def local_path(location: str) -> Path:
    """The path on this machine of a location that is no URL: without `file://`, and with `~` replaced."""
    return Path(os.path.expanduser(location.removeprefix("file://")))


def shown(text: str) -> str:
    """A text without the user and password of URLs in it."""
    return re.sub(r"://[^/\s]*@", "://", text)


def check_scheme(location: str) -> None:
    """See to it that there is a file system for a location.

    Raises
    ------
    ValueError
        It is a URL of an unknown scheme, or of one whose package is not installed.
    """
    if not is_url(location):
        return
    scheme = location.partition("://")[0].rpartition("::")[2]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ValueError(
            f"{shown(location)}: no file system is known for {scheme}://; expected a folder, or a URL as in "
            f"s3://bucket/folder"
        ) from None
    except ImportError as error:
        raise ValueError(f"{shown(location)}: {scheme}:// needs a package that is not installed: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one dataset, by their path relative to it."""

    origin: str
    """Folder or URL, as given."""
    folder: Path
    """Where the files are read: the dataset's own folder, or the cache of a remote one."""
    remote: bool
    deadline: float = DEADLINE
    """Seconds after which a file that cannot be fetched is an error."""

    @classmethod
    def at(cls, location: str, cache: Path, *, deadline: float = DEADLINE) -> "Files":
        """The files of the dataset at a folder or an fsspec URL, cached under `cache` in the latter case.

        Raises
        ------
        DatasetError
            There is no file system for the URL.
        """
        try:
            check_scheme(location)
        except ValueError as error:
            raise DatasetError(str(error)) from None
        if is_url(location):
            return cls(origin=location, folder=cache, remote=True, deadline=deadline)
        folder = local_path(location)
        return cls(origin=str(folder), folder=folder, remote=False)

    def url(self, name: str) -> str:
        """Where a file comes from, for messages: without user and password."""
        return shown(f"{self.origin}/{name}")

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
                f"{shown(self.origin)}: names the file {name!r}, which lies outside of the dataset; do not use it"
            )
        return self.folder.joinpath(*parts)

    def get(self, name: str, check: Check, make_room: MakeRoom | None = None) -> Path:
        """The local path of a file that passes `check`.

        Parameters
        ----------
        name
            Path relative to the dataset.
        check
            What is wrong with a file, as a phrase, or None.
        make_room
            Called before each try to fetch it, with the file that will be written.

        Raises
        ------
        DatasetError
            The file is missing or fails the check; of a remote one, that it could not be fetched before the deadline.
        """
        path = self.path(name)
        if not self.remote:
            fault = check(path) if path.is_file() else "is missing"
            if fault:
                raise DatasetError(f"{path}: {fault}; build the dataset again or copy it anew")
            return path
        began = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock")
        try:
            # Who holds it gives up at its deadline; then there is time for one try, which finds out why.
            lock.acquire(timeout=self.deadline + 2 * self._stall)
        except Timeout:
            waited = time.monotonic() - began
            raise DatasetError(
                f"{self.url(name)}: other processes of this machine have been fetching it for {waited:.0f} s; "
                "see what they report"
            ) from None
        try:
            if not path.is_file() or check(path):
                path.unlink(missing_ok=True)
                self._until_deadline(name, began, lambda: self._fetch(name, check, make_room))
        finally:
            lock.release()
        return path

    def get_if_free(self, name: str, check: Check, make_room: MakeRoom | None = None) -> bool:
        """Like `get`, in one try and only if nobody else is at it; whether the file is there."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{path}.lock", timeout=0):
                if not path.is_file() or check(path):
                    path.unlink(missing_ok=True)
                    self._fetch(name, check, make_room)
            return True
        except Exception:  # whoever needs the file will try again, and say what is wrong
            return False

    def read(self, name: str) -> bytes:
        """The content of a small file as it is now, past any cache.

        Nothing says what such a file should hold. A remote one is read until two readings agree.

        Raises
        ------
        DatasetError
            The file is missing, or could not be read before the deadline.
        """
        if not self.remote:
            return self.get(name, lambda path: None).read_bytes()

        def content() -> bytes:
            filesystem, path = _located(f"{self.origin}/{name}")
            found: bytes = filesystem.cat_file(path)
            return found

        def agreed() -> bytes:
            first, second = (_watched(lambda _: content(), self._stall) for _ in range(2))
            if first != second:
                raise _WrongCopyError("two readings of it differ")
            return first

        return self._until_deadline(name, time.monotonic(), agreed)

    @property
    def _stall(self) -> float:
        return min(STALL, self.deadline / 4)

    def _fetch(self, name: str, check: Check, make_room: MakeRoom | None) -> None:
        """One try to copy a remote file and give the copy its name; its lock is held."""
        path = self.path(name)
        for left in path.parent.glob(f"{path.name}.*.part"):  # of processes that were killed
            left.unlink(missing_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}.part")

        def copy(callback: Callback) -> None:
            filesystem, remote = _located(f"{self.origin}/{name}")
            try:
                filesystem.get_file(remote, str(new), callback=callback)
            finally:
                if isinstance(callback, _Progress) and callback.given_up:
                    new.unlink(missing_ok=True)

        try:
            if make_room is not None:
                make_room(new)
            _watched(copy, self._stall)
            fault = check(new)
            if fault:
                raise _WrongCopyError(f"the copy {fault}")
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)

    def _until_deadline(self, name: str, began: float, attempt: Callable[[], T]) -> T:
        pause = PAUSE
        tries = answers = 0
        while True:
            tries += 1
            try:
                return attempt()
            except Exception as error:  # fsspec's file systems raise errors of their own
                fault = f"{type(error).__name__.strip('_')}: {error}"
                answers += isinstance(error, (FileNotFoundError, PermissionError, _WrongCopyError))
            waited = time.monotonic() - began
            if answers == SURE or waited + pause > self.deadline:
                raise DatasetError(
                    f"{self.url(name)}: could not be fetched in {tries} tries and {waited:.0f} s ({shown(fault)}); "
                    "see whether the file is there and whole, and whether its store can be reached"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


class _Progress(Callback):
    """When the last byte came."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()
        self.given_up = False

    def relative_update(self, inc: int = 1) -> None:
        self.last = time.monotonic()


def _watched(action: Callable[[Callback], T], stall: float) -> T:
    """What `action` returns or raises, unless it makes no progress for `stall` seconds."""
    progress = _Progress()
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(action(progress))
        except BaseException as error:  # raised below
            errors.append(error)
        done.set()

    threading.Thread(target=work, name="fetch", daemon=True).start()
    while not done.wait(max(0.01, progress.last + stall - time.monotonic())):
        if time.monotonic() - progress.last >= stall:
            progress.given_up = True
            raise _StallError(f"nothing came for {stall:.0f} s")
    if errors:
        raise errors[0]
    return results[0]


def _located(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the path in it."""
    # Of a large file, s3fs fetches parts at once, and says nothing until all are there.
    options = {"max_concurrency": 1} if url.startswith(("s3://", "s3a://")) else {}
    filesystem, path = fsspec.core.url_to_fs(url, **options)
    return filesystem, path
