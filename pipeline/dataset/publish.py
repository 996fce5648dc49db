"""Publication of a dataset: its files are linked into a folder or uploaded to an fsspec URL.

    `Place` of each file (path, step, size) ─▶ checked ─▶ linked, copied or uploaded ─▶ dataset.json

`dataset.json` is removed first and written last, so that it never describes an incomplete dataset. In a folder, files
are hard links to those of the work folder where the file system supports it, else copies.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corpus.contract import COMMIT, FILES, FOLDERS, DatasetError, DatasetInfo, parse_dataset
from corpus.storage.location import is_url, local_path
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.store import Store
from pipeline.dataset.assemble import Place
from pipeline.engine.step import BuildError, discard, sync

TEMPORARY = ".publishing"
"""Name of a file in a dataset's folder while it is linked or copied."""
UPLOADS = 8
"""Files uploaded at a time."""


def dataset_sizes(store: Store) -> dict[str, int]:
    """Bytes of each file that is part of a dataset, or could be by its location."""
    sizes = store.list(FOLDERS)
    return {path: size for path, size in sizes.items() if "/" in path or path in (*FILES, COMMIT)}


def read_commit(out: str) -> DatasetInfo | None:
    """`dataset.json` of a published dataset, or None if there is none or a file of it has another size."""
    store = Store(out, attempts=INTERACTIVE_ATTEMPTS)
    try:
        commit = parse_dataset(store.read_confirmed(COMMIT), out)
        sizes = dataset_sizes(store)
    except (FileNotFoundError, DatasetError):
        return None
    return commit if all(sizes.get(path) == file.bytes for path, file in commit.files.items()) else None


def publish(work: Path, files: Sequence[Place], out: str, progress: Callable[[int], None]) -> None:
    """Publish the files of a dataset.

    Parameters
    ----------
    work
        Folder of finished steps.
    files
        The files that `Assemble` listed.
    out
        Local folder or URL.
    progress
        Called with the size of each file once it is published.

    Raises
    ------
    BuildError
        A file has changed since its step wrote it; the result of that step is deleted, so that it runs again.
    """
    places = [(file.path, file.source(work)) for file in files]
    for file, (path, source) in zip(files, places, strict=True):
        if not source.exists() or source.stat().st_size != file.info.bytes:
            discard(work, file.stage, file.key)
            raise BuildError(
                f"{path}: has changed since it was built (a dataset's files are hard links to those in {work}); "
                "run the build again, which rebuilds it"
            )
    if is_url(out):
        _upload(places, Store(out), progress)
    else:
        _link(places, local_path(out), progress)


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
    before = dataset_sizes(store)
    if COMMIT in before:
        store.delete(COMMIT)

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
            store.delete(path)
    send(commit)
