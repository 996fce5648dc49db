"""The dataset contract's fixed names, shared by what writes a dataset and what checks it."""

import hashlib

FORMAT = "millrace-dataset/1"
COMMIT = "dataset.json"
"""Written last: a folder without it is no dataset."""
FILES = ("README.md", "lengths.npy", "mix.lock.yaml", "strata.json")
"""Files beside it, outside of subfolders."""
FOLDERS = ("shards", "tokenizer", "curated", "eval", "ledger", "report")
"""Subfolders that belong to the dataset: a rebuild removes from them what is no part of it."""


def fingerprint(*, index: bytes, lengths: bytes, strata: bytes, tokenizer: bytes) -> str:
    """sha256 over the contents of shards/index.json, lengths.npy, strata.json and tokenizer.json."""
    return hashlib.sha256(index + lengths + strata + tokenizer).hexdigest()
