"""Publish: put the assembled files where the dataset belongs, a folder or any fsspec URL.

`dataset.json` is removed first and written last, so at no moment does it claim a
dataset that is not whole. Locally, files are linked to the work folder's where
the file system can, else copied.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corpus.contract import COMMIT, FOLDERS, DatasetError, DatasetInfo, parse_dataset
from pipeline.dataset.assemble import Place
from pipeline.dataset.store import Store, is_url
from pipeline.engine.step import BuildError, discard, sync

TEMPORARY = ".publishing"
UPLOADS = 8
"""Files sent at a time."""


def read_commit(out: str) -> DatasetInfo | None:
    """`dataset.json` of a published dataset all of whose files are there in their full size, else None."""
    store = Store(out)
    try:
        commit = parse_dataset(store.read_unhashed(COMMIT), out)
        sizes = store.sizes()
    except (FileNotFoundError, DatasetError):
        return None
    return commit if all(sizes.get(path) == file.bytes for path, file in commit.files.items()) else None


def publish(work: Path, files: Sequence[Place], out: str, progress: Callable[[int], None]) -> None:
    """Place the files of a dataset.

    Parameters
    ----------
    work
        Folder of finished steps.
    files
        The files that `Assemble` listed.
    out
        Local folder or URL.
    progress
        Told the bytes of each file as it is placed.

    Raises
    ------
    BuildError
        A file is no longer as its step made it; that step is discarded, to be run anew.
    """
    places = [(file.path, file.source(work)) for file in files]
    for file, (path, source) in zip(files, places, strict=True):
        if not source.exists() or source.stat().st_size != file.info.bytes:
            discard(work, file.stage, file.key)
            raise BuildError(
                f"{path}: was changed since it was built (a dataset's files and those in {work} are the same ones); "
                "run the build again, which makes it anew"
            )
    if is_url(out):
        _upload(places, Store(out), progress)
    else:
        _link(places, Path(out), progress)


def _link(places: Sequence[tuple[str, Path]], out: Path, progress: Callable[[int], None]) -> None:
    (out / COMMIT).unlink(missing_ok=True)
    sync(out)
    temporary = out / TEMPORARY
    wanted = {path for path, _ in places}
    for name in FOLDERS:
        for path in sorted((out / name).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(out).as_posix() not in wanted:
                path.unlink()
    for name, source in places:
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == COMMIT:
            for parent in {(out / path).parent for path in wanted}:
                sync(parent)
        if not (target.exists() and target.samefile(source)):
            temporary.unlink(missing_ok=True)
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)
                sync(temporary)
            os.replace(temporary, target)
        progress(target.stat().st_size)
    temporary.unlink(missing_ok=True)
    sync(out)


def _upload(places: Sequence[tuple[str, Path]], store: Store, progress: Callable[[int], None]) -> None:
    try:
        before = store.sizes()
    except FileNotFoundError:
        before = {}
    if COMMIT in before:
        store.remove(COMMIT)

    def send(place: tuple[str, Path]) -> None:
        path, source = place
        store.put(source, path)
        progress(source.stat().st_size)

    *files, commit = places
    with ThreadPoolExecutor(UPLOADS) as threads:
        list(threads.map(send, files))
    wanted = {path for path, _ in places}
    for path in before:
        if path not in wanted and path != COMMIT:
            store.remove(path)
    send(commit)
