"""A dataset's files, whether in a folder or at an fsspec URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from corpus.formats.stream import public_url
from pipeline.contract import COMMIT, FILES, FOLDERS


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
        with reaching(self.out):
            self.filesystem.invalidate_cache()
            content: bytes = self.filesystem.cat_file(f"{self.root}/{path}")
        return content

    def sizes(self) -> dict[str, int]:
        """Bytes of each file that is, or by its place could be, part of a dataset."""
        with reaching(self.out):
            self.filesystem.invalidate_cache()
            found = {}
            for name in FOLDERS:
                found.update(self.filesystem.find(f"{self.root}/{name}", detail=True))
            top = [info for info in self.filesystem.ls(self.root, detail=True) if info["type"] == "file"]
        sizes = {path[len(self.root) + 1 :]: int(info["size"]) for path, info in found.items()}
        sizes.update({info["name"][len(self.root) + 1 :]: int(info["size"]) for info in top})
        return {path: size for path, size in sizes.items() if "/" in path or path in (*FILES, COMMIT)}

    def put(self, source: Path, path: str) -> int:
        """Write a local file to the store; returns the size it then has there."""
        with reaching(self.out):
            self.filesystem.put_file(str(source), f"{self.root}/{path}")
            return int(self.filesystem.info(f"{self.root}/{path}")["size"])

    def remove(self, path: str) -> None:
        """Delete a file."""
        with reaching(self.out):
            self.filesystem.rm_file(f"{self.root}/{path}")
