"""The files of a task's questions: found by name in a folder, read in any usual layout, and hashed.

    folder ─ patterns, or the paths a user names ─▶ files ─ rows_of ─▶ dictionaries

JSON lines, JSON, CSV and TSV, each plain, .gz or .zst, and Parquet are read.
"""

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.benchmarks.parquet import read_parquet

Row = Mapping[str, Any]

_LISTS = ("examples", "data", "Instances", "rows")
"""Keys under which a JSON object holds the list of its rows."""
_FORMAT_OF = re.compile(r"(-\*)?\.[\w.*]+$")
_FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


class TaskDataError(Exception):
    """Questions cannot be read; the message names the task or file, what was expected, and what to do."""


@dataclass(kw_only=True)
class TaskFiles:
    """The files of one task; records what was read."""

    task: str
    folder: Path | None
    """Folder in which files are searched for; None: only named files are read."""
    named: Mapping[str, Path] = field(default_factory=dict)
    """Split to the file or folder that the user names for it."""
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
    ) -> list[tuple[Path, list[Row]]]:
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
        found = self._find(split, patterns)
        result = []
        for path in found:
            content = _read(path)
            self.hashes[self._name(path)] = hashlib.sha256(content).hexdigest()
            result.append((path, rows_of(path, content=content, header=header)))
        return result

    def _find(self, split: str, patterns: Sequence[str]) -> list[Path]:
        if split in self.named:
            path = self.named[split]
            found = sorted(p for p in path.rglob("*") if _format(p)) if path.is_dir() else [path]
            if found:
                return found
            raise TaskDataError(f"{self.task}: {path} has no file of the kinds {', '.join(_FORMATS)}")
        if self.folder is not None:
            for pattern in patterns:
                if found := sorted(p for p in self.folder.glob(pattern) if p.is_file() and _format(p)):
                    return found
        where = "" if self.folder is None else f" below {self.folder}"
        raise TaskDataError(
            f"{self.task}: found no file of the split {split!r}{where}; expected one of "
            f"{', '.join(dict.fromkeys(_FORMAT_OF.sub('.*', p) for p in patterns))}. "
            f"`--file {self.task}.{split}=PATH` names another file"
        )

    def _name(self, path: Path) -> str:
        if self.folder is not None and path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        return path.name


def usual(split: str, *folders: str) -> tuple[str, ...]:
    """Return patterns for the files of a split in the layouts of GitHub and Hugging Face repositories."""
    return tuple(
        f"{folder}/{pattern}"
        for folder in folders
        for pattern in (
            f"{split}.jsonl",
            f"{split}.json",
            f"{split}.csv",
            f"{split}-*.parquet",
            f"{split}.parquet",
            f"data/{split}-*.parquet",
            f"{split}.jsonl.*",
        )
    )


def rows_of(path: Path, *, content: bytes | None = None, header: Sequence[str] = ()) -> list[Row]:
    """Read the rows of a file.

    Parameters
    ----------
    path
        The file; its name says its format.
    content
        Its bytes, where they have been read already.
    header
        Column names of a CSV file whose first line does not begin with the first of them.

    Raises
    ------
    TaskDataError
        The file cannot be read, has another format, or holds something else than rows.
    """
    kind = _format(path)
    if kind == ".parquet":
        try:
            return list(read_parquet(path))
        except ModuleNotFoundError:
            raise TaskDataError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from None
        except (OSError, ValueError) as error:
            raise TaskDataError(f"{path}: is not Parquet ({error})") from None
    try:
        text = _decompressed(path, _read(path) if content is None else content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskDataError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    match kind:
        case ".jsonl":
            return list(_json_lines(path, text))
        case ".json":
            return _json_rows(path, text)
        case ".csv" | ".tsv":
            return _csv_rows(path, text, header, delimiter="," if kind == ".csv" else "\t")
    raise TaskDataError(f"{path}: expected a file of the kinds {', '.join(_FORMATS)}, also with .gz or .zst")


def _format(path: Path) -> str | None:
    suffixes = path.suffixes[:-1] if path.suffix in (".gz", ".zst") else path.suffixes
    return suffixes[-1] if suffixes and suffixes[-1] in _FORMATS else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TaskDataError(f"{path}: cannot be read: {error.strerror}") from None


def _decompressed(path: Path, content: bytes) -> bytes:
    try:
        if path.suffix == ".gz":
            return gzip.decompress(content)
        if path.suffix == ".zst":
            import zstandard

            with zstandard.ZstdDecompressor().stream_reader(content) as reader:
                return reader.read()
    except Exception as error:
        raise TaskDataError(f"{path}: cannot be decompressed: {error}") from None
    return content


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: text may contain other line separators
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TaskDataError(f"{path}, line {number}: is not JSON ({error})") from None
            if not isinstance(row, dict):
                raise TaskDataError(f"{path}, line {number}: is a {type(row).__name__}; expected an object")
            yield row


def _json_rows(path: Path, text: str) -> list[Row]:
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


def _csv_rows(path: Path, text: str, header: Sequence[str], *, delimiter: str) -> list[Row]:
    csv.field_size_limit(2**31 - 1)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    if not lines:
        return []
    names = lines.pop(0) if not header or lines[0][:1] == [header[0]] else list(header)
    for number, line in enumerate(lines, 1):
        if line and len(line) != len(names):
            raise TaskDataError(f"{path}, row {number}: has {len(line)} columns; expected {len(names)}")
    return [dict(zip(names, line, strict=True)) for line in lines if line]
