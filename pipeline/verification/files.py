"""Checks of files: all that dataset.json lists are there with their hashes, and no others."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack

from corpus.contract import COMMIT, FINGERPRINTED, LOCK, REQUIRED, DatasetError, fingerprint
from corpus.dataset import Dataset
from corpus.storage.store import Store
from pipeline.dataset.publish import dataset_sizes

_CHUNK = 2**20


def file_problems(dataset: Dataset) -> Iterator[str]:
    """Yield files that are missing, have changed, or do not belong to the dataset."""
    files = dataset.info.files
    for path in REQUIRED:
        if path not in files:
            yield f"{COMMIT} does not list {path}"
    for path, expected in sorted(files.items()):
        digest, size = hashlib.sha256(), 0
        try:
            with dataset.open(path) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        except DatasetError:
            yield f"{path}: is missing"
            continue
        except OSError as error:
            yield f"{path}: {error}"
            continue
        if size != expected.bytes:
            yield f"{path}: has {size:,} bytes, expected {expected.bytes:,}"
        elif digest.hexdigest() != expected.sha256:
            yield f"{path}: its content has changed (sha256 differs)"
    for path in sorted(set(dataset_sizes(Store(dataset.location))) - {*files, COMMIT}):
        yield f"{path}: is not part of the dataset"


def fingerprint_problems(dataset: Dataset) -> Iterator[str]:
    """Yield hashes in dataset.json that are not those of the files they are of."""
    with ExitStack() as stack:
        found = fingerprint(stack.enter_context(dataset.open(path)) for path in FINGERPRINTED)
    if found != dataset.info.fingerprint:
        yield f"is {found}, expected {dataset.info.fingerprint} as in {COMMIT}"
    if dataset.info.files[LOCK].sha256 != dataset.info.lock_sha256:
        yield f"lock_sha256 is not the hash of {LOCK}"
