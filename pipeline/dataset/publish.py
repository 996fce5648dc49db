"""Publication of a dataset: its files are copied into a folder or uploaded to an fsspec URL.

    `Place` of each file (path, step, hash) ─▶ hashes checked ─▶ inventory ─▶ copied or uploaded ─▶ dataset.json

Nothing is written before the hash of every file is checked and the inventory has shown that the location has no files
of somebody else. `dataset.json` is removed first and written last, so that it never describes an incomplete dataset.
Files are copies (clones where the file system has them, as Btrfs and XFS), so that a program that writes to the
dataset does not change the work folder.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from corpus.contract import COMMIT, FILES, FOLDERS, PUBLISHING, DatasetError, DatasetInfo, FileInfo, parse_dataset
from corpus.schema import MAX_BYTES
from corpus.storage.lease import Lease
from corpus.storage.location import local_path
from corpus.storage.redact import redact_location
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.store import Entry, Store
from pipeline.dataset.assemble import Place
from pipeline.dataset.inventory import (
    TEMPORARIES,
    Published,
    PublishedFile,
    announce,
    take_inventory,
)
from pipeline.engine.step import BuildError, discard, sync

log = logging.getLogger(__name__)

THREADS = 8
"""Files hashed or uploaded at a time."""
_CHUNK = 2**20
_FICLONE = 0x40049409
"""Request of Linux to share the blocks of a file, copied when one of both is written."""


class DamagedError(BuildError):
    """Finished steps have files that are not as they were written; the steps are deleted, so that they run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A dataset whose files have the hashes in dataset.json."""

    dataset: DatasetInfo
    hashed: int
    """Files that were read."""
    unchanged: int
    """Files whose size, time of change or version in the store is that of the last time they were hashed."""


def dataset_sizes(store: Store) -> dict[str, int]:
    """Bytes of each file that is part of a dataset, or could be by its location."""
    sizes = store.list(FOLDERS)
    return {path: size for path, size in sizes.items() if "/" in path or path in (*FILES, COMMIT)}


def read_commit(out: str) -> DatasetInfo | None:
    """`dataset.json` of a published dataset, or None if there is none or a file of it has another size."""
    store = Store(out, attempts=INTERACTIVE_ATTEMPTS)
    try:
        commit = parse_dataset(store.read_confirmed(COMMIT, at_most=MAX_BYTES + 1), redact_location(out))
        sizes = dataset_sizes(store)
    except (FileNotFoundError, DatasetError):
        return None
    return commit if all(sizes.get(path) == file.bytes for path, file in commit.files.items()) else None


def find_published(out: str, work: Path, build_key: str) -> Verified | None:
    """Return the dataset at a location if it is that of `build_key` and none of its files is missing or damaged.

    Files that have changed since the record in `work` was written, by size, inode and times or by the version in their
    store, and files that it does not list are read and hashed. A warning names a damaged one.
    """
    store = Store(out, attempts=INTERACTIVE_ATTEMPTS)
    record = Published.read(work, out)
    try:
        content = store.read_confirmed(COMMIT, at_most=MAX_BYTES + 1)
        commit = parse_dataset(content, redact_location(out))
    except (FileNotFoundError, DatasetError):
        return None
    if commit.build_key != build_key:
        return None
    entries = store.entries(FOLDERS)
    own = FileInfo(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    expected = {**commit.files, COMMIT: record.files[COMMIT].info if COMMIT in record.files else own}

    def is_unchanged(path: str) -> bool:
        known, mark = record.files.get(path), entries[path].mark
        return known is not None and mark is not None and (known.info, known.mark) == (expected[path], mark)

    def fault(path: str) -> str | None:
        if path not in entries:
            return "is missing"
        if entries[path].size != expected[path].bytes:
            return f"has {entries[path].size:,} bytes, expected {expected[path].bytes:,}"
        if not is_unchanged(path) and _sha256(store, path) != expected[path].sha256:
            return "does not have the hash with which it was published"
        return None

    with ThreadPoolExecutor(THREADS) as threads:
        faults = {path: found for path, found in zip(expected, threads.map(fault, expected), strict=True) if found}
    for path, found in faults.items():
        log.warning("%s/%s: %s; the dataset is published again", store.shown, path, found)
    if faults:
        return None
    unchanged = sum(map(is_unchanged, expected))
    if unchanged < len(expected):
        _record(work, out, expected, entries)
    if PUBLISHING in entries:  # of a build that was killed right after it had written dataset.json
        store.delete(PUBLISHING)
    return Verified(dataset=commit, hashed=len(expected) - unchanged, unchanged=unchanged)


def publish(
    work: Path, files: Sequence[Place], out: str, progress: Callable[[int], None], lease: Lease | None = None
) -> None:
    """Publish the files of a dataset.

    Parameters
    ----------
    work
        Folder of finished steps.
    files
        The files that `Assemble` listed; `dataset.json` is the last.
    out
        Local folder or URL.
    progress
        Called with the size of each file once it is published.
    lease
        Of a location that is no folder: it is checked before each change.

    Raises
    ------
    DamagedError
        A file is not as its step wrote it; nothing is published.
    BuildError
        The location has files of somebody else, or another program changed files while they were published.
    LeaseError
        Another build has taken the location over.
    """
    _check_sources(work, files)
    store = Store(out)
    wanted = {file.path: file.info for file in files}
    inventory = take_inventory(store, work, out, wanted=wanted)
    record = Published.read(work, out)
    check = lease.check if lease is not None else lambda: None
    check()
    announce(store, inventory, wanted)

    def delete(path: str) -> None:
        check()
        store.delete(path, mark=inventory.entries[path].mark)

    if COMMIT in inventory.entries:
        delete(COMMIT)
    folder = None if store.remote else local_path(out)
    temporaries: SimpleQueue[str] = SimpleQueue()
    for name in TEMPORARIES:
        temporaries.put(name)
    if folder is not None:
        sync(folder)

    def send(file: Place) -> str | None:
        present = inventory.entries.get(file.path) if file.path != COMMIT else None
        mark = present.mark if present is not None else None
        if mark is None or record.files.get(file.path) != PublishedFile(info=file.info, mark=mark):
            if folder is not None:
                name = temporaries.get()
                try:
                    _copy(file, work, folder, folder / name)
                finally:
                    temporaries.put(name)
            elif lease is not None:
                lease.put(store, file.source(work), file.path, mark=mark)
            else:
                store.put(file.source(work), file.path)
            mark = store.mark(file.path)
        progress(file.info.bytes)
        return mark

    *others, commit = files
    with ThreadPoolExecutor(THREADS if store.remote else len(TEMPORARIES)) as threads:
        marks = dict(zip((file.path for file in others), threads.map(send, others), strict=True))
    for path in inventory.stale(wanted):
        delete(path)
    if folder is not None:
        _tidy(folder, {(folder / path).parent for path in wanted})
    entries = store.entries(FOLDERS)
    for path, mark in marks.items():
        if path not in entries or (entries[path].size, entries[path].mark) != (wanted[path].bytes, mark):
            raise BuildError(
                f"{store.shown}/{path}: changed while the dataset was being published; another program writes there. "
                "Stop it and run the build again"
            )
    marks[COMMIT] = send(commit)
    _record(work, out, wanted, {path: Entry(kind="file", mark=mark) for path, mark in marks.items()})
    store.delete(PUBLISHING)
    if folder is not None:
        sync(folder)


def _record(work: Path, out: str, files: "dict[str, FileInfo]", entries: "dict[str, Entry]") -> None:
    published = {path: PublishedFile(info=info, mark=entries[path].mark) for path, info in files.items()}
    Published(out=Published.read(work, out).out, files=published).write(work)


def _check_sources(work: Path, files: Sequence[Place]) -> None:
    """Discard the steps of files that do not have the recorded hash."""

    def is_sound(file: Place) -> bool:
        source = file.source(work)
        try:
            with source.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            return source.stat().st_size == file.info.bytes and digest == file.info.sha256
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(THREADS) as threads:
        damaged = [file for file, sound in zip(files, threads.map(is_sound, files), strict=True) if not sound]
    for stage, key in {(file.stage, file.key) for file in damaged}:
        with suppress(FileNotFoundError):
            discard(work, stage, key)
    if damaged:
        raise DamagedError(
            f"{', '.join(file.path for file in damaged[:5])}: not as the build wrote it in {work} (the disk or another "
            "program changed it)"
        )


def _copy(file: Place, work: Path, folder: Path, temporary: Path) -> None:
    """Copy a file by way of a temporary one in the same folder, and check the hash of what was copied."""
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    digest = hashlib.sha256()
    with file.source(work).open("rb") as source, temporary.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
            cloned = True
        except OSError:
            cloned = False
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            if not cloned:
                copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != file.info.sha256:
        temporary.unlink()
        discard(work, file.stage, file.key)
        raise DamagedError(f"{file.path}: changed in {work} while it was copied")
    os.replace(temporary, target)


def _tidy(folder: Path, used: set[Path]) -> None:
    """Delete empty folders of earlier datasets, and have the others written to disk."""
    for name in TEMPORARIES:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        for base, _, _ in os.walk(folder / name, topdown=False):
            if not os.listdir(base):
                os.rmdir(base)
    for path in used:
        sync(path)


def _sha256(store: Store, path: str) -> str:
    digest = hashlib.sha256()
    with store.open(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
