"""The vocabulary of a corpus: the words that its language shows to be uninformative, and its boilerplate.

    texts ─ count_sample ─▶ hashes ─ counts ─ frequent_sentences ─▶ vocabulary ─▶ content

Boilerplate are sentences that many documents have at the beginning or end of an instruction or at the end of a response
and few elsewhere, without numbers, signs, names, and words that may be a verdict.
"""

import functools
from collections.abc import Sequence

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near import language
from pipeline.dedup.near.content import BOILERPLATE_LEAST_WORDS, BOILERPLATE_WORDS
from pipeline.dedup.near.tokens import (
    CAPITAL,
    ELSEWHERE,
    FIXED,
    SIGN,
    U8,
    UPPER,
    Vocabulary,
    is_in,
    scratch,
    sentence_end,
    sequence_hash,
    sort_unique,
    tokenize,
    write_terms,
)
from pipeline.text.characters import tables
from pipeline.text.codes import Int
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hash_table import slots_for
from pipeline.text.hashing import U64
from pipeline.text.options import INNER_KERNEL, KERNEL, ZERO

BOILERPLATE_SHARE = 1 / 20_000
"""Share of the documents that have a sentence for it to be boilerplate…"""
BOILERPLATE_ELSEWHERE = 0.1
"""Largest number of documents that have it in other places than the ends where boilerplate is expected, as a share of
those that have it there."""
BOILERPLATE_LEAST = 20
"""…and least number of them: more than there are wordings of a task about the same text."""


@functools.cache
def bare_vocabulary() -> Vocabulary:
    """A vocabulary without words or boilerplate: it is enough to hash words."""
    empty = np.zeros(1, np.uint64)
    return Vocabulary(*tables(), empty, empty, empty, empty, empty, empty, empty, empty)


@functools.cache
def language_vocabulary() -> Vocabulary:
    """The vocabulary of `pipeline.dedup.near.language`, without the boilerplate of a corpus."""
    groups = [group.split() for group in language.INTERCHANGEABLE.split(";")]
    representatives = {word: group[0] for group in reversed(groups) for word in group}
    hashes = dict(zip(representatives, _hash_words(list(representatives)), strict=True))
    members = np.array([*hashes.values(), *_hash_words(language.EMPTY.split())], np.uint64)
    stand_for = np.zeros(len(members), np.uint64)
    stand_for[: len(hashes)] = [hashes[first] for first in representatives.values()]
    interchangeable, group_of_slot = _table_of(members, stand_for)
    polite, edges = _hash_phrases([phrase.strip() for phrase in language.POLITE_PHRASES.split("|")])
    courteous, markers, polar = (
        _set_of(_hash_words(words.split()))
        for words in (language.COURTEOUS, language.COURTEOUS_MARKERS, language.POLAR)
    )
    return bare_vocabulary()._replace(
        interchangeable=interchangeable,
        representatives=group_of_slot,
        polite=_set_of(polite),
        polite_edges=_set_of(edges),
        courteous=courteous,
        courteous_markers=markers,
        polar=polar,
    )


def vocabulary(boilerplate: U64) -> Vocabulary:
    """The vocabulary of a corpus.

    Parameters
    ----------
    boilerplate
        uint64 (n,): hashes of the corpus's frequent sentences; see `frequent_sentences`.
    """
    return language_vocabulary()._replace(boilerplate=_set_of(boilerplate))


def count_sample(instructions: pa.Array, responses: pa.Array) -> U64:
    """Hashes of the sentences of some pairs that are boilerplate if many pairs have them, uint64, each once a pair."""
    pairs = texts_of(instructions), texts_of(responses)
    room = sum(int(texts.bounds[-1] - texts.bounds[0]) for texts in pairs) + 2 * len(instructions)
    sentences = np.empty(room, np.uint64)
    found = _count_sample(*pairs, language_vocabulary(), *scratch(*pairs), sentences)
    return sentences[:found].copy()


def frequent_sentences(sentences: U64, counts: NDArray[np.int64], documents: int) -> U64:
    """Sentences that are boilerplate in a corpus.

    Parameters
    ----------
    sentences, counts
        uint64, int64 (n,): a sentence's hash (it may occur several times) and how many documents have it.
    documents
        Number of documents that were counted.
    """
    unique, where = np.unique(sentences & ~ELSEWHERE, return_inverse=True)
    there = sentences & ELSEWHERE == 0
    ends, elsewhere = (
        np.bincount(where[chosen], weights=counts[chosen], minlength=len(unique)) for chosen in (there, ~there)
    )
    frequent = ends >= max(BOILERPLATE_LEAST, BOILERPLATE_SHARE * documents)
    return unique[frequent & (elsewhere <= BOILERPLATE_ELSEWHERE * ends)]


def _hash_words(words: Sequence[str]) -> U64:
    return _hash_phrases(words)[1][: len(words)]


def _hash_phrases(phrases: Sequence[str]) -> tuple[U64, U64]:
    """Hash of the words of each phrase, (n,), and hashes of the first and then of the last words, (2 n,)."""
    texts = texts_of(pa.array(phrases, pa.large_string()))
    hashes, flags, _ = scratch(texts, texts)
    sequences, edges = np.empty(len(phrases), np.uint64), np.empty(2 * len(phrases), np.uint64)
    _write_sequences(texts, bare_vocabulary(), hashes, flags, sequences, edges)
    return sequences, edges


@numba.njit(**KERNEL)
def _write_sequences(texts: Texts, known: Vocabulary, hashes: U64, flags: U8, sequences: U64, edges: U64) -> None:
    """Write the hashes of each phrase and of its first and last word; `hashes` and `flags` are scratch."""
    n = len(sequences)
    for text in range(n):
        count, _ = tokenize(texts, text, known, hashes, flags)
        sequences[text] = sequence_hash(hashes, ZERO, count)
        edges[text], edges[n + text] = hashes[0], hashes[count - 1]


def _set_of(keys: U64) -> U64:
    """Set of some hashes, none 0."""
    return _table_of(keys, keys)[0]


def _table_of(keys: U64, values: U64) -> tuple[U64, U64]:
    """Set of some hashes, none 0, and the value of the hash in each slot; 0 in empty slots."""
    slots = slots_for(4 * len(keys) + 1)
    table, found = [0] * slots, [0] * slots
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        slot = key % slots
        while table[slot] not in (0, key):
            slot = (slot + 1) % slots
        table[slot], found[slot] = key, value
    return np.array(table, np.uint64), np.array(found, np.uint64)


@numba.njit(**KERNEL)
def _count_sample(
    instructions: Texts, responses: Texts, known: Vocabulary, hashes: U64, flags: U8, terms: U64, sentences: U64
) -> Int:
    """Write the hashes of sentences and return their number; `hashes`, `flags` and `terms` are scratch."""
    found = ZERO
    for pair in range(len(instructions.bounds) - 1):
        first = found
        for response in (False, True):
            count, _ = tokenize(responses if response else instructions, pair, known, hashes, flags)
            write_terms(hashes, flags, count, known, terms)
            place = ZERO
            while place < count:
                begin = place
                place = sentence_end(flags, begin, count)
                if _may_be_boilerplate(hashes, flags, begin, place, known):
                    value = sequence_hash(terms, begin, place)
                    expected = (place == count or (begin == 0 and not response)) and place - begin < count
                    sentences[found] = value if expected else value | ELSEWHERE
                    found += 1
        found = sort_unique(sentences, first, found)
    return found


@numba.njit(**INNER_KERNEL)
def _may_be_boilerplate(hashes: U64, flags: U8, begin: int, end: int, known: Vocabulary) -> bool:
    """Whether a sentence is neither too short nor too long, and has no number, sign, name or polar word."""
    if not BOILERPLATE_LEAST_WORDS <= end - begin <= BOILERPLATE_WORDS:
        return False
    for place in range(begin, end):
        if flags[place] & (SIGN | FIXED | CAPITAL | UPPER) or is_in(known.polar, hashes[place]):
            return False
    return True
