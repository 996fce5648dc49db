"""Signatures: the shingles of a record in a few numbers, such that alike records share some of them.

A record's shingles are those of its instruction and those of its response, kept apart by a salt. Its MinHash signature
has the minimum over them of each of bands x rows permutations of the 32-bit numbers. `band_keys` hashes every band,
together with the record's key terms, to one key. Records that share a key are worth comparing; records that differ in
anything informative never share one, however alike they are.
"""

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.content import ASIDES, read_content
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.tokens import SIGN, U8, Vocabulary, scratch
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hashing import U64, mix
from pipeline.text.options import INNER_KERNEL, KERNEL

U32 = NDArray[np.uint32]

_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
RESPONSE_SALT = np.uint64(0xA0761D6478BD642F)
_LARGEST = np.uint32(2**32 - 1)


def permutations(count: int) -> tuple[U32, U32]:
    """Multipliers (odd) and summands of `count` permutations x -> a x + b of the 32-bit numbers."""
    draw = np.random.Generator(np.random.PCG64(20_260_101))
    numbers = draw.integers(0, 2**32, size=(2, count), dtype=np.uint32)
    return numbers[0] | np.uint32(1), numbers[1]


def band_keys(instructions: pa.Array, responses: pa.Array, vocabulary: Vocabulary, spec: NearDedupSpec) -> U64:
    """Keys of each pair's bands, uint64 (n, bands)."""
    multipliers, summands = permutations(spec.bands * spec.rows)
    pairs = texts_of(instructions), texts_of(responses)
    keys = np.empty((len(instructions), spec.bands), np.uint64)
    signature, asides = np.empty(len(multipliers), np.uint32), np.empty(ASIDES, np.uint64)
    room = *scratch(*pairs), asides, signature
    _write_band_keys(*pairs, vocabulary, spec.shingle, multipliers, summands, *room, keys)
    return keys


@numba.njit(**INNER_KERNEL)
def shingles(hashes: U64, flags: U8, count: int, size: int, salt: np.uint64) -> int:
    """Hashes of a text's shingles, written over those of its words.

    Parameters
    ----------
    hashes, flags, count
        As `tokenize` wrote them; `hashes` is overwritten.
    size
        Words in a shingle.
    salt
        Keeps instructions and responses apart.

    Returns
    -------
    int
        Number of shingles, at least 1.
    """
    words = 0
    for i in range(count):
        if not flags[i] & SIGN:
            hashes[words] = hashes[i]
            words += 1
    width = min(size, words)
    power, value = np.uint64(1), np.uint64(0)  # of the multiplier; the polynomial of the words of a shingle
    for i in range(width):
        power *= _MULTIPLIER
        value = value * _MULTIPLIER + hashes[i]
    for i in range(words - width):
        first = hashes[i]
        hashes[i] = mix(salt * power + value)
        value = value * _MULTIPLIER + hashes[i + width] - first * power
    hashes[words - width] = mix(salt * power + value)
    return words - width + 1


@numba.njit(**INNER_KERNEL)
def take_minima(signature: U32, values: U64, count: int, multipliers: U32, summands: U32) -> None:
    """Lower each entry of a signature to the minimum of its permutation over the upper halves of `values`."""
    whole = count - count % 4
    for i in range(0, whole, 4):  # four at a time
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


@numba.njit(**KERNEL)
def _write_band_keys(
    instructions: Texts,
    responses: Texts,
    vocabulary: Vocabulary,
    size: int,
    multipliers: U32,
    summands: U32,
    hashes: U64,
    flags: U8,
    all_terms: U64,
    asides: U64,
    signature: U32,
    keys: U64,
) -> None:
    """Write the keys (n, bands); what is between the permutations and them is scratch."""
    pairs, bands = keys.shape
    rows = len(multipliers) // bands
    for pair in range(pairs):
        signature[:] = _LARGEST
        terms = np.uint64(0)
        for response in (False, True):
            texts = responses if response else instructions
            content = read_content(texts, pair, response, vocabulary, hashes, flags, all_terms, asides)
            terms = mix(terms + _MULTIPLIER) ^ content.key_terms
            count = shingles(hashes, flags, content.tokens, size, RESPONSE_SALT if response else np.uint64(0))
            take_minima(signature, hashes, count, multipliers, summands)
        for band in range(bands):
            key = mix(terms + np.uint64(band))
            for row in range(rows):
                key = mix(key ^ np.uint64(signature[band * rows + row]))
            keys[pair, band] = key
