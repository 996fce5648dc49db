"""Locations: folders of this machine, with or without `file://`, and fsspec URLs."""

import os
import re
from pathlib import Path

from corpus.storage.redact import redact


def is_url(location: str) -> bool:
    """Whether a location is remote: an fsspec URL other than `file://`."""
    return "://" in location and not location.startswith("file://")


def local_path(location: str) -> Path:
    """The path of a location that is no URL: without `file://`, and with `~` replaced."""
    return Path(os.path.expanduser(location.removeprefix("file://")))


def was_url(path: str | Path) -> bool:
    """Whether a path was a URL, of whose slashes `Path` has made one."""
    return re.match(r"[a-z][a-z0-9+.\-]+:/", str(path)) is not None


def normalized(location: str) -> str:
    """A URL unchanged, or the path of a location on this machine."""
    return location if is_url(location) else str(local_path(location))


def check_scheme(location: str) -> None:
    """Check that fsspec has a file system for a location.

    Raises
    ------
    ValueError
        It is a URL of an unknown scheme, or of one whose package is not installed.
    """
    if not is_url(location):
        return
    import fsspec

    scheme = location.partition("://")[0].rpartition("::")[2]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise ValueError(
            f"{redact(location)}: no file system is known for {scheme}://; expected a folder, or a URL as in "
            f"s3://bucket/folder"
        ) from None
    except ImportError as error:
        raise ValueError(f"{redact(location)}: {scheme}:// needs a package that is not installed: {error}") from None
