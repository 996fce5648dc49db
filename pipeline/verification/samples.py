"""Checks of samples: counts, the tokenizer, and every byte of the shards.

Shards are parsed here and not by a reader that might tolerate faults.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from corpus.contract import (
    COMMIT,
    END_OF_PREFIX,
    LENGTHS,
    SHARD_INDEX,
    SPECIAL_TOKENS,
    START,
    ShardInfo,
    TokenizerInfo,
    parse_index,
)
from corpus.dataset import Dataset, load_lengths
from corpus.storage.location import local_path
from corpus.storage.store import Store
from pipeline.records.id_parts import halves_of
from pipeline.verification.row_ids import SampleIds

PART_ROWS = 2**20
"""Samples whose lengths are in memory at a time."""


@dataclass(slots=True, kw_only=True)
class Sidecars:
    """What the checks of samples need of a dataset, empty until `sidecar_problems` has read it."""

    lengths: NDArray[np.uint16] = field(default_factory=lambda: np.empty((0, 2), np.uint16))
    """uint16 [N, 2], mapped from a file: 4 bytes for each sample, which the system need not keep in memory."""
    shards: Sequence[ShardInfo] = ()


def sidecar_problems(dataset: Dataset, sidecars: Sidecars, scratch: Path) -> Iterator[str]:
    """Read lengths, strata and index, which raise their problems, into `sidecars`.

    Parameters
    ----------
    dataset
        The dataset.
    sidecars
        Are filled.
    scratch
        Folder for a copy of the lengths of a dataset that is not on this machine.
    """
    lengths = local_path(dataset.location) / LENGTHS
    if Store(dataset.location).remote:
        lengths = scratch / LENGTHS
        with dataset.open(LENGTHS) as source, lengths.open("wb") as copy:
            shutil.copyfileobj(source, copy, PART_ROWS)
    sidecars.lengths = load_lengths(lengths, dataset.url(LENGTHS), samples=dataset.info.samples)
    _ = dataset.strata
    sidecars.shards = parse_index(dataset.read(SHARD_INDEX), dataset.url(SHARD_INDEX), info=dataset.info)
    yield from ()


def count_problems(dataset: Dataset, lengths: NDArray[np.uint16]) -> Iterator[str]:
    """Yield numbers of samples and tokens in dataset.json that are not those of lengths.npy."""
    info = dataset.info
    prefix = response = longest = 0
    for begin in range(0, len(lengths), PART_ROWS):
        part = lengths[begin : begin + PART_ROWS].astype(np.int64)
        prefix, response = prefix + int(part[:, 0].sum()), response + int(part[:, 1].sum())
        longest = max(longest, int(part.sum(axis=1).max()))
    counted = {
        "samples": (info.samples, len(lengths)),
        "tokens": (info.tokens, prefix + response),
        "prefix_tokens": (info.prefix_tokens, prefix),
        "response_tokens": (info.response_tokens, response),
        "max_tokens": (info.max_tokens, longest),
    }
    for name, (recorded, found) in counted.items():
        if recorded != found:
            yield f"{name}: {COMMIT} has {recorded:,}, {LENGTHS} {found:,}"
    tokens = dict.fromkeys(info.counts, 0)
    for stratum in dataset.strata:
        if stratum.source not in tokens:
            yield f"source {stratum.source}: is in strata.json, but not in {COMMIT}"
            continue
        tokens[stratum.source] += int(lengths[stratum.begin : stratum.end].sum(dtype=np.int64))
    for name, count in info.counts.items():
        if count.tokens != tokens[name]:
            yield f"source {name}: {COMMIT} has {count.tokens:,} tokens, its strata {tokens[name]:,}"


def tokenizer_problems(dataset: Dataset) -> Iterator[str]:
    """Yield facts about the tokenizer in dataset.json that are not those of its file."""
    info = dataset.info.tokenizer
    if info.file not in dataset.info.files or dataset.info.files[info.file].sha256 != info.sha256:
        yield "its sha256 is not that of its file"
        return
    content = json.loads(dataset.read(info.file))
    ids = {**content["model"]["vocab"], **{token["content"]: token["id"] for token in content["added_tokens"]}}
    if max(ids.values()) + 1 != info.vocab_size:
        yield f"vocab_size is {info.vocab_size:,}, but the largest id is {max(ids.values()):,}"
    for token in SPECIAL_TOKENS:
        if info.special[token] != ids.get(token):
            yield f"{token}: {COMMIT} has id {info.special[token]}, the tokenizer {ids.get(token)}"


def shard_problems(dataset: Dataset, sidecars: Sidecars, ids: SampleIds) -> Iterator[str]:
    """Yield shards that are not as index, lengths and template require.

    Parameters
    ----------
    dataset, sidecars
        The dataset, with its lengths and the entries of its index.
    ids
        The row ids of each sound shard are added to it.
    """
    first = 0
    shards, lengths = sidecars.shards, sidecars.lengths
    if len(shards) != dataset.info.shards:
        yield f"{COMMIT} has {dataset.info.shards:,} shards, {SHARD_INDEX} {len(shards):,}"
    for shard in shards:
        path = f"shards/{shard.raw_data.basename}"
        content = dataset.read(path)
        if shard.raw_data.bytes != len(content):
            yield f"{path}: has {len(content):,} bytes, expected {shard.raw_data.bytes:,} as in {SHARD_INDEX}"
        if shard.raw_data.hashes["xxh64"] != xxhash.xxh64(content).hexdigest():
            yield f"{path}: its xxh64 is not that of {SHARD_INDEX}"
        try:
            found = _row_ids(content, lengths[first : first + shard.samples], dataset.info.tokenizer)
            ids.add(np.arange(first, first + len(found)), halves_of(found.tobytes()))
        except ValueError as error:
            yield f"{path}: {error}"
        first += shard.samples
    if first != len(lengths):
        yield f"the shards have {first:,} samples, {LENGTHS} {len(lengths):,}"


def _row_ids(content: bytes, lengths: NDArray[np.uint16], tokenizer: TokenizerInfo) -> NDArray[np.uint8]:
    """Return the row ids, uint8 [n, 16], of a shard; ValueError if a sample is not as lengths and template require.

    A sample is: sizes of row_id and tokens (2 x uint32), prefix_len (uint16), row_id (16 bytes), and tokens: a byte
    whose bit 0 is set if the number of tokens takes two bytes, the number, the tokens (uint16 or uint32).
    """
    data = np.frombuffer(content, np.uint8)
    count = int(np.frombuffer(content, "<u4", 1)[0])
    if count != len(lengths):
        raise ValueError(f"has {count:,} samples, expected {len(lengths):,}")
    offsets = np.frombuffer(content, "<u4", count + 1, 4).astype(np.int64)
    if offsets[-1] != len(content) or (np.diff(offsets) <= 27).any():
        raise ValueError("its offsets do not fit its size")
    begin = offsets[:-1]
    prefix = data[begin + 8] + 256 * data[begin + 9].astype(np.int64)
    wide = data[begin + 26] & 1
    sizes = data[begin + 27] + 256 * np.where(wide, data[begin + 27 + wide], 0).astype(np.int64)
    total = lengths.sum(axis=1, dtype=np.int64)
    token_bytes = np.dtype(tokenizer.token_dtype).itemsize
    stored = np.diff(offsets) - 28 - wide
    bad = np.flatnonzero((prefix != lengths[:, 0]) | (sizes != total) | (stored != token_bytes * total))
    if len(bad):
        raise ValueError(f"sample {bad[0]} does not have the length in {LENGTHS}")
    tokens = begin + 28 + wide

    def token_at(place: NDArray[np.int64]) -> NDArray[np.int64]:
        at = (tokens + token_bytes * place)[:, None] + np.arange(token_bytes)
        return data[at].view(tokenizer.token_dtype)[:, 0].astype(np.int64)

    start, end = token_at(np.zeros_like(total)), token_at(prefix - 1)
    special = tokenizer.special
    bad = np.flatnonzero((start != special[START]) | (end != special[END_OF_PREFIX]))
    if len(bad):
        raise ValueError(f"the prefix of sample {bad[0]} does not begin and end with its tags")
    ids: NDArray[np.uint8] = data[begin[:, None] + np.arange(10, 26)]
    return ids
