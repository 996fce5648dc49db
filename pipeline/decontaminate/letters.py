"""Stems in any spacing, found in a record by their letters alone, without white space.

    letters of a stem ─ the rarest of some stretches ─▶ entry (stretch, probe) in a table
    letters of a record ─ stretches in the table ─▶ candidates ─ all letters of the stem in a row ─▶ hits

Words broken by line breaks or blanks, and texts without any blank, have other words than the item and the same letters.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.gram_table import build_gram_table, find_entry, may_have
from pipeline.decontaminate.ngrams import document_counts
from pipeline.decontaminate.word_hashes import Letters, Words
from pipeline.text import codes
from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL

STRETCH = 24
"""Letters of a stretch."""
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
    sieve: U64
    """See `pipeline.decontaminate.gram_table`; an entry is a stem."""


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
    return LetterIndex(_hashes(letters, spans), sizes, places, probes.astype(np.int32), *build_gram_table(keys))


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def scan_letters(records: Words, index: LetterIndex) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find stems in records by their letters alone.

    Returns
    -------
    rows : int64 (h,)
        Index of the record of each hit.
    probes : int32 (h,)
    """
    rows, probes = np.empty(64, np.int64), np.empty(64, np.int32)
    count = 0
    power = np.uint64(1)
    for _ in range(STRETCH):
        power *= GOLDEN
    letters, sieve = records.letters, index.sieve
    end = 0
    for row in range(len(records.bounds) - 1):
        begin = end
        if records.bounds[row + 1]:
            end = records.ends[records.bounds[row + 1] - 1]
        value = np.uint64(0)
        for at in range(begin, end):
            value = value * GOLDEN + np.uint64(letters[at]) + np.uint64(1)
            if at - begin < STRETCH - 1:
                continue
            if at - begin >= STRETCH:
                value -= (np.uint64(letters[at - STRETCH]) + np.uint64(1)) * power
            key = _key(value)
            if not may_have(sieve, key):
                continue
            stem = find_entry(key, index.table, index.first, index.sieve)
            while stem >= 0:
                first = at + 1 - STRETCH - index.places[stem]
                if _is_at(index, stem, letters, first, begin, end):
                    if count == len(rows):
                        rows, probes = np.append(rows, rows), np.append(probes, probes)
                    rows[count], probes[count] = row, index.probes[stem]
                    count += 1
                stem = index.following[stem]
    return rows[:count].copy(), probes[:count].copy()


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
