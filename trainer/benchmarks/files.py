"""The files of a task's questions: found by name in a folder, read in any usual layout, and hashed.

    folder or URL ─ patterns, or the locations a user names ─▶ files ─ rows_of ─▶ dictionaries

JSON lines, JSON, CSV and TSV, each plain, .gz or .zst, and Parquet are read.
"""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from corpus.eval_sets import FORMATS, DataFolder, format_of, kinds_of
from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact, redact_location
from trainer.benchmarks.parquet import read_parquet

Row = Mapping[str, Any]

_LISTS = ("examples", "data", "Instances", "rows")
"""Keys under which a JSON object holds the list of its rows."""


class TaskDataError(Exception):
    """Questions cannot be read; the message names the task or file, what was expected, and what to do."""


class Folder(DataFolder):
    """A folder of this machine or at an fsspec URL, with errors that name the task's data."""

    def find(self, pattern: str) -> list[str]:
        """Return the paths of the files that a glob matches, relative to the folder and sorted.

        Raises
        ------
        TaskDataError
            The folder cannot be listed.
        """
        try:
            return super().find(pattern)
        except OSError as error:
            raise TaskDataError(f"{self.shown}: cannot be listed: {redact(str(error))}") from None

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises
        ------
        TaskDataError
            It cannot be read.
        """
        try:
            if is_url(self.location):
                return self._store.read(name)
            return (local_path(self.location) / name).read_bytes()
        except OSError as error:
            shown = f"{self.shown}/{_without_query(self.location, name)}"
            raise TaskDataError(f"{shown}: cannot be read: {error.strerror or redact(str(error))}") from None


def _without_query(location: str, name: str) -> str:
    """Name of a file at a URL without the query, which may be a signature."""
    return name.partition("?")[0] if is_url(location) else name


@dataclass(kw_only=True)
class TaskFiles:
    """The files of one task; records what was read."""

    task: str
    folder: str | Path | None
    """Folder or fsspec URL in which files are searched for; None: only named files are read."""
    named: Mapping[str, str | Path] = field(default_factory=dict)
    """Split to the file, folder or glob that the user names for it, here or at a URL."""
    seed: int = 0
    """Seed of examples that are drawn."""
    hashes: dict[str, str] = field(default_factory=dict)
    """File that was read, relative to `folder`, to the sha256 of its bytes."""

    def has(self, split: str) -> bool:
        """Whether the user names a file of this split."""
        return split in self.named

    def rows(self, split: str, patterns: Sequence[str] = ()) -> list[Row]:
        """Read all rows of a split; see `files`."""
        return [row for _, rows in self.files(split, patterns) for row in rows]

    def files(
        self, split: str, patterns: Sequence[str] = (), *, header: Sequence[str] = ()
    ) -> list[tuple[PurePosixPath, list[Row]]]:
        """Read the files of a split.

        Parameters
        ----------
        split
            Name of the split, by which a user may name another file.
        patterns
            Globs relative to the folder; the first that matches any file is used.
        header
            Column names of CSV files that have none.

        Returns
        -------
        list
            Path and rows of each file, ordered by path.

        Raises
        ------
        TaskDataError
            There is no such file, or it cannot be read.
        """
        folder, names = self._find(split, patterns)
        result = []
        for name in names:
            content = folder.read(name)
            name = _without_query(folder.location, name)
            self.hashes[self._name(folder, name)] = hashlib.sha256(content).hexdigest()
            path = PurePosixPath(f"{folder.shown}/{name}")
            result.append((path, rows_of(f"{folder.shown}/{name}", content, header=header)))
        return result

    def _find(self, split: str, patterns: Sequence[str]) -> tuple[Folder, list[str]]:
        if split in self.named:
            location = str(self.named[split]).rstrip("/")
            folder, names = _named(location)
            if names:
                return folder, names
            shown = redact_location(location)
            raise TaskDataError(f"{self.task}: {shown} has no file of the kinds {', '.join(FORMATS)}")
        if self._folder is not None and (found := self._folder.find_first(patterns)):
            return self._folder, found
        where = "" if self._folder is None else f" below {self._folder.shown}"
        raise TaskDataError(
            f"{self.task}: found no file of the split {split!r}{where}; expected one of "
            f"{kinds_of(patterns)}. "
            f"`--file {self.task}.{split}=PATH` names another file"
        )

    @cached_property
    def _folder(self) -> Folder | None:
        return None if self.folder is None else Folder(location=str(self.folder).rstrip("/") or "/")

    def _name(self, folder: Folder, name: str) -> str:
        """Name of a file in `hashes`: below the folder of the data, or as the user named it, without its folder."""
        whole, data = f"{folder.location}/{name}", "" if self._folder is None else f"{self._folder.location}/"
        return whole.removeprefix(data) if data and whole.startswith(data) else name


def _named(location: str) -> tuple[Folder, list[str]]:
    """The folder and the relative paths of a file, of a glob, or of all files below a folder."""
    if "*" in location:
        before, _, _ = location.partition("*")
        parent = before.rpartition("/")[0]
        folder = Folder(location=parent or ".")
        return folder, folder.find(location[len(parent) + 1 if parent else 0 :])
    path = _without_query(location, location)
    is_folder = not format_of(path) if is_url(location) else local_path(location).is_dir()
    if is_folder:
        folder = Folder(location=location)
        return folder, folder.find("**/*")
    parent, _, name = path.rpartition("/")
    return Folder(location=parent or ("/" if path.startswith("/") else ".")), [name + location[len(path) :]]


def rows_of(location: str | Path, content: bytes, *, header: Sequence[str] = ()) -> list[Row]:
    """Read the rows of a file.

    Parameters
    ----------
    location
        Where the file is, for error messages; its name says its format.
    content
        Its bytes.
    header
        Column names of a CSV file whose first line does not begin with the first of them.

    Raises
    ------
    TaskDataError
        The file has another format, or holds something else than rows.
    """
    path = str(location)
    kind = format_of(path)
    if kind == ".parquet":
        try:
            return list(read_parquet(content))
        except ModuleNotFoundError:
            raise TaskDataError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from None
        except (OSError, ValueError) as error:
            raise TaskDataError(f"{path}: is not Parquet ({error})") from None
    try:
        text = _decompressed(path, content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskDataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    match kind:
        case ".jsonl":
            return list(_json_lines(path, text))
        case ".json":
            return _json_rows(path, text)
        case ".csv" | ".tsv":
            return _csv_rows(path, text, header, delimiter="," if kind == ".csv" else "\t")
    raise TaskDataError(f"{path}: expected a file of the kinds {', '.join(FORMATS)}, also with .gz or .zst")


def _decompressed(path: str, content: bytes) -> bytes:
    try:
        if path.endswith(".gz"):
            return gzip.decompress(content)
        if path.endswith(".zst"):
            import zstandard

            with zstandard.ZstdDecompressor().stream_reader(content) as reader:
                return reader.read()
    except Exception as error:
        raise TaskDataError(f"{path}: cannot be decompressed: {error}") from None
    return content


def _json_lines(path: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: text may contain other line separators
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TaskDataError(f"{path}, line {number}: is not JSON ({error})") from None
            if not isinstance(row, dict):
                raise TaskDataError(f"{path}, line {number}: is a {type(row).__name__}; expected an object")
            yield row


def _json_rows(path: str, text: str) -> list[Row]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise TaskDataError(f"{path}: is not JSON ({error})") from None
    if isinstance(content, dict):
        listed = next((content[key] for key in _LISTS if isinstance(content.get(key), list)), None)
        if listed is not None:
            content = listed
        elif content and all(isinstance(value, dict) for value in content.values()):
            content = list(content.values())
        else:
            content = [content]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise TaskDataError(f"{path}: expected a list of objects, an object of objects, or one object")
    return content


def _csv_rows(path: str, text: str, header: Sequence[str], *, delimiter: str) -> list[Row]:
    csv.field_size_limit(2**31 - 1)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    if not lines:
        return []
    names = lines.pop(0) if not header or lines[0][:1] == [header[0]] else list(header)
    for number, line in enumerate(lines, 1):
        if line and len(line) != len(names):
            raise TaskDataError(f"{path}, row {number}: has {len(line)} columns; expected {len(names)}")
    return [dict(zip(names, line, strict=True)) for line in lines if line]
