"""The dataset contract's fixed names, shared by what writes a dataset and what checks it."""

import hashlib
from collections.abc import Iterable
from typing import IO

FORMAT = "millrace-dataset/1"
COMMIT = "dataset.json"
"""Written last: a folder without it is no dataset."""
FILES = ("README.md", "lengths.npy", "mix.lock.yaml", "strata.json")
"""Files beside it, outside of subfolders."""
FOLDERS = ("shards", "tokenizer", "curated", "eval", "ledger", "report")
"""Subfolders that belong to the dataset: a rebuild removes from them what is no part of it."""


FINGERPRINTED = ("shards/index.json", "lengths.npy", "strata.json", "tokenizer/tokenizer.json")
"""Files whose contents, one after the other, the fingerprint is the sha256 of."""


def fingerprint(files: Iterable[IO[bytes]]) -> str:
    """sha256 over the contents of the `FINGERPRINTED` files, in their order."""
    digest = hashlib.sha256()
    for file in files:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
