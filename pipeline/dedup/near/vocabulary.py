"""The vocabulary of a corpus: which words are ordinary, and which sentences are boilerplate.

    texts ─ count_sample ─▶ hashes ─ counts ─ frequent_words, frequent_sentences ─▶ vocabulary ─▶ tokenize

A word is *ordinary* if the corpus often has it in lower case. Names, rare words, identifiers and words of other
languages are not. Negations, numbers in words and what reverses a statement's meaning (`POLAR`) never are.
"""

import functools
from collections.abc import Sequence

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.tokens import LOWER, Vocabulary, scratch, sentence, sort_unique, tokenize
from pipeline.text.characters import tables
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hash_table import slot_of, slots_for
from pipeline.text.hashing import U64

ORDINARY_SHARE = 1 / 2000
"""Share of the documents that have a word in lower case for it to be ordinary…"""
ORDINARY_LEAST = 3
"""…and least number of them."""
BOILERPLATE_SHARE = 1 / 20_000
"""Share of the documents that have a sentence for it to be boilerplate…"""
BOILERPLATE_LEAST = 20
"""…and least number of them: more than there are wordings of a task about the same text."""

FUNCTION_WORDS = """
a about above after again all also am an and any are as at be because been being below between both but by can could did
do does doing down during each following for from further given had has have having he her here hers him his how i if in
into is it its itself just kindly let like may me might more my now of off on once only or other our out over own please
provide shall she should so some such than that the their them then there these they this those through to too under
until up use using very was we were what when where which while who whom why will with would write you your yours
"""
"""Ordinary in any corpus, however small. English; other languages' words are learned from the corpus."""

COMMON_WORDS = """
add answer ask begin careful carefully clear complete describe detail example explain feel find follow free give
good great hello help hope keep kind know learn list look make mean mine must need part people place question read say
sentence show start step take tell text thank thanks thing think time try understand use want way welcome word work
"""
"""Ordinary in any corpus too: a small one may have them at the beginning of sentences only."""

POLAR = """
no not never none nor neither nothing nobody nowhere without cannot cant dont doesnt didnt isnt arent wasnt werent wont
wouldnt shouldnt couldnt hasnt havent hadnt except unless false true yes incorrect correct wrong right invalid valid
zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen half twice double
triple quarter third first second last fourth fifth sixth seventh eighth ninth tenth once
more less fewer most least greater smaller larger bigger higher lower longer shorter taller older younger faster slower
greatest smallest largest biggest highest lowest longest shortest tallest oldest youngest fastest slowest best worst
better worse maximum minimum max min increase decrease increases decreases increased decreased ascending descending
before after above below over under left up down inside outside north south east west even odd positive negative
always sometimes all any every only both either add subtract multiply divide plus minus times sum difference product
"""
"""Never ordinary: replacing, adding or dropping one can reverse a text's meaning. English."""


@functools.cache
def bare_vocabulary() -> Vocabulary:
    """A vocabulary without ordinary words or boilerplate: it is enough to hash words."""
    empty = np.zeros(1, np.uint64)
    bare = Vocabulary(*tables(), empty, empty, empty, np.zeros(2, np.uint64))
    return bare._replace(answer=_hash_words(["answer", "is"], bare))


def vocabulary(frequent: U64, boilerplate: U64) -> Vocabulary:
    """The vocabulary of a corpus.

    Parameters
    ----------
    frequent, boilerplate
        uint64 (n,): hashes of the corpus's frequent words and sentences; see `frequent_words`, `frequent_sentences`.
    """
    bare = bare_vocabulary()
    function, common, polar = (_hash_words(words.split(), bare) for words in (FUNCTION_WORDS, COMMON_WORDS, POLAR))
    ordinary = np.setdiff1d(np.concatenate([frequent, function, common]), polar)
    return bare._replace(
        ordinary=_set_of(ordinary, slots_for(4 * len(ordinary) + 1)),
        function=_set_of(function, slots_for(4 * len(function) + 1)),
        boilerplate=_set_of(boilerplate, slots_for(4 * len(boilerplate) + 1)),
    )


def count_sample(instructions: pa.Array, responses: pa.Array) -> tuple[U64, U64]:
    """Hashes of the words and sentences by which some pairs contribute to their corpus's vocabulary.

    Returns
    -------
    words, sentences
        uint64: the lower-case words and the sentences of all pairs, each once a pair.
    """
    return _count_sample(texts_of(instructions), texts_of(responses), bare_vocabulary())


def frequent_words(words: U64, counts: NDArray[np.int64], documents: int) -> U64:
    """Words that are ordinary in a corpus.

    Parameters
    ----------
    words, counts
        uint64, int64 (n,): a word's hash (it may occur several times) and how many documents have it in lower case.
    documents
        Number of documents that were counted.
    """
    return _frequent(words, counts, max(ORDINARY_LEAST, ORDINARY_SHARE * documents))


def frequent_sentences(sentences: U64, counts: NDArray[np.int64], documents: int) -> U64:
    """Sentences that are boilerplate in a corpus; parameters as for `frequent_words`."""
    return _frequent(sentences, counts, max(BOILERPLATE_LEAST, BOILERPLATE_SHARE * documents))


def _frequent(hashes: U64, counts: NDArray[np.int64], least: float) -> U64:
    unique, where = np.unique(hashes, return_inverse=True)
    return unique[np.bincount(where, weights=counts, minlength=len(unique)) >= least]


def _hash_words(words: Sequence[str], known: Vocabulary) -> U64:
    return _first_tokens(texts_of(pa.array(words, pa.large_string())), False, known)


@numba.njit(cache=True)
def _first_tokens(texts: Texts, response: bool, known: Vocabulary) -> U64:
    """Hash of the first token of each text."""
    found = np.empty(len(texts.bounds) - 1, np.uint64)
    hashes, flags = scratch(texts, texts)
    for text in range(len(found)):
        tokenize(texts, text, response, known, hashes, flags)
        found[text] = hashes[0]
    return found


@numba.njit(cache=True)
def _set_of(keys: U64, slots: int) -> U64:
    table = np.zeros(slots, np.uint64)
    for key in keys:
        table[slot_of(table, key, key)] = key
    return table


@numba.njit(cache=True, nogil=True)
def _count_sample(instructions: Texts, responses: Texts, known: Vocabulary) -> tuple[U64, U64]:
    pairs = len(instructions.bounds) - 1
    room = instructions.bounds[-1] - instructions.bounds[0] + responses.bounds[-1] - responses.bounds[0] + 2 * pairs
    words, sentences = np.empty(room, np.uint64), np.empty(room, np.uint64)
    hashes, flags = scratch(instructions, responses)
    word_count = sentence_count = 0
    for pair in range(pairs):
        first_word, first_sentence = word_count, sentence_count
        for response in (False, True):
            count = tokenize(responses if response else instructions, pair, response, known, hashes, flags)
            for i in range(count):
                if flags[i] & LOWER:
                    words[word_count] = hashes[i]
                    word_count += 1
            place = 0
            while place < count:
                sentences[sentence_count], _, place = sentence(hashes, flags, place, count)
                sentence_count += 1
        word_count = sort_unique(words, first_word, word_count)
        sentence_count = sort_unique(sentences, first_sentence, sentence_count)
    return words[:word_count].copy(), sentences[:sentence_count].copy()
