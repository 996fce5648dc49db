"""Comparison: which of some records that may be duplicates are, and of which.

    texts ─ Readings ─▶ shingles, words, essence of each ─ find_duplicates ─▶ losers, their twins, scores

Two records are duplicates if

- their essences are equal: the same numbers, names, rare words, negations,
  options and short answers, in the same order (`pipeline.dedup.near.words`);
- the exact Jaccard similarity of their shingles reaches the threshold;
- their instructions have at least `FIELD_SHARE` of their words in common and
  their responses `threshold`, so that a long text does not carry a short other one;
- what is left of the two without the boilerplate that they share (sentences that
  many records have) still has `threshold` of its words in common, so that a long
  template does not carry two short texts that were put into it; boilerplate at
  an end that only one of the two has, a courtesy or a closing phrase, is ignored;
- no word by which they differ is capitalised inside a sentence.

In a group, the best record survives and is compared with all others; those that
are its duplicates lose to it. The best of the rest survives too, and so on. So
every twin is a survivor, and every score is a similarity to the survivor.
"""

from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.signatures import RESPONSE_SALT, essence, shingles
from pipeline.dedup.near.words import (
    NAME,
    SIGN,
    U64,
    Texts,
    Vocabulary,
    is_in,
    mix,
    scratch,
    sentence,
    texts_of,
    tokenize,
)

U32 = NDArray[np.uint32]

FIELD_SHARE = 0.6
"""For instructions alone it may be less than the threshold: a task can be put in other words."""
_MOST_WORDS = 2**15 - 1
_LOW = np.uint64(2**16 - 1)
MOST_SURVIVORS = 256
"""Survivors that the others of a group are compared with; who is left then stays. It bounds the work on a group of many
records that are alike but no duplicates."""


class Readings(NamedTuple):
    """What comparison knows of n records."""

    essence: U64
    """(n,)"""
    shingles: U64
    """Of the first record, sorted, each once; then of the second; …"""
    shingle_bounds: NDArray[np.int64]
    """(n + 1,)"""
    words: U64
    """Hashes of the words of the first record's instruction, sorted, then of its response; then of the second; …
    The lowest bit tells names."""
    word_bounds: NDArray[np.int64]
    """(2 n + 1,)"""
    boilerplate: U64
    """Hashes of the sentences that are boilerplate, in the order of `words`. The lowest bit tells those that begin or
    end a text, the 15 bits above are a sentence's words."""
    boilerplate_bounds: NDArray[np.int64]
    """(2 n + 1,)"""


def read(instructions: pa.Array, responses: pa.Array, vocabulary: Vocabulary, shingle: int) -> Readings:
    """Prepare records for comparison.

    Parameters
    ----------
    instructions, responses
        large_string (n,), no nulls.
    vocabulary
        Of the corpus.
    shingle
        Words in a shingle.
    """
    return _read(texts_of(instructions), texts_of(responses), vocabulary, shingle)


def find_duplicates(
    readings: Readings, groups: U32, rank: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Losers among some records.

    Parameters
    ----------
    readings
        Of n records.
    groups
        uint32 (n,): records of different groups are not compared.
    rank
        int64 (n,): of duplicates the one of least rank survives.
    threshold
        Least Jaccard similarity of duplicates.

    Returns
    -------
    lost, survivor
        int64 (m,): places of those that lose, and of what each loses to.
    score
        float64 (m,): Jaccard similarity of the two.
    """
    order = np.lexsort((rank, readings.essence, groups))
    lost, survivor, score = _find_duplicates(readings, groups, order, threshold)
    return lost, survivor, score


def similarity(readings: Readings, a: int, b: int) -> float:
    """Jaccard similarity of two records' shingles."""
    return float(_jaccard(readings, a, b))


@numba.njit(cache=True, nogil=True)
def _read(instructions: Texts, responses: Texts, vocabulary: Vocabulary, size: int) -> Readings:
    n = len(instructions.bounds) - 1
    room = instructions.bounds[-1] - instructions.bounds[0] + responses.bounds[-1] - responses.bounds[0] + 2 * n
    all_shingles, words = np.empty(room, np.uint64), np.empty(room, np.uint64)
    shingle_bounds, word_bounds = np.zeros(n + 1, np.int64), np.zeros(2 * n + 1, np.int64)
    boilerplate, boilerplate_bounds = np.empty(room, np.uint64), np.zeros(2 * n + 1, np.int64)
    essences = np.empty(n, np.uint64)
    for record in range(n):
        value = np.uint64(0)
        first = filled = shingle_bounds[record]
        for field in range(2):
            response = field == 1
            texts = responses if response else instructions
            hashes, flags = scratch(texts, record)
            count = tokenize(texts, record, response, vocabulary, hashes, flags)
            value = essence(hashes, flags, count, mix(value + np.uint64(1)))
            place = begin = word_bounds[2 * record + field]
            for i in range(count):
                if not flags[i] & SIGN:
                    name = np.uint64(1) if flags[i] & NAME else np.uint64(0)
                    words[place] = hashes[i] & ~np.uint64(1) | name
                    place += 1
            words[begin:place].sort()
            word_bounds[2 * record + field + 1] = place
            common = boilerplate_bounds[2 * record + field]
            boilerplate_bounds[2 * record + field + 1] = common + _boilerplate_of(
                hashes, flags, count, vocabulary, boilerplate[common:]
            )
            count = shingles(hashes, flags, count, size, RESPONSE_SALT if response else np.uint64(0))
            all_shingles[filled : filled + count] = hashes[:count]
            filled += count
        mine = np.unique(all_shingles[first:filled])
        all_shingles[first : first + len(mine)] = mine
        shingle_bounds[record + 1] = first + len(mine)
        essences[record] = value
    return Readings(
        essences,
        all_shingles[: shingle_bounds[n]].copy(),
        shingle_bounds,
        words[: word_bounds[2 * n]].copy(),
        word_bounds,
        boilerplate[: boilerplate_bounds[2 * n]].copy(),
        boilerplate_bounds,
    )


@numba.njit(cache=True, nogil=True)
def _boilerplate_of(hashes: U64, flags: NDArray[np.uint8], count: int, vocabulary: Vocabulary, out: U64) -> int:
    """Write a text's sentences that are boilerplate into `out`; returns how many."""
    place = found = 0
    while place < count:
        begin = place
        value, words, place = sentence(hashes, flags, begin, count)
        if is_in(vocabulary.boilerplate, value):
            end = np.uint64(begin == 0 or place == count)
            out[found] = value & ~_LOW | np.uint64(min(words, _MOST_WORDS) << 1) | end
            found += 1
    out[:found].sort()
    return found


@numba.njit(cache=True, nogil=True)
def _jaccard(readings: Readings, a: int, b: int) -> float:
    i, last_i = readings.shingle_bounds[a], readings.shingle_bounds[a + 1]
    j, last_j = readings.shingle_bounds[b], readings.shingle_bounds[b + 1]
    total = last_i - i + last_j - j
    shared = 0
    while i < last_i and j < last_j:
        x, y = readings.shingles[i], readings.shingles[j]
        shared += x == y
        i += x <= y
        j += y <= x
    return shared / (total - shared)


@numba.njit(cache=True, nogil=True)
def _common_words(readings: Readings, a: int, b: int) -> tuple[int, int]:
    """Words in common and words in all of two texts, as multisets; (-1, 0) if a name is not in common.

    a and b are places in `word_bounds`.
    """
    words = readings.words
    i, last_i = readings.word_bounds[a], readings.word_bounds[a + 1]
    j, last_j = readings.word_bounds[b], readings.word_bounds[b + 1]
    total = shared = 0
    one = np.uint64(1)
    while i < last_i or j < last_j:
        if i < last_i and j < last_j:
            word = min(words[i] | one, words[j] | one)
        else:
            word = words[i] | one if i < last_i else words[j] | one
        mine = yours = 0
        my_name = your_name = False
        while i < last_i and words[i] | one == word:
            my_name |= words[i] == word
            mine += 1
            i += 1
        while j < last_j and words[j] | one == word:
            your_name |= words[j] == word
            yours += 1
            j += 1
        if (mine > yours and my_name) or (yours > mine and your_name):
            return -1, 0
        shared += min(mine, yours)
        total += max(mine, yours)
    return shared, total


@numba.njit(cache=True, nogil=True)
def _common_boilerplate(readings: Readings, a: int, b: int) -> tuple[np.int64, np.int64]:
    """Words in the boilerplate of two texts: in what they share, and in what one has more than the other at an end.

    a and b are places in `boilerplate_bounds`. The second number is 0 if both have boilerplate that the other has not,
    or if it stands in the middle of a text.
    """
    i, last_i = readings.boilerplate_bounds[a], readings.boilerplate_bounds[a + 1]
    j, last_j = readings.boilerplate_bounds[b], readings.boilerplate_bounds[b + 1]
    shared = mine = yours = np.int64(0)
    at_end = True
    while i < last_i or j < last_j:
        x = readings.boilerplate[i] if i < last_i else ~np.uint64(0)
        y = readings.boilerplate[j] if j < last_j else ~np.uint64(0)
        words = np.int64((min(x, y) & _LOW) >> np.uint64(1))
        if x | _LOW == y | _LOW and i < last_i and j < last_j:
            shared += words
            i += 1
            j += 1
        elif x < y:
            mine += words
            at_end &= bool(x & np.uint64(1))
            i += 1
        else:
            yours += words
            at_end &= bool(y & np.uint64(1))
            j += 1
    return shared, mine + yours if at_end and min(mine, yours) == 0 else np.int64(0)


@numba.njit(cache=True, nogil=True)
def _say_the_same(readings: Readings, a: int, b: int, threshold: float) -> bool:
    """Whether the words of two records agree, with and without the boilerplate."""
    left_shared = left_total = np.int64(0)
    for field in range(2):
        shared, total = _common_words(readings, 2 * a + field, 2 * b + field)
        boilerplate, added = _common_boilerplate(readings, 2 * a + field, 2 * b + field)
        if shared < 0 or shared < (FIELD_SHARE if field == 0 else threshold) * (total - added):
            return False
        left_shared += shared - boilerplate
        left_total += total - added - boilerplate
    return bool(left_shared >= threshold * left_total)


@numba.njit(cache=True, nogil=True)
def _find_duplicates(
    readings: Readings, groups: U32, order: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    lost, survivor = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    score = np.empty(len(order), np.float64)
    found = begin = 0
    while begin < len(order):
        end = begin + 1
        while (
            end < len(order)
            and groups[order[end]] == groups[order[begin]]
            and readings.essence[order[end]] == readings.essence[order[begin]]
        ):
            end += 1
        rest = order[begin:end].copy()
        for _ in range(MOST_SURVIVORS):
            if len(rest) < 2:
                break
            best, left = rest[0], 0
            for i in range(1, len(rest)):
                other = rest[i]
                similar = _jaccard(readings, best, other)
                if similar >= threshold and _say_the_same(readings, best, other, threshold):
                    lost[found], survivor[found], score[found] = other, best, similar
                    found += 1
                else:
                    rest[left] = other
                    left += 1
            rest = rest[:left]
        begin = end
    return lost[:found], survivor[:found], score[:found]
