"""Steps: the unit of work of a build, and how finished work is recognised.

A `Step` is a frozen dataclass; its fields are all that its result depends on,
so its `key` is a hash of (stage, fields, code version). `complete` runs a step
in a private folder and renames that to `WORK/<stage>/<key>`: the folder is
there, whole, or it is not. Steps name their inputs by the keys of earlier
steps; so a path carries its whole lineage, and a changed file, rule or line of
code leads to another path.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from pipeline.engine.shortage import shortage

RESULT = "result.json"

LIBRARIES = ("ftfy", "gigatoken", "numpy", "polars", "py3langid", "pyarrow", "tokenizers", "xxhash")
"""Distributions whose version may change the bytes of a result."""


class BuildError(Exception):
    """A build that cannot go on; the message says what was found, where, and what to do."""


UNHASHED = {"hashed": False}
"""Metadata of a step's field that says where to find an input, not what it is: no part of the step's key."""


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of the `LIBRARIES`; "absent" where one is not installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


@functools.cache
def code_version() -> str:
    """Hash of the sources of `corpus` and `pipeline` and of the library versions."""
    digest = hashlib.sha256(json.dumps([sys.version_info[:2], library_versions()]).encode())
    root = Path(__file__).resolve().parents[2]
    for package in ("corpus", "pipeline"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """32 hexadecimal digits that stand for a JSON-like value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_as_json)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _as_json(value: Any) -> Any:
    """Return the JSON-like value of a manifest's model."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} cannot be part of a step's key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(ABC):
    """One stage over one partition. Subclasses add fields: parameters, and keys of the steps they read from."""

    stage: ClassVar[str]

    @property
    def key(self) -> str:
        """Name of the step's folder inside its stage."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("hashed", True)}
        return digest_of([self.stage, code_version(), fields])

    @property
    @abstractmethod
    def partition(self) -> str:
        """Which part of the data, for people: a file, a bucket."""

    @abstractmethod
    def run(self, work: Path, out: Path) -> dict[str, Any]:
        """Write the step's files into the empty folder `out` and return its small result, a JSON object.

        Pure: the same fields give the same bytes, whatever ran before and wherever it runs.
        """


def folder(work: Path, stage: str, key: str) -> Path:
    """Where the step of that key has its files."""
    return work / stage / key


def finished(step: Step, work: Path, key: str) -> dict[str, Any] | None:
    """The result of a step that has been completed before, else None."""
    try:
        result: dict[str, Any] = json.loads((folder(work, step.stage, key) / RESULT).read_text())
    except FileNotFoundError:
        return None
    return result


def complete(step: Step, work: Path, key: str) -> dict[str, Any]:
    """Run a step unless its result is there already; either way return the result.

    Raises
    ------
    BuildError
        From the step, or because disk or memory were not enough for it.
    """
    result = finished(step, work, key)
    if result is not None:
        return result
    try:
        return _run(step, work, folder(work, step.stage, key))
    except Exception as error:
        if (problem := shortage(error, work)) is None:
            raise
        raise BuildError(problem) from None


def _run(step: Step, work: Path, target: Path) -> dict[str, Any]:
    target.parent.mkdir(parents=True, exist_ok=True)
    (work / "tmp").mkdir(exist_ok=True)
    private = Path(tempfile.mkdtemp(dir=work / "tmp", prefix=f"{step.stage}-"))
    try:
        result = step.run(work, private)
        (private / RESULT).write_text(json.dumps(result, sort_keys=True))
        for path in _files(private):
            sync(path)
        sync(private)
        os.rename(private, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise
    return result


def sync(path: Path) -> None:
    """Have the system write a file or folder to its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(work: Path) -> None:
    """Delete what killed builds left half done; no build may be at work."""
    shutil.rmtree(work / "tmp", ignore_errors=True)


def prune(work: Path, used: set[tuple[str, str]]) -> None:
    """Delete all finished steps but those in `used`, pairs of (stage, key).

    Stages of which none is used are left alone.
    """
    for stage in {stage for stage, _ in used}:
        for path in (work / stage).iterdir():
            if (stage, path.name) not in used:
                discard(work, stage, path.name)


def discard(work: Path, stage: str, key: str) -> None:
    """Delete a finished step: it is gone at once, so that a kill leaves no half of it to be taken for the whole."""
    (work / "tmp").mkdir(exist_ok=True)
    private = tempfile.mkdtemp(dir=work / "tmp", prefix=f"{stage}-")
    os.rename(folder(work, stage, key), private)
    shutil.rmtree(private, ignore_errors=True)


def _files(top: Path) -> Iterator[Path]:
    for base, _, names in os.walk(top):
        for name in names:
            yield Path(base) / name
