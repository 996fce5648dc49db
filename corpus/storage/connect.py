"""Connections: the file system of a location, files opened through it, and its errors."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

import fsspec

from corpus.storage import StorageError
from corpus.storage.location import is_url, local_path, normalized
from corpus.storage.redact import redact, redact_location, remember

T = TypeVar("T")

SILENCE = 20.0
"""Seconds without a byte after which a connection to S3 is closed, unless fsspec's configuration for s3 has
`config_kwargs`."""


def connect(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a location, and the path in it."""
    remember(location)
    options: dict[str, dict[str, Any]] = {}
    for scheme in ("s3", "s3a"):
        if f"{scheme}://" in location and "config_kwargs" not in fsspec.config.conf.get("s3", {}):
            options[scheme] = {"config_kwargs": {"read_timeout": SILENCE, "connect_timeout": SILENCE}}
    filesystem, path = fsspec.core.url_to_fs(normalized(location), **options)
    return filesystem, path


@contextmanager
def storage_errors(location: str = "") -> Iterator[None]:
    """Turn the exceptions of a store's client, of whatever class, into `StorageError`; `OSError` passes.

    `location`, which may hold credentials, begins the message.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        where = f"{redact_location(location)}: cannot be reached: " if location else ""
        raise StorageError(where + redact(f"{type(error).__name__}: {error}")) from None


def open_file(location: str) -> BinaryIO:
    """Open a local path or an fsspec URL for reading.

    Raises
    ------
    StorageError
        The URL cannot be read, for whatever reason; reading the file later can raise it too.
    OSError
        The local file cannot be opened.
    """
    if not is_url(location):
        return local_path(location).open("rb")

    def opened() -> Any:
        filesystem, path = connect(location)
        return filesystem.open(path, "rb")

    return file_of(_readable(location, opened), location)


class _RemoteFile(io.RawIOBase):
    def __init__(self, file: Any, location: str):
        self._file = file
        self._location = location

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content: bytes = _readable(self._location, lambda: self._file.read(len(buffer)))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return _readable(self._location, lambda: int(self._file.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def file_of(file: Any, location: str) -> BinaryIO:
    """An open fsspec file with a buffer, whose errors are `StorageError` without credentials."""
    return io.BufferedReader(_RemoteFile(file, location))


def _readable(location: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except Exception as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else redact(str(error))
        raise StorageError(f"{redact_location(location)} cannot be read: {reason}") from None
