"""Comparison: which records of a group of candidates are duplicates, and of which.

    texts ─ extract_features ─▶ RecordFeatures ─ find_duplicates ─▶ losers, their twins, scores

Two records are duplicates if, for both instruction and response (`pipeline.dedup.near.content`),

- their key terms are equal: all words and signs in the same order, but for interchangeable and empty words;
- their capitals are those of the same text;
- boilerplate at their ends is the same, or only one has any;

and if the exact Jaccard similarity of their shingles reaches the threshold.

The best record of a group survives and is compared with all others; its duplicates lose to it. Then the best of the
rest survives, and so on. So every twin is a survivor, and every score is a similarity to the survivor.
"""

from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.content import ASIDES, read_content, same_asides, same_case
from pipeline.dedup.near.signatures import RESPONSE_SALT, shingles
from pipeline.dedup.near.tokens import U8, Vocabulary, scratch, sort_unique
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hashing import U64, mix
from pipeline.text.options import INNER_KERNEL, KERNEL

U32 = NDArray[np.uint32]

MAX_SURVIVORS = 256
"""Survivors that the others of a group are compared with; what is left then stays. It bounds the work on a group of
many records that are alike but not duplicates."""


class RecordFeatures(NamedTuple):
    """What n records are compared by."""

    key_terms: U64
    """(n,): hash of each record's key terms."""
    asides: U64
    """(n, 2, ASIDES): hashes of what is set aside in each instruction and response, 0 in the rest."""
    cases: U64
    """(n, 2): letter case of each instruction and response, and…"""
    capitals: U64
    """(n, 2): …their capitals (`case` and `capitals` of `pipeline.dedup.near.content.Content`)."""
    shingles: U64
    """Of each record, sorted, each once; one record after the other."""
    shingle_bounds: NDArray[np.int64]
    """(n + 1,)"""


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
    pairs = texts_of(instructions), texts_of(responses)
    n = len(instructions)
    room = sum(int(texts.bounds[-1] - texts.bounds[0]) for texts in pairs) + 2 * n
    features = RecordFeatures(
        key_terms=np.empty(n, np.uint64),
        asides=np.empty((n, 2, ASIDES), np.uint64),
        cases=np.empty((n, 2), np.uint64),
        capitals=np.empty((n, 2), np.uint64),
        shingles=np.empty(room, np.uint64),
        shingle_bounds=np.zeros(n + 1, np.int64),
    )
    _write_features(*pairs, vocabulary, shingle, *scratch(*pairs), features)
    return features._replace(shingles=features.shingles[: features.shingle_bounds[-1]].copy())


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
    # A copy, since arrays that cannot be written are another type to numba, for which it would compile again.
    lost, survivor = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    score = np.empty(len(order), np.float64)
    found = _find_duplicates(features, np.array(groups), order, threshold, lost, survivor, score)
    return lost[:found], survivor[:found], score[:found]


@numba.njit(**KERNEL)
def _write_features(
    instructions: Texts,
    responses: Texts,
    vocabulary: Vocabulary,
    size: int,
    hashes: U64,
    flags: U8,
    all_terms: U64,
    features: RecordFeatures,
) -> None:
    """Write the features of all records; the first of `shingle_bounds` is there."""
    for record in range(len(instructions.bounds) - 1):
        terms = np.uint64(0)
        first = filled = features.shingle_bounds[record]
        for response in (False, True):
            texts = responses if response else instructions
            field = int(response)
            asides = features.asides[record, field]
            content = read_content(texts, record, response, vocabulary, hashes, flags, all_terms, asides)
            terms = mix((terms ^ content.key_terms) + np.uint64(1))
            features.cases[record, field], features.capitals[record, field] = content.case, content.capitals
            count = shingles(hashes, flags, content.tokens, size, RESPONSE_SALT if response else np.uint64(0))
            for place in range(count):  # an assignment of slices takes numba two seconds to compile
                features.shingles[filled + place] = hashes[place]
            filled += count
        features.shingle_bounds[record + 1] = sort_unique(features.shingles, first, filled)
        features.key_terms[record] = terms


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
def _same_content(features: RecordFeatures, a: int, b: int) -> bool:
    """Whether two records of the same key terms have the same letter case, and at most one of them more boilerplate."""
    for field in range(2):
        if not same_asides(features.asides[a, field], features.asides[b, field]):
            return False
        same_capitals = features.capitals[a, field] == features.capitals[b, field]
        if not (same_capitals or same_case(features.cases[a, field], features.cases[b, field])):
            return False
    return True


@numba.njit(**KERNEL)
def _find_duplicates(
    features: RecordFeatures,
    groups: U32,
    order: NDArray[np.int64],
    threshold: float,
    lost: NDArray[np.int64],
    survivor: NDArray[np.int64],
    score: NDArray[np.float64],
) -> int:
    """Write the duplicates and return their number; `order` is overwritten."""
    found = begin = 0
    while begin < len(order):
        end = begin + 1
        while (
            end < len(order)
            and groups[order[end]] == groups[order[begin]]
            and features.key_terms[order[end]] == features.key_terms[order[begin]]
        ):
            end += 1
        rest = order[begin:end]
        for _ in range(MAX_SURVIVORS):
            if len(rest) < 2:
                break
            best, left = rest[0], 0
            for i in range(1, len(rest)):
                other = rest[i]
                similar = _jaccard(features, best, other)
                if similar >= threshold and _same_content(features, best, other):
                    lost[found], survivor[found], score[found] = other, best, similar
                    found += 1
                else:
                    rest[left] = other
                    left += 1
            rest = rest[:left]
        begin = end
    return found
