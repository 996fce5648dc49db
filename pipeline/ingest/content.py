"""Content of input files: when it changed, its hash, and the bytes that were hashed.

A step depends on a file's content, never on its location. A remote file is therefore read twice: once to be hashed, and
once to be ingested, from a local copy whose hash is the same.

A large JSON Lines file is divided into byte ranges while it is hashed, each of which is ingested by a step of its own.
"""

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import xxhash

from corpus.discover import SourceFile, examine
from corpus.formats.ranges import ByteRange, Divider
from corpus.formats.stream import Input
from corpus.source import SourceSpec
from corpus.storage.connect import connect, storage_errors
from corpus.storage.retry import retry
from pipeline.engine.counters import count
from pipeline.engine.step import UNHASHED, BuildError, Step, discard

T = TypeVar("T")

GENERATOR = "generator://"
READINGS = 5
"""Readings of a remote file after which storage that never gives the same bytes twice is an error."""
ARCHIVES = "tmp/archives"
"""Place of the copies of remote archives in the work folder, by their hash."""
RANGE_BYTES = 128 * 2**20
"""A larger JSON Lines file is divided into ranges of about this size."""
_WITHOUT_RANGES = ("http://", "https://", GENERATOR)
"""Beginnings of URLs of which it is uncertain that a range can be read."""
_MARKS = ("ETag", "blob_id", "etag", "md5", "md5Hash", "LastModified", "mtime", "generation", "version_id")
"""What object stores call the version of a file."""
_UNMARKED = "unmarked"
_MD5 = re.compile("[0-9a-f]{32}")
_NEVER_THE_SAME = f"each of {READINGS} readings gave other bytes: check the storage and the network"


def stamp(url: str) -> str:
    """Return text that changes when a file does: its size, times and mode, or the marks of its version in the store.

    Where a store has no such mark, no two stamps are equal, so the file always counts as changed.
    """
    if url.startswith(GENERATOR):
        return url
    if "://" not in url:
        try:
            status = os.stat(url)
        except OSError as error:
            return type(error).__name__
        # A file that is rewritten in place can keep its size and get its old mtime back, but not its ctime. The mode is
        # part of it because two changes within one tick of the clock have the same ctime.
        return f"{status.st_size}/{status.st_mtime_ns}/{status.st_ctime_ns}/{status.st_ino}/{status.st_mode:o}"
    try:
        info = retry(lambda: _info(url))
    except FileNotFoundError as error:
        return type(error).__name__
    marks = [str(info[name]) for name in _MARKS if info.get(name)]
    return "/".join([str(info.get("size")), *(marks or [_UNMARKED, uuid.uuid4().hex])])


def _info(url: str) -> dict[str, Any]:
    with storage_errors(url):
        filesystem, path = connect(url)
        filesystem.invalidate_cache()
        info: dict[str, Any] = filesystem.info(path)
    return info


def changed(url: str, mark: str) -> bool:
    """Whether the file is known to have changed since it had the stamp `mark`."""
    return _UNMARKED not in mark and stamp(url) != mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashed:
    """Result of `HashFile`."""

    sha256: str | None
    """None for what is not a regular file or cannot be read; `Ingest` reports why."""
    ranges: tuple[ByteRange, ...] = ()
    """At least two, or none for a file that is read in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashFile(Step[Hashed]):
    """Compute the sha256 of one input file."""

    stage: ClassVar[str] = "hash"

    url: str
    stamp: str
    shown: str = field(metadata=UNHASHED)
    """The URL without credentials."""
    range_bytes: int | None = None
    """Size of the ranges into which the file is divided; None: it is read in one piece."""

    @property
    def partition(self) -> str:
        return self.shown

    def run(self, work: Path, out: Path) -> Hashed:
        local = "://" not in self.url
        if local and changed(self.url, self.stamp):
            raise BuildError(
                "changed or vanished since the build began: run the build again; on several machines, inputs must be "
                "on storage that all workers share"
            )
        if local and not os.path.isfile(self.url):
            return Hashed(sha256=None)  # a pipe or device would block
        if not local:
            return self._confirmed()
        try:
            found, _ = self._read(with_md5=False)
        except OSError:
            return Hashed(sha256=None)
        if changed(self.url, self.stamp):
            raise BuildError("changed while it was hashed; run the build again")
        return found

    def _confirmed(self) -> Hashed:
        """Hash of a remote file, from one reading that the store's MD5 confirms, else from two that agree.

        A store without MD5 marks is read once.
        """
        marks = {mark.strip('"') for mark in self.stamp.split("/")}
        seen: set[str] = set()
        for _ in range(READINGS):
            found, md5 = _unless_changed(lambda: self._read(with_md5=True), self.url, self.stamp, "changed or vanished")
            if changed(self.url, self.stamp):
                raise BuildError("changed while it was hashed; run the build again")
            sha256 = str(found.sha256)
            if md5 in marks or sha256 in seen or not any(_MD5.fullmatch(mark) for mark in marks):
                return found
            seen.add(sha256)
        raise BuildError(_NEVER_THE_SAME)

    def _read(self, *, with_md5: bool) -> tuple[Hashed, str]:
        """Read the file once; return its hash and ranges, and its MD5."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        divider = None if self.range_bytes is None else Divider(self.range_bytes)
        for chunk in _chunks(self.url):
            sha256.update(chunk)
            if with_md5:
                md5.update(chunk)
            if divider is not None:
                divider.add(chunk)
        ranges = () if divider is None else tuple(divider.ranges())
        return Hashed(sha256=sha256.hexdigest(), ranges=ranges if len(ranges) > 1 else ()), md5.hexdigest()


def _unless_changed(action: Callable[[], T], url: str, mark: str, problem: str) -> T:
    """Read a remote file, with `retry`; raise `BuildError` with the phrase if it fails and the file has changed."""

    def explain(error: OSError) -> None:
        with suppress(OSError):  # the store does not respond
            if changed(url, mark):
                raise BuildError(f"{problem} while the build was reading it; run the build again") from None

    try:
        return retry(action, on_failure=explain)
    except OSError as error:
        explain(error)
        raise


def is_divisible(spec: SourceSpec, file: SourceFile) -> bool:
    """Whether a file is read in ranges: large, plain JSON Lines in UTF-8 whose lines are the rows."""
    return (
        file.format == "jsonl"
        and file.bytes > RANGE_BYTES
        and file.compression is None
        and file.encoding is None
        and file.member is None
        and spec.layout.rows is None
        and not file.url.startswith(_WITHOUT_RANGES)
    )


def _chunks(url: str, span: ByteRange | None = None) -> Iterator[bytes]:
    for chunk in Input(url, None, span=span).chunks():
        count(bytes=len(chunk))
        yield chunk


@contextmanager
def as_hashed(
    spec: SourceSpec,
    file: SourceFile,
    mark: str,
    sha256: str | None,
    *,
    span: ByteRange | None = None,
    work: Path,
    out: Path,
) -> Iterator[tuple[SourceFile, ByteRange | None]]:
    """Yield the file to ingest: a local file itself, for a remote one a copy with the content that was hashed.

    With a `span`, the copy has only this range of the file, and the range that is yielded is its place in the copy.

    Raises
    ------
    BuildError
        The file has changed since it was hashed or examined, or no two readings of it agree.
    """
    if "://" not in file.url or file.url.startswith(GENERATOR) or file.skipped or file.problem:
        yield file, span
        return
    own = out / "input"
    copy = own if file.member is None else work / ARCHIVES / str(sha256)
    try:
        if file.format is not None and not (file.member is not None and copy.exists()):
            _copy_as_hashed(file, mark, sha256, span, work, own)
            copy.parent.mkdir(parents=True, exist_ok=True)
            own.replace(copy)
        if span is not None and span.begin > 0:  # the file is examined by its first bytes, which another range has
            yield replace(file, url=str(copy)), replace(span, begin=0)
            return
        found = examine(spec, file, str(copy) if file.format is not None else file.url)
        if found.doubt is not None:  # other files of the source may have settled it
            found = replace(found, adapter=file.adapter, doubt=file.doubt)
        if replace(found, url=file.url) != file:
            raise BuildError(f"{file.shown_url}: has changed since the build began; run the build again")
        yield found, span
    finally:
        own.unlink(missing_ok=True)


def discard_archives(work: Path) -> None:
    """Delete the copies of remote archives when no step reads them any more."""
    shutil.rmtree(work / ARCHIVES, ignore_errors=True)


def _copy_as_hashed(
    file: SourceFile, mark: str, sha256: str | None, span: ByteRange | None, work: Path, copy: Path
) -> None:
    expected = sha256 if span is None else span.xxh3_128
    seen: set[str] = set()
    for _ in range(READINGS):
        digest = _unless_changed(
            lambda: _copied(file.url, copy, span), file.url, mark, f"{file.shown_url}: changed or vanished"
        )
        if digest == expected:
            return
        if digest in seen:
            for range_bytes in (None, RANGE_BYTES):
                step = HashFile(url=file.url, stamp=mark, shown=file.shown_url, range_bytes=range_bytes)
                with suppress(FileNotFoundError):
                    discard(work, step.stage, step.key)
            raise BuildError(
                f"{file.shown_url}: has changed since it was hashed; run the build again, which hashes it anew"
            )
        seen.add(digest)
    raise BuildError(f"{file.shown_url}: {_NEVER_THE_SAME}")


def _copied(url: str, copy: Path, span: ByteRange | None) -> str:
    digest = hashlib.sha256() if span is None else xxhash.xxh3_128()
    with copy.open("wb") as file:
        for chunk in _chunks(url, span):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
