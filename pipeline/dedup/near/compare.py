"""Comparison: which records of a group of candidates are duplicates, and of which.

    texts ─ extract_features ─▶ RecordFeatures ─ find_duplicates ─▶ losers, their twins, scores

Two records are duplicates if

- their key terms are equal: the same numbers, names, rare words, negations, options and short answers, in the same
  order (`pipeline.dedup.near.tokens`);
- the exact Jaccard similarity of their shingles reaches the threshold;
- their instructions share at least `FIELD_SHARE` of their words and their responses `threshold`, so that a long text
  cannot outweigh a short one that differs;
- without the sentences of boilerplate that both have, they still share `threshold` of their words, so that a long
  template cannot outweigh two short texts that were put into it; boilerplate at an end that only one of the two has, a
  courtesy or a closing phrase, is ignored;
- no word by which they differ is capitalised inside a sentence.

The best record of a group survives and is compared with all others; its duplicates lose to it. Then the best of the
rest survives, and so on. So every twin is a survivor, and every score is a similarity to the survivor.
"""

from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.signatures import RESPONSE_SALT, hash_key_terms, shingles
from pipeline.dedup.near.tokens import NAME, SIGN, U8, Vocabulary, is_in, scratch, sentence, sort_unique, tokenize
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hashing import U64, mix
from pipeline.text.options import INNER_KERNEL

U32 = NDArray[np.uint32]

FIELD_SHARE = 0.6
"""For instructions it is less than the usual threshold: the same task can be put in other words."""
MAX_SURVIVORS = 256
"""Survivors that the others of a group are compared with; what is left then stays. It bounds the work on a group of
many records that are alike but not duplicates."""

_NAME_BIT = np.uint64(1)
"""Lowest bit of a word's hash in `RecordFeatures.words`."""
_END_BIT = np.uint64(1)
_SENTENCE_BITS = np.uint64(2**16 - 1)
"""Low bits of a sentence's hash in `RecordFeatures.boilerplate`: `_END_BIT`, and above it the number of words."""
_MAX_WORDS = 2**15 - 1


class RecordFeatures(NamedTuple):
    """What n records are compared by. Lists of several records are concatenated; record i has bounds i to i + 1, or its
    instruction 2 i to 2 i + 1 and its response 2 i + 1 to 2 i + 2."""

    key_terms: U64
    """(n,): hash of each record's key terms."""
    shingles: U64
    """Of each record, sorted, each once."""
    shingle_bounds: NDArray[np.int64]
    """(n + 1,)"""
    words: U64
    """Hashes of the words of each instruction and response, sorted. The lowest bit marks names."""
    word_bounds: NDArray[np.int64]
    """(2 n + 1,)"""
    boilerplate: U64
    """Hashes of the boilerplate sentences of each instruction and response, sorted. The lowest bit marks those that
    begin or end a text, the 15 bits above hold the number of words."""
    boilerplate_bounds: NDArray[np.int64]
    """(2 n + 1,)"""


def extract_features(
    instructions: pa.Array, responses: pa.Array, vocabulary: Vocabulary, shingle: int
) -> RecordFeatures:
    """Extract the features of some records.

    Parameters
    ----------
    instructions, responses
        large_string (n,), no nulls.
    vocabulary
        Of the corpus.
    shingle
        Words in a shingle.
    """
    return _extract_features(texts_of(instructions), texts_of(responses), vocabulary, shingle)


def find_duplicates(
    features: RecordFeatures, groups: U32, rank: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the duplicates among some records.

    Parameters
    ----------
    features
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
        int64 (m,): indexes of the duplicates, and of the record that each loses to.
    score
        float64 (m,): Jaccard similarity of the two.
    """
    order = np.lexsort((rank, features.key_terms, groups))
    lost, survivor, score = _find_duplicates(features, groups, order, threshold)
    return lost, survivor, score


@numba.njit(cache=True, nogil=True)
def _extract_features(instructions: Texts, responses: Texts, vocabulary: Vocabulary, size: int) -> RecordFeatures:
    n = len(instructions.bounds) - 1
    room = instructions.bounds[-1] - instructions.bounds[0] + responses.bounds[-1] - responses.bounds[0] + 2 * n
    key_terms = np.empty(n, np.uint64)
    all_shingles, shingle_bounds = np.empty(room, np.uint64), np.zeros(n + 1, np.int64)
    words, word_bounds = np.empty(room, np.uint64), np.zeros(2 * n + 1, np.int64)
    boilerplate, boilerplate_bounds = np.empty(room, np.uint64), np.zeros(2 * n + 1, np.int64)
    hashes, flags = scratch(instructions, responses)
    for record in range(n):
        terms = np.uint64(0)
        first = filled = shingle_bounds[record]
        for response in (False, True):
            field = 2 * record + response
            count = tokenize(responses if response else instructions, record, response, vocabulary, hashes, flags)
            terms = hash_key_terms(hashes, flags, count, mix(terms + np.uint64(1)))
            begin, common = word_bounds[field], boilerplate_bounds[field]
            word_bounds[field + 1] = begin + _write_words(hashes, flags, count, words[begin:])
            boilerplate_bounds[field + 1] = common + _write_boilerplate(
                hashes, flags, count, vocabulary, boilerplate[common:]
            )
            count = shingles(hashes, flags, count, size, RESPONSE_SALT if response else np.uint64(0))
            all_shingles[filled : filled + count] = hashes[:count]
            filled += count
        shingle_bounds[record + 1] = sort_unique(all_shingles, first, filled)
        key_terms[record] = terms
    return RecordFeatures(
        key_terms,
        all_shingles[: shingle_bounds[n]].copy(),
        shingle_bounds,
        words[: word_bounds[2 * n]].copy(),
        word_bounds,
        boilerplate[: boilerplate_bounds[2 * n]].copy(),
        boilerplate_bounds,
    )


@numba.njit(cache=True, nogil=True)
def _write_words(hashes: U64, flags: U8, count: int, out: U64) -> int:
    """Write the words of a text as `RecordFeatures.words` has them; returns their number."""
    found = 0
    for i in range(count):
        if not flags[i] & SIGN:
            out[found] = hashes[i] & ~_NAME_BIT | np.uint64(flags[i] & NAME != 0)
            found += 1
    out[:found].sort()
    return found


@numba.njit(cache=True, nogil=True)
def _write_boilerplate(hashes: U64, flags: U8, count: int, vocabulary: Vocabulary, out: U64) -> int:
    """Write the boilerplate of a text as `RecordFeatures.boilerplate` has it; returns the number of sentences."""
    place = found = 0
    while place < count:
        begin = place
        value, words, place = sentence(hashes, flags, begin, count)
        if is_in(vocabulary.boilerplate, value):
            at_end = np.uint64(begin == 0 or place == count)
            out[found] = value & ~_SENTENCE_BITS | np.uint64(min(words, _MAX_WORDS) << 1) | at_end
            found += 1
    out[:found].sort()
    return found


@numba.njit(**INNER_KERNEL)
def _jaccard(features: RecordFeatures, a: int, b: int) -> float:
    i, last_i = features.shingle_bounds[a], features.shingle_bounds[a + 1]
    j, last_j = features.shingle_bounds[b], features.shingle_bounds[b + 1]
    total = last_i - i + last_j - j
    shared = 0
    while i < last_i and j < last_j:
        x, y = features.shingles[i], features.shingles[j]
        shared += x == y
        i += x <= y
        j += y <= x
    return shared / (total - shared)


@numba.njit(**INNER_KERNEL)
def _common_words(features: RecordFeatures, a: int, b: int) -> tuple[int, int]:
    """Size of the intersection and of the union of two texts' words, as multisets; (-1, 0) if they differ by a name.

    a and b are indexes into `word_bounds`.
    """
    words = features.words
    i, last_i = features.word_bounds[a], features.word_bounds[a + 1]
    j, last_j = features.word_bounds[b], features.word_bounds[b + 1]
    shared = total = 0
    while i < last_i or j < last_j:
        if i < last_i and j < last_j:
            word = min(words[i] | _NAME_BIT, words[j] | _NAME_BIT)
        else:
            word = words[i] | _NAME_BIT if i < last_i else words[j] | _NAME_BIT
        count_a = count_b = 0
        name_a = name_b = False
        while i < last_i and words[i] | _NAME_BIT == word:
            name_a |= words[i] == word
            count_a += 1
            i += 1
        while j < last_j and words[j] | _NAME_BIT == word:
            name_b |= words[j] == word
            count_b += 1
            j += 1
        if (count_a > count_b and name_a) or (count_b > count_a and name_b):
            return -1, 0
        shared += min(count_a, count_b)
        total += max(count_a, count_b)
    return shared, total


@numba.njit(**INNER_KERNEL)
def _common_boilerplate(features: RecordFeatures, a: int, b: int) -> tuple[np.int64, np.int64]:
    """Number of words in the boilerplate that two texts share, and in what one has at its ends beyond that.

    a and b are indexes into `boilerplate_bounds`. The second number is 0 if both texts have boilerplate that the other
    lacks, or if some of it is in the middle of a text.
    """
    i, last_i = features.boilerplate_bounds[a], features.boilerplate_bounds[a + 1]
    j, last_j = features.boilerplate_bounds[b], features.boilerplate_bounds[b + 1]
    shared = only_a = only_b = np.int64(0)
    at_end = True
    while i < last_i or j < last_j:
        x = features.boilerplate[i] if i < last_i else ~np.uint64(0)
        y = features.boilerplate[j] if j < last_j else ~np.uint64(0)
        words = np.int64((min(x, y) & _SENTENCE_BITS) >> np.uint64(1))
        if x | _SENTENCE_BITS == y | _SENTENCE_BITS and i < last_i and j < last_j:
            shared += words
            i += 1
            j += 1
        elif x < y:
            only_a += words
            at_end &= bool(x & _END_BIT)
            i += 1
        else:
            only_b += words
            at_end &= bool(y & _END_BIT)
            j += 1
    return shared, only_a + only_b if at_end and min(only_a, only_b) == 0 else np.int64(0)


@numba.njit(**INNER_KERNEL)
def _same_content(features: RecordFeatures, a: int, b: int, threshold: float) -> bool:
    """Whether two records share enough of their words, with and without the boilerplate."""
    left_shared = left_total = np.int64(0)
    for field in range(2):
        shared, total = _common_words(features, 2 * a + field, 2 * b + field)
        boilerplate, added = _common_boilerplate(features, 2 * a + field, 2 * b + field)
        if shared < 0 or shared < (FIELD_SHARE if field == 0 else threshold) * (total - added):
            return False
        left_shared += shared - boilerplate
        left_total += total - added - boilerplate
    return bool(left_shared >= threshold * left_total)


@numba.njit(cache=True, nogil=True)
def _find_duplicates(
    features: RecordFeatures, groups: U32, order: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    lost, survivor = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    score = np.empty(len(order), np.float64)
    found = begin = 0
    while begin < len(order):
        end = begin + 1
        while (
            end < len(order)
            and groups[order[end]] == groups[order[begin]]
            and features.key_terms[order[end]] == features.key_terms[order[begin]]
        ):
            end += 1
        rest = order[begin:end].copy()
        for _ in range(MAX_SURVIVORS):
            if len(rest) < 2:
                break
            best, left = rest[0], 0
            for i in range(1, len(rest)):
                other = rest[i]
                similar = _jaccard(features, best, other)
                if similar >= threshold and _same_content(features, best, other, threshold):
                    lost[found], survivor[found], score[found] = other, best, similar
                    found += 1
                else:
                    rest[left] = other
                    left += 1
            rest = rest[:left]
        begin = end
    return lost[:found], survivor[:found], score[:found]
