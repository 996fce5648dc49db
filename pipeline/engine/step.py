"""Steps: the unit of work of a build, and how finished work is recognised.

    Step(fields) ─ complete ─▶ WORK/<stage>/<key>/ with the step's files and result.json ─▶ result

A `Step` is a frozen dataclass whose fields are all that its result depends on, apart from its code. Its `key` is a hash
of both. `complete` runs a step in a private folder and renames that to `WORK/<stage>/<key>`, so the folder appears
complete or not at all. Fields name other steps by their keys, so a key changes with anything that a step depends on.

Files of a step are read by methods of its class: no other module knows their names.

A step's folder has a record of sizes, hashes and times of its files, `files.json`. A build that uses a finished step
first compares it (`is_intact`): files that a program has written since are hashed, and a damaged step runs again.
Damage that changes neither size nor times, which only a disk does, is found when files of the dataset are published.
"""

import dataclasses
import functools
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

import xxhash
from pydantic import TypeAdapter, ValidationError

from pipeline.engine.keys import digest_of, source_tree
from pipeline.engine.shortage import shortage

R = TypeVar("R")

RESULT = "result.json"
RECORD = "files.json"
_CHUNK = 2**20


class BuildError(Exception):
    """A build that cannot continue; the message says what was found, where, and what to do."""


UNHASHED = {"hashed": False}
"""Metadata of a step's field that locates an input but does not identify its content: not part of the step's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoResult:
    """Result of a step of which only the files matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(ABC, Generic[R]):
    """One stage applied to one part of the data.

    Subclasses add fields (parameters, and keys of the steps whose files they read) and annotate `run` with the type of
    their result, a frozen dataclass.
    """

    stage: ClassVar[str]

    @property
    def key(self) -> str:
        """Name of the step's folder inside its stage's folder."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("hashed", True)}
        return digest_of([self.stage, source_tree().version(type(self).__module__), fields])

    @property
    @abstractmethod
    def partition(self) -> str:
        """Which part of the data, for messages: a file, a range of keys."""

    @abstractmethod
    def run(self, work: Path, out: Path) -> R:
        """Write the step's files into the empty folder `out` and return its small result.

        Pure: the same fields give the same bytes, whatever ran before and wherever it runs.
        """

    @classmethod
    def folder(cls, work: Path, key: str) -> Path:
        """Return the folder of the finished step of that key."""
        return work / cls.stage / key

    @classmethod
    def result(cls, work: Path, key: str) -> R | None:
        """Return the result of the step of that key; None if it is not finished or its result cannot be read."""
        try:
            content = (cls.folder(work, key) / RESULT).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        adapter = _adapter(cls)
        try:
            result: R = adapter.validate_json(content, strict=True)
        except ValidationError:
            return None
        return result if adapter.dump_json(result) == content else None


@functools.cache
def _adapter(step: type[Step[Any]]) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(step.run)["return"])


def complete(step: Step[R], work: Path, key: str) -> R:
    """Run a step unless it is finished; return its result.

    Raises
    ------
    BuildError
        From the step, or because disk or memory were not enough for it.
    """
    result = step.result(work, key)
    if result is not None:
        return result
    if step.folder(work, key).exists():
        discard(work, step.stage, key)
    try:
        return _run(step, work, step.folder(work, key))
    except Exception as error:
        if (problem := shortage(error, work)) is None:
            raise
        raise BuildError(problem) from None


def _run(step: Step[R], work: Path, target: Path) -> R:
    target.parent.mkdir(parents=True, exist_ok=True)
    (work / "tmp").mkdir(exist_ok=True)
    private = Path(tempfile.mkdtemp(dir=work / "tmp", prefix=f"{step.stage}-"))
    try:
        result = step.run(work, private)
        (private / RESULT).write_bytes(_adapter(type(step)).dump_json(result))
        for path in _files(private):
            sync(path)
        _write_record(private, {name: _record(private / name) for name in _names(private)})
        sync(private / RECORD)
        sync(private)
        os.rename(private, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file of a finished step, as the step wrote it."""

    bytes: int
    xxh3_128: str
    mark: str
    """Times and inode when the hash was computed: a program that writes the file cannot keep the time of its change."""


_RECORDS = TypeAdapter(dict[str, FileRecord])


def is_intact(folder: Path) -> bool:
    """Whether the files of a finished step are as it wrote them; reads those whose size, times or inode differ."""
    try:
        known = _RECORDS.validate_json((folder / RECORD).read_bytes())
        if set(_names(folder)) != known.keys():
            return False
        found = {}
        for name, record in known.items():
            is_same = (record.bytes, record.mark) == _size_and_mark(folder / name)
            found[name] = record if is_same else _record(folder / name)
            if (found[name].bytes, found[name].xxh3_128) != (record.bytes, record.xxh3_128):
                return False
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValidationError):
        return False
    if found != known:  # as after a copy of the whole folder
        _write_record(folder, found)
    return True


def _names(folder: Path) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    return [name for name in names if name not in (RECORD, f"{RECORD}.new")]


def _record(path: Path) -> FileRecord:
    size, mark = _size_and_mark(path)
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return FileRecord(bytes=size, xxh3_128=digest.hexdigest(), mark=mark)


def _size_and_mark(path: Path) -> tuple[int, str]:
    status = path.lstat()
    return status.st_size, f"{status.st_mtime_ns}/{status.st_ctime_ns}/{status.st_ino}"


def _write_record(folder: Path, records: dict[str, FileRecord]) -> None:
    new = folder / f"{RECORD}.new"
    new.write_bytes(_RECORDS.dump_json(records))
    os.replace(new, folder / RECORD)


def sync(path: Path) -> None:
    """Have the operating system write a file or folder to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(work: Path) -> None:
    """Delete what killed builds left unfinished; no other build may be running."""
    shutil.rmtree(work / "tmp", ignore_errors=True)


def prune(work: Path, used: set[tuple[str, str]]) -> None:
    """Delete all finished steps except those in `used`, pairs of (stage, key); stages without a used step are kept."""
    for stage in {stage for stage, _ in used}:
        for path in (work / stage).iterdir():
            if (stage, path.name) not in used:
                discard(work, stage, path.name)


def discard(work: Path, stage: str, key: str) -> None:
    """Delete a finished step: the folder disappears at once, so a kill leaves no incomplete one."""
    (work / "tmp").mkdir(exist_ok=True)
    private = tempfile.mkdtemp(dir=work / "tmp", prefix=f"{stage}-")
    os.rename(work / stage / key, private)
    shutil.rmtree(private, ignore_errors=True)


def _files(top: Path) -> Iterator[Path]:
    for base, _, names in os.walk(top):
        for name in names:
            yield Path(base) / name
