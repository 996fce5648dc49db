"""Which files a source has, and what each one is.

    SourceSpec ─▶ paths, globs, URLs ─▶ sorted files ─▶ head of each ─▶ SourceFile

A file's compression and format are told by its content, with its name as a hint;
its adapter by its first rows. Files that are no data are listed with the reason.
"""

import fnmatch
import glob
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from corpus.adapters import guess
from corpus.config import ConfigError
from corpus.formats import open_rows
from corpus.formats.base import BrokenFileError, Limits, Row
from corpus.formats.sniff import sniff
from corpus.formats.stream import Input
from corpus.source import SourceSpec
from corpus.storage import StorageError
from corpus.storage.connect import connect
from corpus.storage.redact import redact
from corpus.storage.retry import INTERACTIVE_ATTEMPTS, retry

GUESS_ROWS = 32
"""So many first rows decide a file's adapter."""

HEAD_BYTES = 4 << 20
"""So much of a file's decompressed content is looked at, at most."""

GENERATED_ROWS = 50_000
"""Rows of one virtual file of a generator."""

_REMOTE_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One input file of a source, and how it is to be read."""

    source: str
    path: str
    """Relative to the source, with forward slashes; part of the identity of each of its rows."""
    url: str = field(repr=False)
    """What is opened: a local path, an fsspec URL, or generator://. May hold credentials: show `shown_url`."""
    bytes: int
    """Size on disk; 0 for a generator."""
    format: str | None = None
    compression: str | None = None
    """None, "gz" or "zst"."""
    adapter: str | None = None
    skipped: str | None = None
    """Why this is no data, as a sentence; None for data."""
    problem: str | None = None
    """Why a file without format cannot be read, as a sentence."""

    @property
    def shown_url(self) -> str:
        """`url` without credentials, for ledgers, logs and messages."""
        return _as_utf8(redact(self.url))


def discover(spec: SourceSpec, base: Path) -> list[SourceFile]:
    """All files of a source, sorted by path; only the heads of files are read.

    Parameters
    ----------
    spec
        The source.
    base
        Folder that relative paths start from: the manifest's.

    Raises
    ------
    ConfigError
        A path does not exist, a glob or folder holds no file, or there is no such generator.
    StorageError
        A remote store (an OSError) cannot be reached.
    """
    if spec.generator is not None:
        return _generated(spec)
    entries = [spec.path] if isinstance(spec.path, str) else list(spec.path or [])
    found = [place for entry in entries for place in _expand(spec, entry, base)]
    files: dict[str, _Place] = {}
    for path, place in _relative(found):
        if path in files and files[path].url != place.url:
            both = f"{redact(files[path].url)} and {redact(place.url)}"
            raise ConfigError(
                f"source {spec.name!r}: {both} have one name in the source, {path}; make them two sources"
            )
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in spec.exclude):
            files[path] = place
    if not files:
        raise ConfigError(f"source {spec.name!r}: exclude leaves none of {len(found)} files; expected at least one")
    paths = sorted(files)
    if not any("://" in place.url for place in files.values()):
        return [_examine(spec, path, files[path]) for path in paths]
    with ThreadPoolExecutor(_REMOTE_THREADS) as pool:  # a store answers late, but many at once
        return list(
            pool.map(
                lambda path: retry(lambda: _examine(spec, path, files[path]), attempts=INTERACTIVE_ATTEMPTS), paths
            )
        )


# Places


@dataclass(frozen=True, slots=True)
class _Place:
    """A file that was found: where it is, the folder its source's paths start from, and its size."""

    url: str
    root: str
    relative: str
    bytes: int
    problem: str | None = None


def _expand(spec: SourceSpec, entry: str, base: Path) -> list[_Place]:
    """Files that one entry of `path` names."""
    entry = entry.removeprefix("file://")
    remote = "://" in entry
    places = (
        retry(lambda: _expand_url(spec, entry), attempts=INTERACTIVE_ATTEMPTS)
        if remote
        else list(_expand_local(spec, entry, base))
    )
    if not places:
        kind = "glob matches no file" if glob.has_magic(entry) else "folder holds no file"
        raise ConfigError(
            f"source {spec.name!r}: the {kind}: {redact(entry)}"
            + ("" if "://" in entry else f" (relative to {base})")
            + "; mend the path or remove the source"
        )
    return places


def _expand_local(spec: SourceSpec, entry: str, base: Path) -> Iterator[_Place]:
    top = os.path.abspath(base / entry)
    if os.path.isdir(top):
        yield from _folder(top, top)
    elif os.path.lexists(top):
        yield _local(top, os.path.dirname(top))
    elif glob.has_magic(entry):
        root = os.path.abspath(base / _fixed_part(entry))
        for name in sorted(glob.iglob(entry, root_dir=base, recursive=True)):
            match = os.path.abspath(base / name)
            if not os.path.isdir(match):
                yield _local(match, root)
            elif not entry.rstrip("/").endswith("**"):  # `**` matches what is in the folder by itself
                yield from _folder(match, root)
    else:
        raise ConfigError(f"source {spec.name!r}: there is no {entry} (relative to {base}); mend the path")


def _folder(folder: str, root: str) -> Iterator[_Place]:
    """All files below `folder` but those in hidden folders such as .git, and what cannot be looked into."""
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                problem = "a link to a folder, which is not followed; name it in the source's `path`"
                yield _closed(os.path.join(parent, name), root, problem)
        for name in sorted(names):
            yield _local(os.path.join(parent, name), root)
    for error in errors:
        yield _closed(str(error.filename), root, f"the folder cannot be read: {error.strerror}")


def _closed(folder: str, root: str, problem: str) -> _Place:
    return _Place(folder, root, os.path.relpath(folder, root).replace(os.sep, "/"), 0, problem)


def _local(path: str, root: str) -> _Place:
    relative = os.path.relpath(path, root).replace(os.sep, "/")
    try:
        status = os.stat(path)
    except OSError as error:
        return _Place(path, root, relative, 0, f"the file cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return _Place(path, root, relative, 0, "neither a file nor a folder, but a device, pipe or socket")
    return _Place(path, root, relative, status.st_size)


def _fixed_part(pattern: str) -> str:
    """The folder of a glob that stands before its first wildcard."""
    steps = pattern.split("/")
    fixed = next(index for index, step in enumerate(steps) if glob.has_magic(step))
    return "/".join(steps[:fixed]) or ("/" if pattern.startswith("/") else "")


def _expand_url(spec: SourceSpec, entry: str) -> list[_Place]:
    shown = redact(entry)
    try:
        filesystem, top = connect(entry)
        # A web server has no listing: what it shows for a folder is a page.
        has_folders = not entry.startswith(("http://", "https://"))
        if has_folders and glob.has_magic(top):
            root = _fixed_part(top)
            found = filesystem.glob(top, detail=True)
        elif has_folders and filesystem.isdir(top):
            root, found = top.rstrip("/"), filesystem.find(top, detail=True)
        else:
            # The URL itself is opened: it may carry a query that the path does not.
            size = int(filesystem.info(top).get("size") or 0)
            name = posixpath.basename(shown) or "file"
            return [_Place(entry, shown[: -len(name)].rstrip("/"), name, size)]
    except FileNotFoundError:
        raise ConfigError(f"source {spec.name!r}: there is nothing at {shown}; mend the URL") from None
    except (ImportError, ValueError) as error:
        raise ConfigError(f"source {spec.name!r}: {shown} cannot be opened: {redact(str(error))}") from None
    except Exception as error:  # stores raise errors of their own, which may quote credentials
        raise StorageError(f"source {spec.name!r}: {shown} cannot be reached: {redact(str(error))}") from None
    return [
        _Place(
            filesystem.unstrip_protocol(path),
            redact(filesystem.unstrip_protocol(root)),
            path[len(root) :].lstrip("/"),
            int(info.get("size") or 0),
        )
        for path, info in sorted(found.items())
        if info.get("type") != "directory"
    ]


def _relative(places: Sequence[_Place]) -> Iterator[tuple[str, _Place]]:
    """Each place with its path in the source: relative to the deepest folder that all entries share."""
    roots = zip(*(place.root.split("/") for place in places), strict=False)
    shared = sum(1 for _ in takewhile(lambda steps: len(set(steps)) == 1, roots))
    for place in places:
        inside = "/".join(place.root.split("/")[shared:]).replace("://", "/")
        yield _as_utf8(f"{inside}/{place.relative}" if inside else place.relative), place


def _as_utf8(name: str) -> str:
    r"""`name` with bytes that are not UTF-8 written as `\xff`: a file's name may hold any bytes, a ledger text only."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# What a file is


def examine(spec: SourceSpec, file: SourceFile, url: str) -> SourceFile:
    """A file as `discover` would list it if it lay at `url`, where it or a copy lies."""
    return _examine(spec, file.path, _Place(url, "", "", file.bytes))


def _examine(spec: SourceSpec, path: str, place: _Place) -> SourceFile:
    file = SourceFile(source=spec.name, path=path, url=place.url, bytes=place.bytes, problem=place.problem)
    if place.problem is not None:
        return file
    try:
        found = sniff(place.url, path, spec.format)
    except StorageError:
        raise
    except OSError as error:
        return replace(file, problem=f"the file cannot be read: {error.strerror or error}")
    file = replace(
        file, format=found.format, compression=found.compression, skipped=found.skipped, problem=found.problem
    )
    if file.format is None or spec.map is not None:
        return file
    return replace(file, adapter=spec.adapter or _guess_adapter(file))


def _guess_adapter(file: SourceFile) -> str | None:
    """The adapter that fits the first rows of the file's head."""
    source = Input(file.url, file.compression, head_bytes=HEAD_BYTES)
    rows: list[Row] = []
    context: Mapping[str, Any] = {}
    try:
        source_rows = open_rows(source, file.format or "", Limits())
        context = source_rows.context
        for _, row in islice(source_rows.rows, GUESS_ROWS):
            if isinstance(row, dict):
                rows.append(row)
    except BrokenFileError:
        pass  # the head ends, or the file does: reading it will tell
    return guess(rows, context)


# Generators


def _generated(spec: SourceSpec) -> list[SourceFile]:
    from corpus.generators import open_generator

    name, rows = str(spec.generator), int(spec.rows or 0)
    open_generator(name, rows=0, seed=spec.seed, split=spec.split)  # raises ConfigError for a name that is none
    files: list[SourceFile] = []
    for number, start in enumerate(range(0, rows, GENERATED_ROWS)):
        query = {"seed": spec.seed, "split": spec.split, "start": start, "rows": min(GENERATED_ROWS, rows - start)}
        path = f"{name}-{number:05d}.jsonl" if rows > GENERATED_ROWS else f"{name}.jsonl"
        url = f"generator://{name}?{urlencode(query)}"
        file = SourceFile(source=spec.name, path=path, url=url, bytes=0, format="jsonl")
        if spec.map is None:
            # All of a family's rows have one schema, so the first file tells the adapter of all.
            file = replace(file, adapter=spec.adapter or (files[0].adapter if files else _guess_adapter(file)))
        files.append(file)
    return files
