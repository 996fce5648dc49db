"""A built dataset with its sidecars verified and on this machine.

    dataset.json ─▶ what the dataset is, and the hash of every other file
    strata.json, lengths.npy ─▶ trainer.data.plan        tokenizer/tokenizer.json ─▶ evaluation, checkpoints
    shards/index.json ─▶ trainer.data.shards              eval/*.jsonl ─▶ evaluation

The content is parsed and checked by `corpus.contract`, `corpus.dataset` and `model.tokenizer`. Shards are verified by
`trainer.data.shards` when they are first read.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from corpus.contract import (
    COMMIT,
    LENGTHS,
    SHARD_INDEX,
    STRATA,
    DatasetInfo,
    FileInfo,
    ShardInfo,
    Stratum,
    parse_dataset,
    parse_index,
    parse_strata,
)
from corpus.dataset import absent, check_lengths, load_lengths, unfinished
from corpus.schema import MAX_BYTES
from model.tokenizer import TokenizerError, parse_tokenizer
from trainer.data.fetch import STORAGE_TIMEOUT, DatasetError, Files

_REBUILT_TIMEOUT = 20.0
"""Longest time, in seconds, for reading the present dataset.json after a file could not be had as expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The verified sidecars of a dataset."""

    files: Files
    fingerprint: str
    samples: int
    tokens: int
    """Tokens of all samples."""
    max_tokens: int
    """Tokens of the longest sample."""
    epochs: int | None
    """Epochs that the samples are enough for; None: any number."""
    vocab_size: int
    special: Mapping[str, int]
    """Tag to token id, for all of `corpus.contract.SPECIAL_TOKENS`."""
    strata: tuple[Stratum, ...]
    lengths: NDArray[np.uint16]
    """[N, 2]: tokens of prefix and response of each sample; memory-mapped."""
    shards: tuple[ShardInfo, ...]
    """Content of shards/index.json."""
    tokenizer_file: Path
    eval_files: tuple[Path, ...]
    """JSON lines of held-out records, one file for each source."""

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that the samples were encoded with."""
        return Tokenizer.from_file(str(self.tokenizer_file))


def open_dataset(location: str, cache: Path, *, storage_timeout: float = STORAGE_TIMEOUT) -> Dataset:
    """Read and verify a dataset's sidecars.

    Parameters
    ----------
    location
        Folder or fsspec URL.
    cache
        Folder for the files of a remote dataset; each dataset gets a subfolder.
    storage_timeout
        Seconds for which a file of a remote dataset is retried.

    Raises
    ------
    DatasetError
        A file is missing or damaged, does not have the contract's content, or contradicts another one.
    """
    location = location.rstrip("/")
    files = Files.at(
        location, cache / hashlib.sha256(location.encode()).hexdigest()[:16], storage_timeout=storage_timeout
    )
    if not files.remote and not files.folder.is_dir():
        raise DatasetError(absent(location))
    try:
        content = files.read(COMMIT)
    except DatasetError:
        reason = unfinished(location)
        if reason is None and not files.remote and not (files.folder / COMMIT).exists():
            reason = absent(location)
        if reason is None:
            raise
        raise DatasetError(reason) from None
    info = parse_dataset(content, files.url(COMMIT))

    def get(path: str) -> Path:
        if path not in info.files:
            raise DatasetError(f"{files.url(COMMIT)}: does not list {path}; build the dataset again")
        if path.endswith(".json") and info.files[path].bytes > MAX_BYTES:
            raise DatasetError(
                f"{files.url(COMMIT)}: {path} has {info.files[path].bytes:,} bytes, expected at most {MAX_BYTES:,}; "
                "build the dataset again"
            )
        return files.get(path, lambda copy: _fault(copy, info.files[path]))

    shards = parse_index(get(SHARD_INDEX).read_bytes(), files.url(SHARD_INDEX), info=info)
    lengths = load_lengths(get(LENGTHS), files.url(LENGTHS), samples=info.samples)
    check_lengths(lengths, info, files.url(LENGTHS))
    tokenizer_file = get(info.tokenizer.file)
    _check_tokenizer(tokenizer_file, files.url(info.tokenizer.file), info)
    return Dataset(
        files=files,
        fingerprint=info.fingerprint,
        samples=info.samples,
        tokens=info.tokens,
        max_tokens=info.max_tokens,
        epochs=info.epochs,
        vocab_size=info.tokenizer.vocab_size,
        special=info.tokenizer.special,
        strata=parse_strata(get(STRATA).read_bytes(), files.url(STRATA), samples=info.samples),
        lengths=lengths,
        shards=shards,
        tokenizer_file=tokenizer_file,
        eval_files=tuple(get(path) for path in info.eval.files),
    )


def check_not_rebuilt(files: Files, fingerprint: str) -> None:
    """Raise if another dataset than the one that was opened is at its location now.

    Parameters
    ----------
    files, fingerprint
        Of the dataset that was opened. If its dataset.json cannot be read now, nothing is raised.

    Raises
    ------
    DatasetError
        The dataset was rebuilt; the message says what to do.
    """
    try:
        timeout = min(files.storage_timeout / 4, _REBUILT_TIMEOUT)
        content = Files.at(files.origin, files.folder, storage_timeout=timeout).read(COMMIT)
        found = parse_dataset(content, files.url(COMMIT)).fingerprint
    except DatasetError:
        return
    if found != fingerprint:
        raise DatasetError(
            f"{files.url(COMMIT)}: the dataset was rebuilt while it was in use: its fingerprint was {fingerprint[:16]} "
            f"and is {found[:16]}. Start a new run (out=…) on the new dataset, or restore the earlier one to continue; "
            "a dataset that runs may use is better rebuilt under another URL"
        )


def _check_tokenizer(file: Path, where: str, info: DatasetInfo) -> None:
    """Raise unless a file is a tokenizer with the ids that dataset.json records."""
    try:
        tokenizer = parse_tokenizer(file.read_bytes(), info.tokenizer.special)
    except TokenizerError as error:
        raise DatasetError(f"{where}: {error}; build the dataset again") from None
    found = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    if found != info.tokenizer.vocab_size:
        raise DatasetError(
            f"{where}: has token ids below {found:,}, expected {info.tokenizer.vocab_size:,} as in {COMMIT}; build the "
            "dataset again"
        )


def _fault(file: Path, expected: FileInfo) -> str | None:
    """Return how a file differs from what dataset.json records, as a phrase; None if it does not."""
    size = file.stat().st_size
    if size != expected.bytes:
        return f"has {size:,} bytes, expected {expected.bytes:,} as in {COMMIT}"
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != expected.sha256:
            return f"does not have the hash in {COMMIT}"
    return None
