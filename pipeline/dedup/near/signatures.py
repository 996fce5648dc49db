"""Signatures: what two records share, by their words' shingles, in a few numbers.

A record's shingles are those of its instruction and those of its response, told
apart. Its MinHash signature is the least of each of bands x rows permutations
of 32-bit numbers over them. `band_keys` folds every band, with the record's
essence, into one key: records that share a key are worth comparing, and records
that differ in a number or a name never share one, however alike they are.
"""

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.words import (
    INFORMATIVE,
    SIGN,
    U64,
    Texts,
    Vocabulary,
    bare_vocabulary,
    mix,
    scratch,
    texts_of,
    tokenize,
)

U32 = NDArray[np.uint32]

_POSITION = np.uint64(0xD6E8FEB86659FD93)
RESPONSE_SALT = np.uint64(0xA0761D6478BD642F)


def permutations(count: int) -> tuple[U32, U32]:
    """Multipliers (odd) and summands of `count` permutations x -> a x + b of the 32-bit numbers."""
    draw = np.random.Generator(np.random.PCG64(20_260_101))
    numbers = draw.integers(0, 2**32, size=(2, count), dtype=np.uint32)
    return numbers[0] | np.uint32(1), numbers[1]


def signatures(texts: pa.Array, spec: NearDedupSpec) -> U32:
    """MinHash signatures of single texts.

    Parameters
    ----------
    texts
        large_string (n,), no nulls.
    spec
        `shingle`, `bands` and `rows` count.

    Returns
    -------
    uint32 (n, bands * rows)
        The share of equal entries estimates the Jaccard similarity of two texts' shingles.
    """
    return _signatures(texts_of(texts), bare_vocabulary(), spec.shingle, *permutations(spec.bands * spec.rows))


def band_keys(instructions: pa.Array, responses: pa.Array, vocabulary: Vocabulary, spec: NearDedupSpec) -> U64:
    """Keys of each pair's bands, uint64 (n, bands)."""
    multipliers, summands = permutations(spec.bands * spec.rows)
    pairs = texts_of(instructions), texts_of(responses)
    return _band_keys(*pairs, vocabulary, spec.shingle, spec.bands, multipliers, summands)


@numba.njit(cache=True, nogil=True)
def shingles(hashes: U64, flags: NDArray[np.uint8], count: int, size: int, salt: np.uint64) -> int:
    """Hashes of a text's shingles, written over those of its words.

    Parameters
    ----------
    hashes, flags
        What `tokenize` wrote; `hashes` is overwritten.
    count
        How many words and signs there are.
    size
        Words in a shingle.
    salt
        Tells instructions from responses.

    Returns
    -------
    int
        How many shingles there are, at least 1.
    """
    words = 0
    for i in range(count):
        if not flags[i] & SIGN:
            hashes[words] = hashes[i]
            words += 1
    width = min(size, words)
    for i in range(words - width + 1):
        value = salt
        for j in range(width):
            value = value * _POSITION + hashes[i + j]
        hashes[i] = mix(value)
    return words - width + 1


@numba.njit(inline="always")
def essence(hashes: U64, flags: NDArray[np.uint8], count: int, value: np.uint64) -> np.uint64:
    """Hash of the informative words and signs in their order, going on from `value`."""
    for i in range(count):
        if flags[i] & INFORMATIVE:
            value = mix((value ^ hashes[i]) * _POSITION)
    return value


@numba.njit(cache=True, nogil=True)
def _take_minima(signature: U32, values: U64, count: int, multipliers: U32, summands: U32) -> None:
    whole = count - count % 4
    for i in range(0, whole, 4):
        a, b = np.uint32(values[i] >> np.uint64(32)), np.uint32(values[i + 1] >> np.uint64(32))
        c, d = np.uint32(values[i + 2] >> np.uint64(32)), np.uint32(values[i + 3] >> np.uint64(32))
        for p in range(len(signature)):
            m, s = multipliers[p], summands[p]
            first = min(np.uint32(a * m + s), np.uint32(b * m + s))
            second = min(np.uint32(c * m + s), np.uint32(d * m + s))
            signature[p] = min(signature[p], min(first, second))
    for i in range(whole, count):
        a = np.uint32(values[i] >> np.uint64(32))
        for p in range(len(signature)):
            signature[p] = min(signature[p], np.uint32(a * multipliers[p] + summands[p]))


@numba.njit(cache=True, nogil=True)
def _signatures(texts: Texts, vocabulary: Vocabulary, size: int, multipliers: U32, summands: U32) -> U32:
    found = np.full((len(texts.bounds) - 1, len(multipliers)), 2**32 - 1, np.uint32)
    hashes, flags = np.empty(0, np.uint64), np.empty(0, np.uint8)
    for text in range(len(found)):
        if len(hashes) < texts.bounds[text + 1] - texts.bounds[text] + 1:
            hashes, flags = scratch(texts, text)
        count = tokenize(texts, text, False, vocabulary, hashes, flags)
        count = shingles(hashes, flags, count, size, np.uint64(0))
        _take_minima(found[text], hashes, count, multipliers, summands)
    return found


@numba.njit(cache=True, nogil=True)
def _band_keys(
    instructions: Texts,
    responses: Texts,
    vocabulary: Vocabulary,
    size: int,
    bands: int,
    multipliers: U32,
    summands: U32,
) -> U64:
    pairs = len(instructions.bounds) - 1
    rows = len(multipliers) // bands
    keys = np.empty((pairs, bands), np.uint64)
    signature = np.empty(len(multipliers), np.uint32)
    hashes, flags = np.empty(0, np.uint64), np.empty(0, np.uint8)
    for pair in range(pairs):
        signature[:] = np.uint32(2**32 - 1)
        value = np.uint64(0)
        for response in (False, True):
            texts = responses if response else instructions
            if len(hashes) < texts.bounds[pair + 1] - texts.bounds[pair] + 1:
                hashes, flags = scratch(texts, pair)
            count = tokenize(texts, pair, response, vocabulary, hashes, flags)
            value = essence(hashes, flags, count, mix(value + _POSITION))
            salt = RESPONSE_SALT if response else np.uint64(0)
            count = shingles(hashes, flags, count, size, salt)
            _take_minima(signature, hashes, count, multipliers, summands)
        for band in range(bands):
            key = mix(value + np.uint64(band))
            for row in range(rows):
                key = mix(key ^ np.uint64(signature[band * rows + row]))
            keys[pair, band] = key
    return keys
