"""A store: the files of a folder on this machine or at an fsspec URL."""

import fcntl
import logging
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

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

_log = logging.getLogger(__name__)

ALONE = 20.0
"""Seconds after which a process that has a folder to itself, for one small change, is taken for paused."""
SLOWEST = 250_000
"""Bytes per second below which an upload has failed: aiohttp waits without end for a server that takes no more."""
REQUEST_SECONDS = 120.0
"""Longest time for requests whose progress cannot be seen, such as a listing or the upload of a small file.

aiohttp's own limit begins when a request has been sent, which a server that does not answer `Expect: 100-continue` puts
off without end.
"""
QUIET_SECONDS = 5.0
"""Time for which an operation is repeated before warnings begin."""
READINGS = 20
"""Readings of a file without a known hash of which two in a row must agree."""

_MARKS = ("ETag", "etag", "md5Hash", "generation", "version_id")
"""What object stores call the version of an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a store has at a path."""

    kind: Literal["file", "folder", "link", "other"]
    size: int = 0
    """Bytes of a file."""
    mark: str | None = None
    """Changes whenever a program writes the file: its times and inode, or its version in the store, if that has any."""


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
        self._patience = None
        """Seconds for a request whose progress cannot be seen."""
        if self.remote:
            self._patience = REQUEST_SECONDS if timeout is None else min(REQUEST_SECONDS, max(SILENCE, timeout / 2))
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
            return self._retry("listing", "", lambda: watched(find, stall=self._patience))
        except FileNotFoundError:
            return {}

    def entries(self, folders: Collection[str]) -> dict[str, Entry]:
        """Everything at the top, and the files and links below some folders, by path; links are not followed.

        Other folders at the top are entries of the kind "folder" and are not read.
        """

        @storage_errors()
        def find() -> dict[str, Entry]:
            filesystem, root = self._connect()
            if not self.remote:
                return dict(_local_entries(root, "", folders))
            filesystem.invalidate_cache()
            found: dict[str, Entry] = {}
            with suppress(FileNotFoundError):
                for info in filesystem.ls(root, detail=True):
                    path = info["name"][len(root) :].strip("/")
                    if info["type"] != "directory":
                        found[path] = _remote_entry(info)
                    elif path and path not in folders:
                        found[path] = Entry(kind="folder")
            for folder in folders:
                infos = filesystem.find(f"{root}/{folder}", detail=True).values()
                found |= {info["name"][len(root) + 1 :]: _remote_entry(info) for info in infos}
            # Some programs mark a folder by an empty object whose name ends with a slash.
            return {path: entry for path, entry in found.items() if path and not path.endswith("/")}

        return self._retry("listing", "", lambda: watched(find, stall=self._patience))

    def mark(self, name: str) -> str | None:
        """The `Entry.mark` of a file as it is now."""

        @storage_errors()
        def find() -> Entry:
            filesystem, root = self._connect()
            if not self.remote:
                return _local_entry(os.lstat(f"{root}/{name}"))
            filesystem.invalidate_cache()
            return _remote_entry(filesystem.info(f"{root}/{name}"))

        return self._retry("examination", name, lambda: watched(find, stall=self._patience)).mark

    def write(self, name: str, content: bytes) -> None:
        """Store a small file, which appears complete or not at all; in a folder by way of NAME.part."""

        @storage_errors()
        def pipe() -> None:
            filesystem, root = self._connect()
            path = f"{root}/{name}"
            if self.remote:
                _make_folder(filesystem, path)
                filesystem.pipe_file(path, content)
                if filesystem.cat_file(path) != content:
                    raise StorageError("the stored bytes differ from those that were sent")
                return
            os.makedirs(root, exist_ok=True)
            new = f"{path}.part"
            with open(new, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)

        self._retry("upload", name, lambda: watched(pipe, stall=self._patience))

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        """Content of a file as it is now, past any cache, or no more than its first `at_most` bytes."""

        @storage_errors()
        def content() -> bytes:
            filesystem, root = self._connect()
            filesystem.invalidate_cache()
            if not self.remote and stat.S_ISFIFO(os.stat(f"{root}/{name}").st_mode):  # reading would wait for a writer
                raise StorageError("it is a pipe, expected a file")
            limits = {} if at_most is None else {"start": 0, "end": at_most}
            found: bytes = filesystem.cat_file(f"{root}/{name}", **limits)
            return found if at_most is None else found[:at_most]

        return self._retry("reading", name, lambda: watched(content, stall=self._stall))

    def read_confirmed(self, name: str, *, at_most: int | None = None) -> bytes:
        """Content of a file whose hash is not recorded anywhere: read until two readings agree; else like `read`."""
        content = self.read(name, at_most=at_most)
        if not self.remote:
            return content
        for _ in range(READINGS):
            before, content = content, self.read(name, at_most=at_most)
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

        return file_of(self._retry("opening", name, lambda: watched(opened, stall=self._patience)), path)

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

    def swap(self, name: str, content: bytes | None, *, expected: bytes | None) -> bool:
        """Replace or delete a small file if it has the expected content.

        In a folder and at a store with conditional requests (`has_conditions`) no other `swap` can come between.

        Parameters
        ----------
        content, expected
            Content after and before; None: there is no file.

        Returns
        -------
        bool
            Whether the file had the expected content.
        """

        def found(filesystem: fsspec.AbstractFileSystem, path: str) -> bytes | None:
            filesystem.invalidate_cache()
            try:
                content: bytes = filesystem.cat_file(path)
                return content
            except FileNotFoundError:
                return None

        @storage_errors()
        def change() -> bool:
            filesystem, root = self._connect()
            path = f"{root}/{name}"
            if not self.remote:
                with _alone(root):
                    if found(filesystem, path) != expected:
                        return False
                    self.delete(name) if content is None else self.write(name, content)
                    return True
            conditions = {}
            if expected is not None and "s3" in filesystem.protocol:
                with suppress(FileNotFoundError):
                    filesystem.invalidate_cache()
                    conditions["IfMatch"] = filesystem.info(path)["ETag"]  # of what is read next, or older
            now = found(filesystem, path)
            if now != expected:
                return now == content  # an earlier attempt may have succeeded although it failed here
            try:
                if content is None:
                    _remove(filesystem, path, conditions)
                elif expected is None:
                    _make_folder(filesystem, path)
                    filesystem.pipe_file(path, content, mode="create")
                else:
                    filesystem.pipe_file(path, content, **conditions)
            except OSError:
                now = found(filesystem, path)
                if now == expected:
                    raise
                return now == content
            return True

        return self._retry("replacement", name, lambda: watched(change, stall=self._patience))

    def has_conditions(self, name: str) -> bool:
        """Whether the store refuses to create a file that exists, tried with one that does, by `swap` and by `put`."""
        if not self.remote:
            return True
        content = self.read(name)

        @storage_errors()
        def is_refused() -> bool:
            filesystem, root = self._connect()
            path = f"{root}/{name}"
            with tempfile.NamedTemporaryFile() as local:
                local.write(content)
                local.flush()
                ways = [partial(filesystem.pipe_file, path, content)]
                if "s3" not in filesystem.protocol:  # which writes both ways by the same request
                    ways.append(partial(filesystem.put_file, local.name, path))
                for create in ways:
                    try:
                        create(mode="create")
                    except Exception as error:
                        if _exists(error):
                            continue
                        if _is_unsupported(error):
                            return False
                        raise
                    return False
            return True

        return self._retry("examination", name, lambda: watched(is_refused, stall=self._patience))

    def put(self, local: Path, name: str, *, create: bool = False) -> None:
        """Store a file. When this returns the store holds exactly its bytes: by their MD5, or by reading them back.

        Parameters
        ----------
        local
            The file.
        name
            Its path in the store.
        create
            Fail if there is another file of that name. Only for a store that `has_conditions`.

        Raises
        ------
        FileExistsError
            With `create`: there is a file with another content.
        """
        size = local.stat().st_size

        @storage_errors()
        def send() -> bool:
            filesystem, root = self._connect()
            remote = f"{root}/{name}"
            _make_folder(filesystem, remote)
            silence = SILENCE if self._timeout is None else min(SILENCE, self._timeout / 4)
            options = {"timeout": silence + size / SLOWEST} if filesystem.async_impl else {}
            if "s3" in filesystem.protocol:
                options["chunksize"] = PART
            refused = False
            try:
                filesystem.put_file(str(local), remote, **options, **({"mode": "create"} if create else {}))
            except OSError as error:
                if not create or not _exists(error):
                    raise
                refused = True  # by the file of an earlier attempt, whose answer was lost, or by another one
            filesystem.invalidate_cache(remote.rpartition("/")[0])
            info = filesystem.info(remote)
            fault = "" if info["size"] == size else f"{info['size']:,} bytes arrived of {size:,}"
            try:
                if not fault and not has_etag(info, local) and not reads_back_as(filesystem, remote, local):
                    fault = "the stored bytes differ from the local file"
            except Exception as error:
                if not create:
                    raise
                fault = f"the stored bytes cannot be read: {error}"  # clients compare checksums that stores kept
            if fault and refused:
                return False
            if fault and create:
                with suppress(FileNotFoundError):
                    _remove(filesystem, remote, {"IfMatch": info["ETag"]} if "ETag" in info else {})
            if fault:
                raise StorageError(fault)
            return True

        if not self._retry("upload", name, send):
            raise FileExistsError(f"{self.shown}/{name}: there is another file of this name")

    def delete(self, name: str, *, mark: str | None = None) -> None:
        """Remove a file, which may be absent; with a mark, S3 keeps a file that has another `Entry.mark`."""

        @storage_errors()
        def remove() -> None:
            filesystem, root = self._connect()
            conditions = {"IfMatch": mark} if mark is not None and "s3" in filesystem.protocol else {}
            try:
                _remove(filesystem, f"{root}/{name}", conditions)
            except OSError as error:
                if not conditions or not _exists(error):
                    raise

        with suppress(FileNotFoundError):
            self._retry("deletion", name, lambda: watched(remove, stall=self._patience))

    def probe(self) -> None:
        """Check that files can be stored: store one and delete it."""
        name = "write-probe"

        @storage_errors()
        def store() -> None:
            filesystem, root = self._connect()
            _make_folder(filesystem, f"{root}/{name}")
            filesystem.pipe_file(f"{root}/{name}", b"?")

        try:
            self._retry("upload", name, lambda: watched(store, stall=self._patience))
        except FileNotFoundError as error:
            raise StorageError(
                f"{self.shown}: nothing can be stored here, the location does not exist ({error})"
            ) from None
        self.delete(name)

    def _connect(self) -> tuple[fsspec.AbstractFileSystem, str]:
        # Not kept: a file system must not be used after a fork. fsspec caches them by process.
        filesystem, root = connect(self._location)
        return filesystem, root.rstrip("/") or ("" if self.remote else "/")

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
        place = f"{self.shown}/{name}" if name else self.shown
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

        def report(error: OSError) -> None:
            waited = time.monotonic() - began
            if waited >= QUIET_SECONDS:
                _log.warning("%s: %s is tried again, for %.0f s by now: %s", place, operation, waited, _detail(error))

        try:
            return retry(
                attempt,
                attempts=None if patient else attempts or self._attempts,
                timeout=self._timeout if patient else None,
                final_after=final_after,
                answers=answers,
                on_failure=report,
            )
        except OSError as error:
            kind = next((answer for answer in answers if isinstance(error, answer)), StorageError)
            if isinstance(error, NotADirectoryError):  # a path below a file
                kind = FileNotFoundError
            after = "" if made == 1 else f" after {made} attempts in {time.monotonic() - began:.0f} s"
            raise kind(f"{place}: {operation} failed{after}: {_detail(error)}") from None


def _make_folder(filesystem: fsspec.AbstractFileSystem, path: str) -> None:
    """Create the folder of a file in a store that has folders, as SFTP; object stores have none."""
    if not filesystem.async_impl:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)


def _detail(error: OSError) -> str:
    return redact(str(error) if isinstance(error, StorageError) else f"{type(error).__name__}: {error}")


def _exists(error: Exception) -> bool:
    """Whether a store refused a conditional request because there is a file, or another version of it."""
    return isinstance(error, FileExistsError) or "precondition" in str(error).lower().replace("-", "")


def _is_unsupported(error: Exception) -> bool:
    """Whether a client or its store does not know conditional requests."""
    text = str(error).replace(" ", "").lower()
    return isinstance(error, NotImplementedError | TypeError | ValueError) or "notimplemented" in text


def _remove(filesystem: fsspec.AbstractFileSystem, path: str, conditions: dict[str, str]) -> None:
    if not conditions:
        filesystem.rm_file(path)
        return
    bucket, key, _ = filesystem.split_path(path)
    filesystem.call_s3("delete_object", Bucket=bucket, Key=key, **conditions)
    filesystem.invalidate_cache(path)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Keep other processes that use this away from a folder, as far as its file system has locks.

    Raises
    ------
    StorageError
        Another process has the folder for `ALONE` seconds, as one that was paused in a change does.
    """
    os.makedirs(folder, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    end = time.monotonic() + ALONE
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StorageError(
                        f"another process has been in a change of this folder for {ALONE:.0f} s: it is paused or "
                        "hangs; end it, and run the same command again"
                    ) from None
                time.sleep(0.02)
                continue
            except OSError:  # a file system without locks
                pass
            break
        yield
    finally:
        os.close(handle)


def _remote_entry(info: dict[str, Any]) -> Entry:
    mark = next((str(info[name]) for name in _MARKS if info.get(name)), None)
    return Entry(kind="file", size=int(info["size"] or 0), mark=mark)


def _local_entry(status: os.stat_result) -> Entry:
    if stat.S_ISLNK(status.st_mode):
        return Entry(kind="link")
    if not stat.S_ISREG(status.st_mode):
        return Entry(kind="other")
    # The time of the last change of the inode cannot be set by a program.
    mark = f"{status.st_mtime_ns}/{status.st_ctime_ns}/{status.st_ino}"
    return Entry(kind="file", size=status.st_size, mark=mark)


def _local_entries(root: str, prefix: str, folders: Collection[str]) -> Iterator[tuple[str, Entry]]:
    try:
        with os.scandir(os.path.join(root, prefix)) as found:
            inside = list(found)
    except FileNotFoundError:
        return
    for entry in inside:
        path = f"{prefix}{entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield path, _local_entry(entry.stat(follow_symlinks=False))
        elif prefix or entry.name in folders:
            yield from _local_entries(root, f"{path}/", folders)
        else:
            yield path, Entry(kind="folder")


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
