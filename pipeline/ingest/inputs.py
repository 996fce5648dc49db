"""Inputs: which files a mix reads, what exactly is in them, and the lock file that records it.

`discover_inputs` lists the files of all sources; `hash_inputs` adds the sha256 of
each (a finished hash is recognised by the file's size, time and mode). A later step
depends on a file's content, never on where it lies. A remote file is therefore
read twice: to be hashed, and to be ingested, from a copy that has the hash.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from corpus.discover import SourceFile, discover, examine
from corpus.source import SourceSpec
from corpus.storage.connect import connect, open_file, storage_errors
from corpus.storage.redact import redact
from corpus.storage.retry import retry
from pipeline.engine.executor import Executor
from pipeline.engine.progress import report
from pipeline.engine.step import UNHASHED, BuildError, Step, digest_of, discard
from pipeline.manifest import Mix

GENERATOR = "generator://"
READINGS = 5
"""Readings of a remote file before storage that never gives the same bytes twice is given up."""
_CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input file of a mix, with its content's hash."""

    order: int
    """Place of its source in the manifest."""
    spec: SourceSpec
    file: SourceFile
    stamp: str
    sha256: str | None
    """None for a generator, which is its own name, and for what cannot be opened."""
    place: str
    """Where the file is, as datasets record it: relative to the manifest's folder if its source's path is, so that a
    mix and its inputs may lie anywhere; no credentials."""

    @property
    def identity(self) -> str:
        """Hash of the content and of all that decides how it is read."""
        spec = self.spec.model_dump(mode="json", include={"name", "map", "task", "condition"})
        content = self.sha256 or (self.file.url if self.file.url.startswith(GENERATOR) else self.stamp)
        file = self.file
        how = [file.path, file.format, file.compression, file.adapter, file.skipped, file.problem]
        return digest_of([spec, how, content, [plugin.sha256 for plugin in self.spec.plugins]])


def discover_inputs(mix: Mix, base: Path) -> list[tuple[int, SourceSpec, SourceFile]]:
    """All files of all sources, in order of source and path.

    Raises
    ------
    corpus.config.ConfigError
        A path or glob that names nothing.
    """
    return [(order, spec, file) for order, spec in enumerate(mix.sources) for file in discover(spec, base)]


def hash_inputs(found: Sequence[tuple[int, SourceSpec, SourceFile]], base: Path, executor: Executor) -> list[Input]:
    """Add each file's content hash; `base` is the manifest's folder."""
    with ThreadPoolExecutor(16) as threads:
        stamps = list(threads.map(lambda item: stamp(item[2].url), found))
    # By URL: a file that several sources name is hashed once.
    steps = {
        file.url: HashFile(url=file.url, stamp=mark, shown=file.shown_url)
        for (_, _, file), mark in zip(found, stamps, strict=True)
        if not file.url.startswith(GENERATOR)
    }
    results = executor.map(list(steps.values()))
    hashes = {url: result["sha256"] for url, result in zip(steps, results, strict=True)}
    return [
        Input(
            order=order, spec=spec, file=file, stamp=mark, sha256=hashes.get(file.url), place=_place(spec, file, base)
        )
        for (order, spec, file), mark in zip(found, stamps, strict=True)
    ]


def _place(spec: SourceSpec, file: SourceFile, base: Path) -> str:
    entries = spec.path if isinstance(spec.path, list) else [spec.path or ""]
    if "://" in file.url or any(os.path.isabs(entry.removeprefix("file://")) for entry in entries):
        return file.shown_url
    return os.path.relpath(file.shown_url, os.path.abspath(base))


def stamp(url: str) -> str:
    """What changes when the file at `url` does: its size, time and mode, or the store's own marks of its version.

    Where a store gives no mark, no two stamps are equal, so that nothing is ever taken for unchanged.
    """
    if url.startswith(GENERATOR):
        return url
    if "://" not in url:
        try:
            status = os.stat(url)
        except OSError as error:
            return type(error).__name__
        # With the mode: whether a file can be read may be all that changes.
        return f"{status.st_size}/{status.st_mtime_ns}/{status.st_ino}/{status.st_mode:o}"
    info = retry(lambda: _info(url))
    marks = [str(info[name]) for name in _MARKS if info.get(name)]
    return "/".join([str(info.get("size")), *(marks or [_UNMARKED, uuid.uuid4().hex])])


def _info(url: str) -> dict[str, Any]:
    with storage_errors(url):
        filesystem, path = connect(url)
        filesystem.invalidate_cache()
        info: dict[str, Any] = filesystem.info(path)
    return info


def changed(url: str, mark: str) -> bool:
    """Whether the file is known to be another than when it had the stamp `mark`."""
    return _UNMARKED not in mark and stamp(url) != mark


_MARKS = ("ETag", "blob_id", "etag", "md5", "md5Hash", "LastModified", "mtime", "generation", "version_id")
_UNMARKED = "unmarked"


@dataclass(frozen=True, slots=True, kw_only=True)
class HashFile(Step):
    """sha256 of one input file."""

    stage: ClassVar[str] = "hash"

    url: str
    stamp: str
    shown: str = field(metadata=UNHASHED)
    """The URL without credentials."""

    @property
    def partition(self) -> str:
        return self.shown

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        local = "://" not in self.url
        if local and changed(self.url, self.stamp):
            raise BuildError(
                "this worker finds another file than the build; inputs must lie where all workers see them"
            )
        if local and not os.path.isfile(self.url):
            return {"sha256": None}  # a pipe or device would block; reading it says what it is
        if not local:
            return {"sha256": self._believed()}
        digest = hashlib.sha256()
        try:
            for chunk in _chunks(self.url):
                digest.update(chunk)
        except OSError:
            return {"sha256": None}  # reading it says why, in the files table
        if changed(self.url, self.stamp):
            raise BuildError("changed while it was hashed; run the build again")
        return {"sha256": digest.hexdigest()}

    def _believed(self) -> str:
        """Hash of a remote file: of one reading, or where the store's mark could be its MD5 and is not, of two."""
        marks = {mark.strip('"') for mark in self.stamp.split("/")}
        seen: set[str] = set()
        for _ in range(READINGS):
            digest, md5 = retry(lambda: _hashes(self.url))
            if changed(self.url, self.stamp):
                raise BuildError("changed while it was hashed; run the build again")
            if md5 in marks or digest in seen or not any(_MD5.fullmatch(mark) for mark in marks):
                return digest
            seen.add(digest)
        raise BuildError(_NEVER_THE_SAME)


_MD5 = re.compile("[0-9a-f]{32}")
_NEVER_THE_SAME = f"each of {READINGS} readings gave other bytes: see what is wrong with the storage or the network"


def _chunks(url: str) -> Iterator[bytes]:
    with open_file(url) as file:
        while chunk := file.read(_CHUNK):
            report(bytes=len(chunk))
            yield chunk


def _hashes(url: str) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in _chunks(url):
        sha256.update(chunk)
        md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()


@contextmanager
def as_hashed(
    spec: SourceSpec, file: SourceFile, mark: str, sha256: str | None, *, work: Path, out: Path
) -> Iterator[SourceFile]:
    """The file to ingest: a local one as it is, of a remote one a copy in the folder `out` that holds what was hashed.

    Raises
    ------
    BuildError
        The file is another than when it was hashed, or looked at before; or no two readings of it agree.
    """
    if "://" not in file.url or file.url.startswith(GENERATOR):
        yield file
        return
    copy = out / "input"
    try:
        if file.format is not None:
            _copy_as_hashed(file, mark, sha256, work, copy)
        found = examine(spec, file, str(copy) if file.format is not None else file.url)
        if replace(found, url=file.url) != file:
            raise BuildError(f"{file.shown_url}: begins with other bytes than at first; run the build again")
        yield found
    finally:
        copy.unlink(missing_ok=True)


def _copy_as_hashed(file: SourceFile, mark: str, sha256: str | None, work: Path, copy: Path) -> None:
    seen: set[str] = set()
    for _ in range(READINGS):
        digest = retry(lambda: _copied(file.url, copy))
        if digest == sha256:
            return
        if digest in seen:
            step = HashFile(url=file.url, stamp=mark, shown=file.shown_url)
            with suppress(FileNotFoundError):
                discard(work, step.stage, step.key)
            raise BuildError(f"{file.shown_url}: is not what was hashed; run the build again, which hashes it anew")
        seen.add(digest)
    raise BuildError(f"{file.shown_url}: {_NEVER_THE_SAME}")


def _copied(url: str, copy: Path) -> str:
    digest = hashlib.sha256()
    with copy.open("wb") as file:
        for chunk in _chunks(url):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def lock_text(mix: Mix, inputs: Sequence[Input]) -> str:
    """The lock file: the manifest with every default, and every input file's size and hash; no credentials of URLs."""
    resolved = mix.model_dump(mode="json", exclude={"out"})
    for source in resolved["sources"]:
        path = source["path"]
        source["path"] = [redact(entry) for entry in path] if isinstance(path, list) else path and redact(path)
    files = [
        {
            "source": item.spec.name,
            "path": item.file.path,
            "url": item.place,
            "bytes": item.file.bytes,
            "sha256": item.sha256,
            "format": item.file.format,
            "compression": item.file.compression,
            "adapter": item.file.adapter,
        }
        for item in inputs
    ]
    return yaml.safe_dump({"manifest": resolved, "inputs": files}, sort_keys=False, allow_unicode=True, width=1000)
