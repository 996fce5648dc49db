"""Discovery of a source's files, and of the format and adapter of each.

    SourceSpec ─▶ paths, globs, URLs ─▶ sorted files ─▶ head of each ─▶ SourceFile

Compression and format are detected by a file's content, with its name as a
hint; the adapter by its first rows. Files that are not data are listed with the
reason: so are hidden files and folders (`_*`, `.*`) and partial downloads, unless an
entry of `path` names them. A folder `lang=de` gives its files' rows the column `lang`.
"""

import fnmatch
import glob
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from corpus.adapters import guess
from corpus.adapters.choices import CHOICE_ADAPTERS, has_doubtful_numbers, settle
from corpus.config import ConfigError
from corpus.formats import open_rows
from corpus.formats.archive import decompressed, is_tar_of_files, is_zip, list_members, of_compressed
from corpus.formats.base import BrokenFileError, Limits, Row
from corpus.formats.sniff import sniff
from corpus.formats.stream import MAGIC, Input, Member, read_raw_head
from corpus.plugins import Plugin
from corpus.source import SourceSpec
from corpus.storage import StorageError
from corpus.storage.connect import connect
from corpus.storage.redact import redact, redact_location
from corpus.storage.retry import INTERACTIVE_ATTEMPTS, retry
from corpus.terminal import counted

GUESS_ROWS = 32
"""Number of first rows by which a file's adapter is detected."""

CHOICE_ROWS = 1000
"""Number of first rows of a multiple-choice file by which it is detected what its numbers count from."""

HEAD_BYTES = 4 << 20
"""Largest part of a file's decompressed content that is read to detect its adapter."""

GENERATED_ROWS = 50_000
"""Rows of one virtual file of a generator."""

_REMOTE_THREADS = 16

_HIDDEN = "hidden by its name, which begins with . or _; an entry of `path` that names it would read it"
_HIDDEN_FOLDER = "a folder hidden by its name, which begins with . or _; an entry of `path` that names it would read it"
_PARTIAL = "a partial download, temporary file or backup by its suffix; an entry of `path` that names it would read it"
_PARTIAL_NAMES = re.compile(
    r".*(~|\.(part|partial|crdownload|opdownload|download|incomplete|unfinished|inprogress|aria2|filepart|!ut|_copying_"
    r"|tmp|temp|bak|backup|old|orig|swp|swo))|~\$.*|\#.*\#",
    re.IGNORECASE,
)
_PARTITION = re.compile(r"([A-Za-z_][^=]*)=(.*)", re.DOTALL)
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One input file of a source, and how to read it."""

    source: str
    path: str
    """Relative to the source, with forward slashes; part of the identity of each of its rows."""
    url: str = field(repr=False)
    """Local path, fsspec URL, or generator:// URL. It may contain credentials: show `shown_url` instead."""
    member: Member | None = None
    """The file in the archive at `url`; None: the file at `url` itself."""
    bytes: int
    """Size on disk, or unpacked from an archive; 0 for a generator."""
    format: str | None = None
    """Name of the format, or reference of the source's plugin."""
    compression: str | None = None
    """None, "gz", "zst", or several, as in "gz.zst"."""
    encoding: str | None = None
    """Encoding of a text file that is not UTF-8."""
    adapter: str | None = None
    """Name of the adapter, or reference of the source's plugin."""
    columns: tuple[tuple[str, str | None], ...] = ()
    """Names and values of the columns that the folders state, as in `lang=de/part-0.parquet`."""
    skipped: str | None = None
    """Reason why the file is not data; None for data."""
    problem: str | None = None
    """Reason why a file without format cannot be read."""
    doubt: str | None = None
    """What the file's first rows leave uncertain about how it is read."""
    shows_numbers: bool = False
    """Whether its first rows show what the numbers of right options count from."""

    @property
    def shown_url(self) -> str:
        """`url` without credentials, for ledgers, logs and messages."""
        return as_utf8(redact_location(self.url))

    def with_columns(self, row: Row) -> Row:
        """Return a row with the columns of the folders; the row's own columns take precedence."""
        return {**row, **{name: value for name, value in self.columns if name not in row}} if self.columns else row


def discover(spec: SourceSpec, base: Path) -> list[SourceFile]:
    """List all files of a source, sorted by path; only the heads of files, and compressed archives, are read.

    The files in a zip archive, or in a tar of data files, are files of the source, below the archive's path.

    Parameters
    ----------
    spec
        The source.
    base
        Folder that relative paths start from: the manifest's.

    Raises
    ------
    ConfigError
        A path does not exist, a glob or folder has no file, or the generator is unknown.
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
            both = f"{redact_location(files[path].url)} and {redact_location(place.url)}"
            raise ConfigError(
                f"source {spec.name!r}: {both} have one name in the source, {path}; make them two sources"
            )
        if not any(fnmatch.fnmatchcase(path, pattern) for pattern in spec.exclude):
            files[path] = place
    if not files:
        raise ConfigError(f"source {spec.name!r}: exclude leaves none of {len(found)} files; expected at least one")
    paths = sorted(files)
    if not any("://" in place.url for place in files.values()):
        examined = [_examine_all(spec, path, files[path]) for path in paths]
    else:
        with ThreadPoolExecutor(_REMOTE_THREADS) as pool:  # a store has a high latency, but answers in parallel

            def examine_all(path: str) -> list[SourceFile]:
                return retry(lambda: _examine_all(spec, path, files[path]), attempts=INTERACTIVE_ATTEMPTS)

            examined = list(pool.map(examine_all, paths))
    return _without_doubts([file for group in examined for file in group])


# Locations


@dataclass(frozen=True, slots=True)
class _Place:
    """A file, or a folder that is not searched: its location, the folder that its path is relative to, and its size."""

    url: str
    root: str
    relative: str
    bytes: int
    problem: str | None = None
    skipped: str | None = None
    columns: tuple[tuple[str, str | None], ...] = ()
    member: Member | None = None


def _expand(spec: SourceSpec, entry: str, base: Path) -> list[_Place]:
    """List the files that one entry of `path` names."""
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
            f"source {spec.name!r}: the {kind}: {redact_location(entry)}"
            + ("" if "://" in entry else f" (relative to {base})")
            + ("; in a glob, [[] stands for the character [" if "[" in entry else "")
            + "; correct the path or remove the source"
        )
    return [_described(place, entry) for place in places]


def _described(place: _Place, entry: str) -> _Place:
    """Add the columns that the folders of a place state, and the reason to skip it if its name has one."""
    above = entry.split("/")[:-1] if place.relative == entry.rpartition("/")[2] else _fixed_part(entry).split("/")
    columns = _partitions([*above, *place.relative.split("/")[:-1]])
    return replace(place, columns=columns, skipped=place.skipped or _reason_to_skip(place.relative, entry))


def _partitions(folders: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """Return the columns that the names of folders state, as Hive, Spark and pyarrow write them; values are text."""
    found = filter(None, map(_PARTITION.fullmatch, folders))
    columns = {unquote(match[1]): None if match[2] == _NULL_PARTITION else unquote(match[2]) for match in found}
    return tuple(columns.items())


def _reason_to_skip(relative: str, entry: str) -> str | None:
    name = entry.rpartition("/")[2]
    if relative == name:
        return None  # the entry is this file
    *folders, file = relative.split("/")
    if any(_is_hidden(folder, entry) for folder in folders):
        return _HIDDEN_FOLDER
    if _is_hidden(file, entry):
        return _HIDDEN
    partial = _PARTIAL_NAMES.fullmatch(file)
    return _PARTIAL if partial and not _PARTIAL_NAMES.fullmatch(name) else None


def _is_hidden(name: str, entry: str) -> bool:
    """Whether a name begins with `.` or `_`, and no step of the entry begins so."""
    steps = (step for step in entry.split("/") if step not in (".", ".."))
    return name[:1] in (".", "_") and not any(step[:1] == name[:1] for step in steps)


def _expand_local(spec: SourceSpec, entry: str, base: Path) -> Iterator[_Place]:
    top = os.path.abspath(base / entry)
    if os.path.isdir(top):
        yield from _folder(top, top, entry)
    elif os.path.lexists(top):
        yield _local(top, os.path.dirname(top))
    elif glob.has_magic(entry):
        root = os.path.abspath(base / _fixed_part(entry))
        for name in sorted(glob.iglob(entry, root_dir=base, recursive=True)):
            match = os.path.abspath(base / name)
            if not os.path.isdir(match):
                yield _local(match, root)
            elif not entry.rstrip("/").endswith("**"):  # `**` matches the folder's content too
                yield from _folder(match, root, entry)
    else:
        raise ConfigError(f"source {spec.name!r}: there is no {entry} (relative to {base}); correct the path")


def _folder(folder: str, root: str, entry: str) -> Iterator[_Place]:
    """Yield all files below `folder`, and the folders that are not searched: hidden, links, or without permission."""
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        for name in folders:
            if _is_hidden(name, entry):
                yield replace(_closed(os.path.join(parent, name), root, ""), problem=None, skipped=_HIDDEN_FOLDER)
        folders[:] = sorted(name for name in folders if not _is_hidden(name, entry))
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
    """Return the folder of a glob before its first wildcard; a path without one is its own."""
    steps = pattern.split("/")
    fixed = next((index for index, step in enumerate(steps) if glob.has_magic(step)), len(steps))
    return "/".join(steps[:fixed]) or ("/" if pattern.startswith("/") else "")


def _expand_url(spec: SourceSpec, entry: str) -> list[_Place]:
    shown = redact_location(entry)
    try:
        filesystem, top = connect(entry)
        # A web server has no listing: for a folder it returns a page.
        has_folders = not entry.startswith(("http://", "https://"))
        # A key may have the characters of a glob, and be the beginning of other keys.
        kind, size = _object(filesystem, top, may_miss=has_folders and glob.has_magic(top))
        if has_folders and kind == "missing":
            root = _fixed_part(top)
            found = filesystem.glob(top, detail=True)
            for folder in [path for path, info in found.items() if info.get("type") == "directory"]:
                if not top.endswith("**"):
                    found |= filesystem.find(folder, detail=True)
        elif has_folders and (kind == "directory" or (entry.endswith("/") and filesystem.isdir(top))):
            root, found = top.rstrip("/"), filesystem.find(top, detail=True)
        else:
            # The URL itself is opened: it may have a query, which the path has not.
            name = posixpath.basename(shown) or "file"
            return [_Place(entry, shown[: -len(name)].rstrip("/"), name, size)]
    except FileNotFoundError:
        raise ConfigError(f"source {spec.name!r}: there is nothing at {shown}; correct the URL") from None
    except (ImportError, ValueError) as error:
        raise ConfigError(f"source {spec.name!r}: {shown} cannot be opened: {redact(str(error))}") from None
    except Exception as error:  # each store has its own errors, which may quote credentials
        raise StorageError(f"source {spec.name!r}: {shown} cannot be reached: {redact(str(error))}") from None
    return [
        _Place(
            filesystem.unstrip_protocol(path),
            redact_location(filesystem.unstrip_protocol(root)),
            path[len(root) :].lstrip("/"),
            int(info.get("size") or 0),
        )
        for path, info in sorted(found.items())
        if info.get("type") != "directory" and not path.endswith("/")  # a key that ends so marks a folder
    ]


def _object(filesystem: Any, path: str, *, may_miss: bool) -> tuple[str, int]:
    """Return the type of an object ("file", "directory"; "missing" if that is allowed), and its size."""
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        if may_miss:
            return "missing", 0
        raise
    return str(info.get("type")), int(info.get("size") or 0)


def _relative(places: Sequence[_Place]) -> Iterator[tuple[str, _Place]]:
    """Yield each file with its path in the source, relative to the deepest folder that all entries share."""
    roots = zip(*(place.root.split("/") for place in places), strict=False)
    shared = sum(1 for _ in takewhile(lambda steps: len(set(steps)) == 1, roots))
    for place in places:
        inside = "/".join(place.root.split("/")[shared:]).replace("://", "/")
        yield as_utf8(f"{inside}/{place.relative}" if inside else place.relative), place


def as_utf8(name: str) -> str:
    r"""Escape the bytes of a file name that are not UTF-8, as `\xff`: a name may have any bytes, a ledger only text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# Format and adapter


def _examine_all(spec: SourceSpec, path: str, place: _Place) -> list[SourceFile]:
    """Describe a file, or each file in it if it is an archive of data files."""
    if place.problem is not None or place.skipped is not None:
        return [_examine(spec, path, place)]
    try:
        kind, compression = _archive_of(spec, place.url)
        if kind is None:
            return [_examine(spec, path, place)]
        with decompressed(place.url, compression, place.bytes, Limits()) as url:
            files = list(_examine_members(spec, path, place, url, kind, compression))
    except BrokenFileError as error:
        return [_examine(spec, path, replace(place, problem=f"{error.position}: {error.detail}"))]
    except StorageError:
        raise
    except OSError as error:
        return [_examine(spec, path, replace(place, problem=f"the file cannot be read: {error.strerror or error}"))]
    if any(file.format is not None or file.problem is not None or file.bytes == 0 for file in files):
        return files
    if not files and spec.exclude:
        return []
    kinds = sorted({posixpath.splitext(file.path)[1] or "no suffix" for file in files})
    if any(file.path.endswith("/[Content_Types].xml") for file in files):
        problem = "an Office document, which is not read; save it as CSV"
    else:
        listed = f"{counted(len(files), 'file')} ({', '.join(kinds[:5])})" if files else "no file"
        problem = f"a {kind} archive with {listed}, none of which is data; expected JSON, CSV, Parquet, … in it"
    return [_examine(spec, path, replace(place, problem=problem))]


def _archive_of(spec: SourceSpec, url: str) -> tuple[str | None, str | None]:
    """Return "zip", or "tar" for a tar of data files, and the tar's compression; None for anything else."""
    head = read_raw_head(url, 512)
    if is_zip(head):
        return "zip", None
    if isinstance(spec.format, Plugin) or spec.format == "webdataset":
        return None, None
    compression = next((MAGIC[magic] for magic in MAGIC if head.startswith(magic)), None)
    if compression is not None:
        try:
            head = next(Input(url, compression, head_bytes=512).chunks(), b"")
        except BrokenFileError:
            return None, None
    if head[257:262] == b"ustar" and (spec.format is not None or is_tar_of_files(url, compression, Limits())):
        return "tar", compression
    return None, None


def _examine_members(
    spec: SourceSpec, path: str, place: _Place, url: str, kind: str, compression: str | None
) -> Iterator[SourceFile]:
    """Describe the files of an archive, of which `url` is a copy without compression."""
    files: dict[str, SourceFile] = {}
    for item in list_members(url, kind, compression, place.bytes, Limits()):
        name = f"{path}/{as_utf8(item.member.name)}"
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in spec.exclude):
            continue
        inside = _Place(
            url,
            "",
            item.member.name,
            item.member.size,
            problem=item.problem,
            skipped=_reason_to_skip(item.member.name, path),
            columns=(*place.columns, *_partitions(item.member.name.split("/")[:-1])),
            member=item.member,
        )
        file = _examine(spec, name, inside)
        # Of several files of one name the last one counts, as in unpacking.
        files[name] = replace(file, url=place.url, member=of_compressed(item.member, compression))
    yield from (files[name] for name in sorted(files))


def examine(spec: SourceSpec, file: SourceFile, url: str) -> SourceFile:
    """Describe a file as `discover` would if it were at `url`, the location of a copy."""
    place = _Place(url, "", "", file.bytes, None, file.skipped, file.columns, file.member)
    return _examine(spec, file.path, place)


def _examine(spec: SourceSpec, path: str, place: _Place) -> SourceFile:
    file = SourceFile(
        source=spec.name,
        path=path,
        url=place.url,
        member=place.member,
        bytes=place.bytes,
        columns=place.columns,
        skipped=place.skipped,
        problem=place.problem,
    )
    if place.problem is not None or place.skipped is not None:
        return file
    try:
        stated = None if spec.format is None else str(spec.format)
        found = sniff(place.url, path, stated, spec.encoding, member=place.member)
    except StorageError:
        raise
    except OSError as error:
        return replace(file, problem=f"the file cannot be read: {error.strerror or error}")
    file = replace(
        file,
        format=found.format,
        compression=found.compression,
        encoding=found.encoding,
        skipped=found.skipped,
        problem=found.problem,
    )
    if file.format is None or spec.states_pairs:
        return file
    return _with_adapter(spec, file)


def _with_adapter(spec: SourceSpec, file: SourceFile) -> SourceFile:
    """Return a file with the source's adapter, or with the one that fits the first rows of the file's head."""
    if spec.adapter is not None:
        return replace(file, adapter=str(spec.adapter))
    source = Input(file.url, file.compression, HEAD_BYTES, file.encoding, spec.layout, file.member)
    rows: list[Row] = []
    context: Mapping[str, Any] = {}
    try:
        source_rows = open_rows(source, spec.format_of(file.format or ""), Limits())
        context = source_rows.context
        for count, (_, row) in enumerate(source_rows.rows, start=1):
            if isinstance(row, dict):
                rows.append(file.with_columns(row))
            if (count == GUESS_ROWS and not has_doubtful_numbers(rows)) or count == CHOICE_ROWS:
                break
    except BrokenFileError:
        pass  # the head ends here, or the file is broken, which reading it reports
    found = guess(rows[:GUESS_ROWS], context)
    if found not in CHOICE_ADAPTERS:
        return replace(file, adapter=found)
    settled = settle(found, rows)
    return replace(file, adapter=settled.adapter, doubt=settled.doubt, shows_numbers=settled.is_shown)


def _without_doubts(files: list[SourceFile]) -> list[SourceFile]:
    """Read the files that leave uncertain what numbers count from like those that show it, if these all agree."""
    shown = {file.adapter for file in files if file.shows_numbers}
    if len(shown) != 1:
        return files
    (adapter,) = shown
    return [file if file.doubt is None else replace(file, adapter=adapter, doubt=None) for file in files]


# Generators


def _generated(spec: SourceSpec) -> list[SourceFile]:
    from corpus.generators import open_generator

    name, rows = str(spec.generator), int(spec.rows or 0)
    open_generator(name, rows=0, seed=spec.seed, split=spec.split)  # raises ConfigError for an unknown name
    files: list[SourceFile] = []
    for number, start in enumerate(range(0, rows, GENERATED_ROWS)):
        query = {"seed": spec.seed, "split": spec.split, "start": start, "rows": min(GENERATED_ROWS, rows - start)}
        path = f"{name}-{number:05d}.jsonl" if rows > GENERATED_ROWS else f"{name}.jsonl"
        url = f"generator://{name}?{urlencode(query)}"
        file = SourceFile(source=spec.name, path=path, url=url, bytes=0, format="jsonl")
        if not spec.states_pairs:
            # All rows of a family have one schema, so all files have the adapter of the first.
            file = replace(file, adapter=files[0].adapter) if files else _with_adapter(spec, file)
        files.append(file)
    return files
