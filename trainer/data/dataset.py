"""A built dataset as the trainer sees it: its sidecars, read and checked.

    dataset.json ─▶ what the dataset is, and the hash of every other file
    strata.json, lengths.npy ─▶ trainer.data.plan        tokenizer/tokenizer.json ─▶ evaluation, checkpoints
    shards/index.json ─▶ trainer.data.shards              eval/*.jsonl ─▶ evaluation

Nothing here is executed or unpickled. The shards themselves are checked by
`trainer.data.shards` when they are first read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from corpus.contract import SPECIAL_TOKENS
from trainer.data.draw import Stratum
from trainer.data.fetch import DEADLINE, DatasetError, Files

FORMAT = "millrace-dataset/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The sidecars of a dataset."""

    files: Files
    fingerprint: str
    samples: int
    tokens: int
    """Tokens of all samples together."""
    vocab_size: int
    special: Mapping[str, int]
    """Tag to token id, for all of `corpus.contract.SPECIAL_TOKENS`."""
    strata: tuple[Stratum, ...]
    lengths: NDArray[np.uint16]
    """[N, 2]: prefix and response length of each sample, in tokens; memory-mapped."""
    tokenizer_file: Path
    eval_files: tuple[Path, ...]
    """JSONL of held-out questions, one file a source."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer the samples were made with."""
        return Tokenizer.from_file(str(self.tokenizer_file))


def open_dataset(location: str, cache: Path, *, deadline: float = DEADLINE) -> Dataset:
    """Read and check a dataset's sidecars.

    Parameters
    ----------
    location
        Folder or fsspec URL.
    cache
        Folder for the files of a remote dataset; each dataset gets a subfolder.
    deadline
        Seconds after which a file of a remote dataset that cannot be fetched is an error.

    Raises
    ------
    DatasetError
        A file is missing, damaged or contradicts another, or the format is another one.
    """
    location = location.rstrip("/")
    files = Files.at(location, cache / hashlib.sha256(location.encode()).hexdigest()[:16], deadline=deadline)
    if not files.remote and not files.folder.is_dir():
        raise DatasetError(f"{location}: there is no such folder; build a dataset first, or set data=PATH")
    where = files.url("dataset.json")
    about = _parse(files.read("dataset.json"), where)
    if about.get("format") != FORMAT:
        raise DatasetError(f"{where}: has format {about.get('format')!r}; expected {FORMAT!r}")
    return _read(files, about)


def _read(files: Files, about: dict[str, Any]) -> Dataset:
    where = files.url("dataset.json")
    try:
        hashes = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in about["files"].items()}
        samples, special = int(about["samples"]), {str(k): int(v) for k, v in about["tokenizer"]["special"].items()}
        vocab_size, tokenizer_name = int(about["tokenizer"]["vocab_size"]), str(about["tokenizer"]["file"])
        eval_names = [str(name) for name in about["eval"]["files"]]
        fingerprint, tokens = str(about["fingerprint"]), int(about["tokens"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{where}: lacks a field or has one of another type ({error!r}); build the dataset again"
        ) from None

    def get(name: str) -> Path:
        if name not in hashes:
            raise DatasetError(f"{where}: lists no hash for {name}; build the dataset again")
        return files.get(name, lambda path: _fault(path, *hashes[name]))

    missing = [tag for tag in SPECIAL_TOKENS if tag not in special]
    if missing:
        raise DatasetError(f"{where}: the tokenizer lacks the special token {missing[0]}; build the dataset again")
    if vocab_size > 1 << 16 or max(special.values()) >= vocab_size:
        raise DatasetError(f"{where}: vocab_size {vocab_size} does not hold all token ids of a uint16 dataset")
    get("shards/index.json")
    lengths = np.load(get("lengths.npy"), mmap_mode="r", allow_pickle=False)
    if lengths.shape != (samples, 2) or lengths.dtype != np.uint16:
        raise DatasetError(
            f"{files.url('lengths.npy')}: is {lengths.dtype} {list(lengths.shape)}; expected uint16 [{samples}, 2]"
        )
    return Dataset(
        files=files,
        fingerprint=fingerprint,
        samples=samples,
        tokens=tokens,
        vocab_size=vocab_size,
        special=special,
        strata=_strata(files, get("strata.json"), samples),
        lengths=lengths,
        tokenizer_file=get(tokenizer_name),
        eval_files=tuple(get(name) for name in eval_names),
    )


def _strata(files: Files, path: Path, samples: int) -> tuple[Stratum, ...]:
    where = files.url("strata.json")
    strata = []
    at = 0
    for entry in _parse(path.read_bytes(), where).get("strata", []):
        try:
            stratum = Stratum(**entry)
        except TypeError as error:
            raise DatasetError(f"{where}: an entry is not a stratum ({error}); build the dataset again") from None
        if stratum.begin != at or stratum.end < stratum.begin or stratum.repeat < 0:
            raise DatasetError(
                f"{where}: stratum {stratum.source}/{stratum.task} covers [{stratum.begin}, {stratum.end}) × "
                f"{stratum.repeat}; expected it to begin at {at}, where the one before ends"
            )
        strata.append(stratum)
        at = stratum.end
    if at != samples:
        raise DatasetError(f"{where}: the strata cover {at:,} samples; dataset.json counts {samples:,}")
    return tuple(strata)


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError as error:
        raise DatasetError(f"{where}: is not valid JSON ({error}); build the dataset again") from None
    if not isinstance(data, dict):
        raise DatasetError(f"{where}: holds {type(data).__name__}; expected an object")
    return data


def _fault(path: Path, size: int, sha256: str) -> str | None:
    found = path.stat().st_size
    if found != size:
        return f"has {found:,} bytes; dataset.json says {size:,}"
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return "does not have the hash that dataset.json says"
    return None
