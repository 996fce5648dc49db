"""Inventory: which files at a dataset's location are of a dataset of ours, and which are somebody else's.

    dataset.json, .publishing.json, the record in the work folder ─▶ our files, by name and size
    everything at the location ─ compared ─▶ Inventory, or an error that names what is not ours

Publishing writes and deletes only what an inventory lists. `.publishing.json` exists while files are published and
lists what may be found after an interruption: the files of the dataset before, and those that are being written.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from corpus.contract import COMMIT, FILES, FOLDERS, PUBLISHING, FileInfo, FilePath, is_inside
from corpus.schema import MAX_BYTES, Count
from corpus.storage.lease import LEASE
from corpus.storage.store import Entry, Store
from pipeline.engine.step import BuildError

PUBLISHED = "published.json"
"""Record in the work folder of what was published last."""
TEMPORARIES = (".publishing", ".publishing-2", ".publishing-3", ".publishing-4")
"""Names of files in a dataset's folder while they are copied, one for each file that is copied at a time."""
BOOKKEEPING = (".lock", ".work", LEASE, *TEMPORARIES, PUBLISHING, f"{PUBLISHING}.part")
"""What else a build has at a dataset's location; publishing does not look into it."""
SHOWN = 5
"""Files that an error message names."""

Sizes = dict[str, set[int]]
"""Sizes that a file of ours may have, by path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file as it was published or last verified."""

    info: FileInfo
    mark: str | None
    """`Entry.mark` when its hash was known to be that of `info`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Content of `PUBLISHED`."""

    out: str
    """Hash of the location, which may contain credentials."""
    files: dict[str, PublishedFile]
    """Every file of the dataset, `dataset.json` included."""

    @classmethod
    def read(cls, work: Path, out: str) -> "Published":
        """Read the record of a location; it is empty if there is none, or if it cannot be read."""
        try:
            found = _RECORD.validate_json((work / PUBLISHED).read_bytes())
            if found.out == _identity(out):
                return found
        except (OSError, ValidationError):
            pass
        return cls(out=_identity(out), files={})

    def write(self, work: Path) -> None:
        """Replace the record in a work folder."""
        Store(str(work)).write(PUBLISHED, _RECORD.dump_json(self))


_RECORD = TypeAdapter(Published)
_UNFINISHED = TypeAdapter(dict[FilePath, list[Count]])


def _identity(out: str) -> str:
    return hashlib.sha256(out.rstrip("/").encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The files at a location, all of them of a dataset of ours."""

    entries: dict[str, Entry]
    known: Sizes
    """What may be there; a file may have several sizes while it is replaced."""

    def stale(self, wanted: Iterable[str]) -> list[str]:
        """Return the files of ours that are there and not wanted."""
        return sorted((self.entries.keys() & self.known.keys()) - set(wanted) - {COMMIT})


def take_inventory(store: Store, work: Path, out: str, *, wanted: Iterable[str] | None = None) -> Inventory:
    """List a dataset's location and check that nothing there is somebody else's.

    Parameters
    ----------
    store, out
        The location.
    work
        Work folder of the build, which may be inside.
    wanted
        Files that are going to be replaced, so that their present size does not matter; None: not known yet.

    Raises
    ------
    BuildError
        There are files that no dataset of ours lists by their name and size, or links; the message names some.
    """
    try:
        listed = _listed(store.read_confirmed(COMMIT, at_most=MAX_BYTES + 1))
    except FileNotFoundError:
        listed = None
    entries = store.entries(FOLDERS)
    known = _known(store, entries, listed, Published.read(work, out))
    foreign = []
    for path, entry in sorted(entries.items()):
        if path in BOOKKEEPING or (not store.remote and _holds(Path(out), path, work)):
            continue
        if entry.kind == "link":
            foreign.append(f"{path} (a link)")
        elif entry.kind != "file":
            foreign.append(f"{path}/" if entry.kind == "folder" else f"{path} (not a file)")
        elif path not in known:
            foreign.append(f"{path} (not of a dataset of this format)" if path == COMMIT else path)
        elif entry.size not in known[path] and (path == COMMIT or (wanted is not None and path not in wanted)):
            foreign.append(f"{path} ({entry.size:,} bytes, expected {max(known[path]):,})")
    if foreign:
        shown = [name if name.isprintable() else repr(name) for name in foreign[:SHOWN]]
        more = f" and {len(foreign) - SHOWN:,} more" if len(foreign) > SHOWN else ""
        raise BuildError(
            f"{store.shown}: contains files that no dataset published there lists: {', '.join(shown)}{more}. "
            "A build replaces and deletes only files of its own, so nothing was changed: move or delete these, or use "
            "another --out"
        )
    return Inventory(entries=entries, known=known)


def announce(store: Store, inventory: Inventory, files: Mapping[str, FileInfo]) -> None:
    """Record which files may be found at the location until the publication of `files` is complete."""
    sizes = {path: set(known) for path, known in inventory.known.items() if path in inventory.entries}
    for path, info in files.items():
        sizes.setdefault(path, set()).add(info.bytes)
    store.write(PUBLISHING, _UNFINISHED.dump_json({path: sorted(known) for path, known in sorted(sizes.items())}))


def _holds(out: Path, path: str, work: Path) -> bool:
    """Whether an entry at the top of a folder is the work folder, or contains it."""
    return work.resolve().is_relative_to((out / path).resolve())


def _known(store: Store, entries: Mapping[str, Entry], listed: Mapping[str, int] | None, record: Published) -> Sizes:
    known: Sizes = {path: {file.info.bytes} for path, file in record.files.items()}
    if listed is not None and COMMIT in entries:
        for path, size in {**listed, COMMIT: entries[COMMIT].size}.items():
            known.setdefault(path, set()).add(size)
    if PUBLISHING in entries:
        try:
            unfinished = _UNFINISHED.validate_json(store.read(PUBLISHING))
        except ValidationError:
            unfinished = {}
        for path, sizes in unfinished.items():
            if _may_be_ours(path):
                known.setdefault(path, set()).update(sizes)
    return known


def _listed(content: bytes) -> dict[str, int] | None:
    """Sizes of the files that a `dataset.json` of this or an earlier format lists; None if it is something else."""
    try:
        found = json.loads(content)
        if not str(found["format"]).startswith("millrace-dataset/"):
            return None
        return {str(path): int(file["bytes"]) for path, file in found["files"].items() if _may_be_ours(path)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _may_be_ours(path: str) -> bool:
    return is_inside(path) and (path in (*FILES, COMMIT) or (path.partition("/")[0] in FOLDERS and "/" in path))
