"""A dataset's files, whether in a folder or at an fsspec URL.

A store that fails is asked again, with growing pauses. What it says that it has stored is read back and compared.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from corpus.contract import COMMIT, FILES, FOLDERS
from corpus.formats.stream import ATTEMPTS, public_url, tried

T = TypeVar("T")

SILENCE = 20
"""Seconds without a byte after which a connection to S3 is given up, unless fsspec's configuration says otherwise."""
SLOWEST = 250_000
"""Bytes per second below which an upload has failed: aiohttp waits for ever for a server that takes nothing more."""
_LOOKS = 2
"""Tries, each of which a store's client repeats by itself, where somebody waits for the answer."""
_BLOCK = 8 << 20

fsspec.config.conf.setdefault("s3", {}).setdefault(
    "config_kwargs", {"read_timeout": SILENCE, "connect_timeout": SILENCE}
)


class StoreError(OSError):
    """A store cannot be reached; the message names it."""


def is_url(out: str) -> bool:
    """Whether `out` is an fsspec URL and not a local folder."""
    return "://" in out


@contextmanager
def reaching(out: str) -> Iterator[None]:
    """Turn what a store's client library raises into a `StoreError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(_CLIENTS):
            raise
        why = public_url(f"{type(error).__name__}: {error}")
        raise StoreError(f"{public_url(out)}: cannot be reached: {why}") from None


_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure", "adlfs", "requests")


class Store:
    """Access to the files under `out`, by their paths relative to it.

    Raises
    ------
    StoreError
        There is no such protocol, or, from all methods, the store cannot be reached.
    """

    def __init__(self, out: str) -> None:
        self.out = out
        try:
            self.filesystem, root = fsspec.core.url_to_fs(out if is_url(out) else str(Path(out).absolute()))
        except (ValueError, ImportError) as error:
            raise StoreError(f"{out}: {error}") from None
        self.root = root.rstrip("/")

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        """Open a file for reading bytes."""
        with reaching(self.out), self.filesystem.open(f"{self.root}/{path}", "rb") as file:
            yield file

    def read(self, path: str) -> bytes:
        """Content of a file as it is now."""

        def read() -> bytes:
            self.filesystem.invalidate_cache()
            content: bytes = self.filesystem.cat_file(f"{self.root}/{path}")
            return content

        return self._tried(read, _LOOKS)

    def read_unhashed(self, path: str) -> bytes:
        """Content of a file of which nothing says what it should be: read until two readings agree."""
        content, again = self.read(path), self.read(path)
        while content != again:
            content, again = again, self.read(path)
        return content

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that is, or by its place could be, part of a dataset."""

        def find() -> tuple[dict[str, Any], list[dict[str, Any]]]:
            self.filesystem.invalidate_cache()
            found = {}
            for name in FOLDERS:
                found.update(self.filesystem.find(f"{self.root}/{name}", detail=True))
            return found, [info for info in self.filesystem.ls(self.root, detail=True) if info["type"] == "file"]

        found, top = self._tried(find, _LOOKS)
        sizes = {path[len(self.root) + 1 :]: int(info["size"]) for path, info in found.items()}
        sizes.update({info["name"][len(self.root) + 1 :]: int(info["size"]) for info in top})
        return {path: size for path, size in sizes.items() if "/" in path or path in (*FILES, COMMIT)}

    def put(self, source: Path, path: str) -> None:
        """Write a local file to the store; it is there, whole, when this returns."""
        remote = f"{self.root}/{path}"
        limit = {"timeout": SILENCE + source.stat().st_size / SLOWEST} if self.filesystem.async_impl else {}

        def send() -> None:
            if not self.filesystem.async_impl:  # object stores have no folders
                self.filesystem.makedirs(remote.rpartition("/")[0], exist_ok=True)
            self.filesystem.put_file(str(source), remote, **limit)
            self.filesystem.invalidate_cache()
            if not self._reads_back_as(source, remote):
                raise StoreError(f"{public_url(self.out)}/{path}: what is stored there is not what was sent")

        self._tried(send)

    def _reads_back_as(self, source: Path, remote: str) -> bool:
        with self.filesystem.open(remote, "rb", cache_type="none") as there, source.open("rb") as here:
            while content := here.read(_BLOCK):
                if there.read(_BLOCK) != content:
                    return False
            return not there.read(1)

    def remove(self, path: str) -> None:
        """Delete a file."""
        with suppress(FileNotFoundError):
            self._tried(lambda: self.filesystem.rm_file(f"{self.root}/{path}"))

    def _tried(self, action: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        def reach() -> T:
            with reaching(self.out):
                return action()

        return tried(reach, attempts) if is_url(self.out) else reach()
