"""Stems in any spacing, found in a record by their letters alone, without white space.

    letters of a stem ─ the rarest of some stretches ─▶ entry (stretch, probe) in a table
    letters of records ─ sieve ─ stretches in the table ─▶ candidates ─ all letters of the stem in a row ─▶ hits

Words broken by line breaks or blanks, and texts without any blank, have other words than the item and the same letters.
The sieve settles nearly all places of a record. Its hashes are made of those of 2, 4 and 8 letters, in loops that the
compiler turns into vector instructions.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.gram_table import build_gram_table, first_entry
from pipeline.decontaminate.ngrams import document_counts
from pipeline.decontaminate.word_hashes import Letters, Words
from pipeline.text import codes
from pipeline.text.hash_table import slots_for
from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL

U32 = NDArray[np.uint32]

STRETCH = 24
"""Letters of a stretch: three times eight."""
_BLOCK = 1024
"""Places that are hashed together."""
_SIEVE_BITS, _LEAST_SIEVE_BITS = 32, 2**13
"""Bits of the sieve for each stem, at least, and in all."""
_M2, _M4, _M8, _M24 = (np.uint32(odd) for odd in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F))
"""Odd multipliers of the sieve's hashes of 4, 8 and 24 letters, and of its last step."""
_CHOICES = 8
"""Stretches of a stem of which the rarest is its entry."""


class LetterIndex(NamedTuple):
    """Arrays over s stems and the slots of a table."""

    hashes: U64
    """(s,): hash of all letters of a stem."""
    sizes: NDArray[np.int64]
    """(s,): number of its letters."""
    places: NDArray[np.int64]
    """(s,): offset of its entry's stretch."""
    probes: NDArray[np.int32]
    """(s,): the probe that has the stem."""
    table: U64
    first: NDArray[np.int32]
    following: NDArray[np.int32]
    """See `pipeline.decontaminate.gram_table`; an entry is a stem."""
    sieve: U32
    """Bit set of the stretches' hashes: two bits of one word for each."""


def letter_index(texts: Words, stems: NDArray[np.int64], probes: NDArray[np.int64], max_items: int) -> LetterIndex:
    """Index stems by their letters.

    Parameters
    ----------
    texts
        Words of p probes.
    stems
        (p, 2): begin and end of each probe's stem among all words.
    probes
        (s,): the probes whose stems are indexed; these have words.
    max_items
        A stretch that more stems have is not used for search.
    """
    until = np.append(0, texts.ends)
    spans = until[stems[probes]]
    letters = texts.letters
    spans[:, 0] += letters[spans[:, 0]] == 0  # what parts it from the number before
    long = spans[:, 1] - spans[:, 0] >= STRETCH
    spans, probes = spans[long], probes[long]
    room = spans[:, 1] - spans[:, 0] - STRETCH
    places = room[:, None] * np.arange(_CHOICES) // (_CHOICES - 1)
    keys = _stretch_keys(letters, (spans[:, :1] + places).ravel())
    counts = document_counts(keys, np.repeat(np.arange(len(spans)), _CHOICES)).reshape(-1, _CHOICES)
    rarest = counts.argmin(axis=1, keepdims=True)
    taken = np.take_along_axis(counts, rarest, 1)[:, 0] <= max_items
    keys = np.take_along_axis(keys.reshape(-1, _CHOICES), rarest, 1)[taken, 0]
    places = np.take_along_axis(places, rarest, 1)[taken, 0]
    spans, probes = spans[taken], probes[taken]
    order = np.lexsort((probes, keys))
    keys, places, spans, probes = keys[order], places[order], spans[order], probes[order]
    sizes = spans[:, 1] - spans[:, 0]
    table, first, following, _ = build_gram_table(keys)
    sieve = _sieve(letters, spans[:, 0] + places)
    return LetterIndex(_hashes(letters, spans), sizes, places, probes.astype(np.int32), table, first, following, sieve)


@numba.njit(**INNER_KERNEL)
def _hash(letters: Letters, begin: int, end: int) -> np.uint64:
    """Polynomial hash of some letters."""
    value = np.uint64(0)
    for at in range(begin, end):
        value = value * GOLDEN + np.uint64(letters[at]) + np.uint64(1)
    return value


@numba.njit(cache=True, nogil=True)
def _hashes(letters: Letters, spans: NDArray[np.int64]) -> U64:
    hashes = np.empty(len(spans), np.uint64)
    for stem in range(len(spans)):
        hashes[stem] = _hash(letters, spans[stem, 0], spans[stem, 1])
    return hashes


@numba.njit(**INNER_KERNEL)
def _key(value: np.uint64) -> np.uint64:
    """Key of a stretch in the table, never 0, from its polynomial hash."""
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (value ^ (value >> np.uint64(32))) | np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _stretch_keys(letters: Letters, begins: NDArray[np.int64]) -> U64:
    keys = np.empty(len(begins), np.uint64)
    for place in range(len(begins)):
        keys[place] = _key(_hash(letters, begins[place], begins[place] + STRETCH))
    return keys


@numba.njit(**INNER_KERNEL)
def _hash_block(letters: Letters, values: U32) -> None:
    """Write the sieve's hash of the stretch at each place of a block; `values` has as many places as there are letters.

    The first len(letters) - STRETCH + 1 are hashes of stretches.
    """
    count = np.uint64(len(letters))
    for at in range(count - np.uint64(1)):
        values[at] = np.uint32(letters[at]) << np.uint32(16) | np.uint32(letters[at + np.uint64(1)])
    for at in range(count - np.uint64(3)):
        values[at] = values[at] * _M2 + values[at + np.uint64(2)]
    for at in range(count - np.uint64(7)):
        values[at] = values[at] * _M4 + values[at + np.uint64(4)]
    for at in range(count - np.uint64(STRETCH - 1)):
        value = (values[at] * _M8 + values[at + np.uint64(8)]) * _M8 + values[at + np.uint64(16)]
        values[at] = (value ^ (value >> np.uint32(15))) * _M24


@numba.njit(cache=True, nogil=True)
def _sieve(letters: Letters, begins: NDArray[np.int64]) -> U32:
    """Bit set of the stretches that begin at some places."""
    bits = slots_for(max(_LEAST_SIEVE_BITS, _SIEVE_BITS * len(begins)))
    sieve = np.zeros(bits // 32, np.uint32)
    shift = _sieve_shift(sieve)
    values = np.empty(STRETCH, np.uint32)
    for begin in begins:
        _hash_block(letters[begin : begin + STRETCH], values)
        bit, other = values[0] >> shift, values[0] & np.uint32(31)
        sieve[bit >> np.uint32(5)] |= np.uint32(1) << (bit & np.uint32(31)) | np.uint32(1) << other
    return sieve


@numba.njit(**INNER_KERNEL)
def _sieve_shift(sieve: U32) -> np.uint32:
    """Lower bits of a hash that are no part of its place in a sieve."""
    shift, size = np.uint32(27), len(sieve)
    while size > 1:
        shift, size = shift - np.uint32(1), size // 2
    return shift


@numba.njit(**INNER_KERNEL)
def _next_candidate(values: U32, at: np.uint64, count: np.uint64, sieve: U32, shift: np.uint32) -> np.uint64:
    """The first of `count` hashes from a place on that the sieve has; `count` if it has none."""
    while at < count:
        bit, other = values[at] >> shift, values[at] & np.uint32(31)
        word = sieve[bit >> np.uint32(5)]
        if (word >> (bit & np.uint32(31))) & (word >> other) & np.uint32(1):
            break
        at += np.uint64(1)
    return at


def scan_letters(records: Words, index: LetterIndex) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find stems in records by their letters alone.

    Returns
    -------
    rows : int64 (h,)
        Index of the record of each hit.
    probes : int32 (h,)
    """
    room = 1024
    while True:
        rows, probes = np.empty(room, np.int64), np.empty(room, np.int32)
        count = _scan_all(records, index, rows, probes)
        if count <= room:
            return rows[:count], probes[:count]
        room = count


@numba.njit(cache=True, nogil=True)
def _scan_all(records: Words, index: LetterIndex, rows: NDArray[np.int64], probes: NDArray[np.int32]) -> int:
    """Write the hits, and return their number, which may be larger than the arrays."""
    return _scan(records, index, np.empty(_BLOCK + STRETCH - 1, np.uint32), rows, probes)


@numba.njit(**INNER_KERNEL)
def _scan(records: Words, index: LetterIndex, values: U32, rows: NDArray[np.int64], probes: NDArray[np.int32]) -> int:
    letters, sieve = records.letters, index.sieve
    shift = _sieve_shift(sieve)
    hits = row = begin = end = 0
    # Blocks go across the bounds of records: `_is_at` refuses a stretch that is in two of them.
    for first in range(0, len(letters) - STRETCH + 1, _BLOCK):
        block = letters[first : min(first + _BLOCK + STRETCH - 1, len(letters))]
        _hash_block(block, values)
        count = np.uint64(len(block) - STRETCH + 1)
        place = _next_candidate(values, np.uint64(0), count, sieve, shift)
        while place < count:
            at = first + np.int64(place)
            place = _next_candidate(values, place + np.uint64(1), count, sieve, shift)
            while end <= at:
                begin = end
                if records.bounds[row + 1]:
                    end = records.ends[records.bounds[row + 1] - 1]
                row += 1
            key = _key(_hash(letters, at, at + STRETCH))
            stem = first_entry(key, index.table, index.first)
            while stem >= 0:
                if _is_at(index, stem, letters, at - index.places[stem], begin, end):
                    if hits < len(rows):
                        rows[hits], probes[hits] = row - 1, index.probes[stem]
                    hits += 1
                stem = index.following[stem]
    return hits


@numba.njit(**INNER_KERNEL)
def _is_at(index: LetterIndex, stem: int, letters: Letters, first: int, begin: int, end: int) -> bool:
    """Whether all letters of a stem are at a place, and no number is cut."""
    last = first + index.sizes[stem]
    if first < begin or last > end or _cuts_number(letters, first, begin, end):
        return False
    if _cuts_number(letters, last, begin, end):
        return False
    return bool(_hash(letters, first, last) == index.hashes[stem])


@numba.njit(**INNER_KERNEL)
def _cuts_number(letters: Letters, at: int, begin: int, end: int) -> bool:
    """Whether the letters before and at a place are digits of one number."""
    return begin < at < end and _is_digit(letters[at - 1]) and _is_digit(letters[at])


@numba.njit(**INNER_KERNEL)
def _is_digit(letter: np.uint16) -> bool:
    return bool(codes.DIGIT_0 <= letter <= codes.DIGIT_9)
