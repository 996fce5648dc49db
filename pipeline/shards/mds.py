"""MDS shards, written as columns: byte for byte what mosaicml-streaming's `MDSWriter` writes for the same samples.

Columns, in MDS's alphabetical order: `prefix_len` uint16, `row_id` 16 bytes, `tokens` ndarray of uint16 or uint32.
Whole columns need no Python call per sample and no import of torch; tests compare the bytes with `MDSWriter`'s.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import xxhash
from numpy.typing import NDArray

from corpus.contract import TokenDtype, columns

Tokens = NDArray[np.uint16] | NDArray[np.uint32]

_SIZES = [2, None, None]
_FIXED = 4 + 8 + 2 + 16
"""Bytes of a sample besides the tokens' array: its offset, two sizes, prefix_len, row_id."""


def sample_bytes(lengths: NDArray[np.int64], token_bytes: int) -> NDArray[np.int64]:
    """Return the bytes (n,) that samples of `lengths` (n,) tokens take in a shard, including their offset."""
    return _FIXED + 1 + np.where(lengths < 2**8, 1, 2) + token_bytes * lengths


def cut(lengths: NDArray[np.int64], size_limit: int, dtype: TokenDtype) -> list[tuple[int, int]]:
    """Cut samples into ranges of one shard each: as few as possible, of about equal size.

    Parameters
    ----------
    lengths
        int64 (n,): tokens of each sample.
    size_limit
        Largest size of a shard in bytes; a larger sample has a shard to itself.
    dtype
        Type of the tokens.
    """
    room = size_limit - len(_header(size_limit, dtype)) - 8
    ends = np.cumsum(sample_bytes(lengths, np.dtype(dtype).itemsize))
    total = int(ends[-1]) if len(ends) else 0
    target = -(-total // max(1, -(-total // max(room, 1))))
    ranges = []
    begin, before = 0, 0
    while begin < len(ends):
        # Up to the target, or over it by one sample if that is within the limit.
        end = int(np.searchsorted(ends, before + target, side="left")) + 1
        while end > begin + 1 and int(ends[min(end, len(ends)) - 1]) - before > room:
            end -= 1
        end = min(end, len(ends))
        ranges.append((begin, end))
        begin, before = end, int(ends[end - 1])
    return ranges


def shard(
    tokens: Tokens,
    bounds: NDArray[np.int64],
    prefix: NDArray[np.uint16],
    row_ids: NDArray[np.uint8],
    size_limit: int,
) -> bytes:
    """Return the content of one shard file.

    Parameters
    ----------
    tokens
        uint16 or uint32: tokens of all samples, concatenated.
    bounds
        int64 (n + 1,): bounds of each sample in `tokens`.
    prefix
        uint16 (n,): prefix lengths.
    row_ids
        uint8 (n, 16).
    size_limit
        Recorded in the shard's header.
    """
    lengths = np.diff(bounds)
    dtype: TokenDtype = "uint16" if tokens.dtype == np.uint16 else "uint32"
    header = _header(size_limit, dtype)
    begin = 4 + 4 * (len(lengths) + 1) + len(header)
    sizes = sample_bytes(lengths, tokens.itemsize) - 4
    offsets = np.concatenate([[begin], begin + np.cumsum(sizes)])
    if offsets[-1] >= 2**32:
        raise ValueError(f"a shard of {offsets[-1]:,} bytes; the offsets of MDS allow less than 4 GiB")
    content = np.empty(int(offsets[-1]), np.uint8)
    content[:4] = np.frombuffer(np.uint32(len(lengths)).tobytes(), np.uint8)
    content[4 : begin - len(header)] = np.frombuffer(offsets.astype(np.uint32).tobytes(), np.uint8)
    content[begin - len(header) : begin] = np.frombuffer(header, np.uint8)
    _fill(content, offsets, tokens.view(np.uint8), tokens.itemsize, bounds, prefix, row_ids)
    return content.tobytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """A finished shard."""

    samples: int
    bytes: int
    xxh64: str
    sha256: str


def describe(content: bytes, samples: int) -> ShardInfo:
    """Return size and hashes of a shard's content."""
    return ShardInfo(
        samples=samples,
        bytes=len(content),
        xxh64=xxhash.xxh64(content).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def index(shards: Sequence[ShardInfo], size_limit: int, dtype: TokenDtype, name: Callable[[int], str]) -> str:
    """Return the text of `index.json`; `name` makes a shard's file name from its number."""
    entries = [
        {
            **_config(size_limit, dtype),
            "samples": shard.samples,
            "raw_data": {"basename": name(number), "bytes": shard.bytes, "hashes": {"xxh64": shard.xxh64}},
            "zip_data": None,
        }
        for number, shard in enumerate(shards)
    ]
    return json.dumps({"version": 2, "shards": entries}, sort_keys=True)


def _config(size_limit: int, dtype: TokenDtype) -> dict[str, object]:
    return {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": ["xxh64"],
        "size_limit": size_limit,
        "column_names": list(columns(dtype)),
        "column_encodings": list(columns(dtype).values()),
        "column_sizes": _SIZES,
    }


def _header(size_limit: int, dtype: TokenDtype) -> bytes:
    return json.dumps(_config(size_limit, dtype), sort_keys=True).encode()


@numba.njit(cache=True, nogil=True)
def _fill(
    content: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    tokens: NDArray[np.uint8],
    token_bytes: int,
    bounds: NDArray[np.int64],
    prefix: NDArray[np.uint16],
    row_ids: NDArray[np.uint8],
) -> None:
    """Write sample by sample: sizes of row_id and tokens as uint32, prefix_len, row_id, shape of tokens, tokens."""
    for sample in range(len(bounds) - 1):
        at = offsets[sample]
        length = bounds[sample + 1] - bounds[sample]
        wide = length >= 256
        size = token_bytes * length
        array_bytes = 1 + (2 if wide else 1) + size
        for byte in range(4):
            content[at + byte] = (16 >> (8 * byte)) & 255
            content[at + 4 + byte] = (array_bytes >> (8 * byte)) & 255
        content[at + 8] = prefix[sample] & 255
        content[at + 9] = prefix[sample] >> 8
        for place in range(16):  # numba takes seconds to compile assignments of slices
            content[at + 10 + place] = row_ids[sample, place]
        content[at + 26] = (1 << 2) | (1 if wide else 0)  # one dimension, its length in one or two bytes
        content[at + 27] = length & 255
        at += 28
        if wide:
            content[at] = length >> 8
            at += 1
        first = token_bytes * bounds[sample]
        for place in range(size):
            content[at + place] = tokens[first + place]
