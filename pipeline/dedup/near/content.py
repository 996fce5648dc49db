"""Content: what of a text must be the same in its duplicate.

    tokens ─ courtesies ─ boilerplate ─▶ core ─▶ key terms, letter case, shingles
                              └────────▶ aside

The *key terms* of a text are its core's tokens in their order, interchangeable words as one and empty words left out;
duplicates have the same key terms. Courtesies at the ends of a text are dropped. Boilerplate at its ends is set
*aside*: two duplicates may have the same, or one of them none. So is the answer line of a response ("#### 72").
The capitals, or those inside sentences, must be the same, unless one text is in capitals or in small letters
throughout.
"""

from typing import NamedTuple

import numba
import numpy as np

from pipeline.dedup.near.tokens import (
    ALL_LOWER,
    ALL_UPPER,
    ANSWER,
    CAPITAL,
    CASED,
    ELSEWHERE,
    FIRST,
    FIXED,
    INITIAL,
    SIGN,
    U8,
    UPPER,
    Vocabulary,
    is_in,
    sentence_end,
    sequence_hash,
    tokenize,
    write_terms,
)
from pipeline.text.columns import Texts
from pipeline.text.hashing import GOLDEN, U64, mix
from pipeline.text.options import BACKWARD, FORWARD, INNER_KERNEL, PART_OF_KERNEL, ZERO

SHORT_ANSWER = 12
"""In responses of at most this many words no word is interchangeable or empty."""
BOILERPLATE_LEAST_WORDS, BOILERPLATE_WORDS = 3, 24
"""Words of the shortest and of the longest sentence that may be boilerplate."""
BOILERPLATE_SENTENCES = 2
"""Sentences at each end of a text that may be boilerplate."""
ASIDES = 2 * BOILERPLATE_SENTENCES + 1
POLITE_WORDS = 24
"""Words, or characters of a script without spaces, of the longest polite phrase."""
_CASE_BITS = np.uint64(3)
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)


class Content(NamedTuple):
    """What `read_content` finds in a text."""

    tokens: int
    """Number of tokens without courtesies and answer line, which are the first in the arrays."""
    key_terms: np.uint64
    """Hash of its key terms."""
    case: np.uint64
    """Hash of its capitals inside sentences; the two lowest bits are the case of the whole text."""
    capitals: np.uint64
    """Hash of all its capitals."""


@numba.njit(**INNER_KERNEL)
def read_content(
    texts: Texts, text: int, response: bool, vocabulary: Vocabulary, hashes: U64, flags: U8, terms: U64, asides: U64
) -> Content:
    """Read one text.

    Parameters
    ----------
    texts, text
        The texts, and which of them.
    response
        Whether it is a response rather than an instruction.
    vocabulary
        Of the corpus.
    hashes, flags, terms
        Output, from `scratch`: the tokens without courtesies and answer line; scratch.
    asides
        Output (ASIDES,): hashes of what is set aside, 0 in the rest.
    """
    count, case = tokenize(texts, text, vocabulary, hashes, flags)
    write_terms(hashes, flags, count, vocabulary, terms)
    first, last = _without_courtesies(hashes, flags, count, response, vocabulary)
    asides[:] = 0
    last = _without_answer_line(terms, flags, first, last, asides)
    core_first, core_last = _without_boilerplate(terms, flags, first, last, response, vocabulary.boilerplate, asides)
    size = core_last - core_first
    short = response and size <= 4 * SHORT_ANSWER and _words(flags, core_first, core_last) <= SHORT_ANSWER
    key_terms, inner, capitals = _hash_terms(hashes if short else terms, hashes, flags, core_first, core_last)
    count = last - first
    if first > 0:
        for place in range(count):
            hashes[place], flags[place] = hashes[first + place], flags[first + place]
    return Content(count, key_terms, inner & ~_CASE_BITS | np.uint64(case), capitals)


@numba.njit(**INNER_KERNEL)
def same_asides(a: U64, b: U64) -> bool:
    """Whether the same is set aside of two texts, or all that is of one and more of the other."""
    equal = True
    only_a = only_b = 0  # of each, what the other lacks
    for i in range(ASIDES):
        equal &= a[i] == b[i]
        only_a += a[i] != 0 and not _has(b, a[i])
        only_b += b[i] != 0 and not _has(a, b[i])
    return equal or (only_a > 0) != (only_b > 0)


@numba.njit(**INNER_KERNEL)
def _has(asides: U64, value: np.uint64) -> bool:
    found = False
    for aside in asides:
        found |= aside == value
    return found


@numba.njit(**INNER_KERNEL)
def same_case(a: np.uint64, b: np.uint64) -> bool:
    """Whether the letter case (`Content.case`) of two texts is that of duplicates."""
    one, other = np.int64(a & _CASE_BITS), np.int64(b & _CASE_BITS)
    if a | _CASE_BITS == b | _CASE_BITS or one == ALL_UPPER or other == ALL_UPPER:
        return True
    return (one == ALL_LOWER and other == CASED) or (one == CASED and other == ALL_LOWER)


@numba.njit(**PART_OF_KERNEL)
def _hash_terms(terms: U64, hashes: U64, flags: U8, first: int, last: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Hash of the key terms, of the capitals inside sentences with their places, and of all capitals."""
    value, place = np.uint64(1), np.uint64(0)
    inner = capitals = np.uint64(0)
    for i in range(first, last):
        if terms[i] == 0:
            continue
        value = mix((value ^ terms[i]) * _MULTIPLIER)
        place += np.uint64(1)
        shape = flags[i] & np.uint8(INITIAL | CAPITAL | UPPER)
        if shape:
            upper = np.uint64(shape & np.uint8(UPPER))
            upper += np.uint64(upper != 0 and shape != UPPER)  # "iPhone" is not "IPhone"
            capital = mix(hashes[i] + place * _MULTIPLIER + upper)
            capitals += capital
            if shape != INITIAL:
                inner += capital
    return value, inner, capitals


@numba.njit(**PART_OF_KERNEL)
def _words(flags: U8, first: int, last: int) -> int:
    words = 0
    for i in range(first, last):
        words += flags[i] & SIGN == 0
    return words


@numba.njit(**PART_OF_KERNEL)
def _without_courtesies(hashes: U64, flags: U8, count: int, response: bool, vocabulary: Vocabulary) -> tuple[int, int]:
    """Bounds of a text without the polite phrases of an instruction and the courteous sentences at its ends."""
    first, last = ZERO, count
    while True:
        before = last - first
        if not response:
            first += _polite_prefix(hashes, flags, first, last, vocabulary)
            last -= _polite_suffix(hashes, flags, first, last, vocabulary)
        if last > first:
            after = sentence_end(flags, first, last)
            if after < last and _is_courteous(hashes, flags, first, after, vocabulary):
                first = after
            begin = _last_sentence(flags, first, last)
            if begin > first and _is_courteous(hashes, flags, begin, last, vocabulary):
                last = begin
        if last - first == before:
            return first, last


@numba.njit(**PART_OF_KERNEL)
def _last_sentence(flags: U8, first: int, last: int) -> int:
    """Index of the first token of the sentence that ends before `last`."""
    place = last - 1
    while place > first and not flags[place] & FIRST:
        place -= 1
    return place


@numba.njit(**PART_OF_KERNEL)
def _polite_prefix(hashes: U64, flags: U8, first: int, last: int, vocabulary: Vocabulary) -> int:
    """Words of the longest polite phrase that begins a text and is not all of it, 0 if there is none."""
    if first < last and is_in(vocabulary.polite_edges, hashes[first]):
        for size in range(min(POLITE_WORDS, last - first - 1), 0, -1):
            if is_in(vocabulary.polite, sequence_hash(hashes, first, first + size)):
                return size
    return 0


@numba.njit(**PART_OF_KERNEL)
def _polite_suffix(hashes: U64, flags: U8, first: int, last: int, vocabulary: Vocabulary) -> int:
    """Words of the longest polite phrase that ends a text and is not all of it, 0 if there is none."""
    if first < last and is_in(vocabulary.polite_edges, hashes[last - 1]):
        for size in range(min(POLITE_WORDS, last - first - 1), 0, -1):
            if is_in(vocabulary.polite, sequence_hash(hashes, last - size, last)):
                return size
    return 0


@numba.njit(**INNER_KERNEL)
def _is_courteous(hashes: U64, flags: U8, begin: int, end: int, vocabulary: Vocabulary) -> bool:
    """Whether a sentence has only words of courtesies, and a marker among them."""
    marked = False
    for place in range(begin, end):
        if flags[place] & SIGN or not is_in(vocabulary.courteous, hashes[place]):
            return False
        marked |= is_in(vocabulary.courteous_markers, hashes[place])
    return marked


@numba.njit(**PART_OF_KERNEL)
def _without_answer_line(terms: U64, flags: U8, first: int, last: int, asides: U64) -> int:
    """End of a text without its answer line, whose hash becomes the first of `asides`."""
    answer = last
    while answer > first and flags[answer - 1] & ANSWER:
        answer -= 1
    if not first < answer < last:
        return last
    for place in range(answer, last):
        asides[0] = mix(asides[0] * GOLDEN + terms[place])
    return answer


@numba.njit(**PART_OF_KERNEL)
def _without_boilerplate(
    terms: U64, flags: U8, first: int, last: int, response: bool, boilerplate: U64, asides: U64
) -> tuple[int, int]:
    """Bounds of a text without the boilerplate at its ends, whose hashes are written to `asides` from the second on.

    The beginning of a response is never boilerplate, since it may be a verdict.
    """
    found = 1
    while found <= BOILERPLATE_SENTENCES:
        size = _boilerplate_size(terms, flags, last - 1, BACKWARD, last - first - 1, boilerplate)
        if size == 0:
            break
        asides[found] = sequence_hash(terms, last - size, last)
        last -= size
        found += 1
    begins = 0
    while begins < BOILERPLATE_SENTENCES and not response:
        size = _boilerplate_size(terms, flags, first, FORWARD, last - first - 1, boilerplate)
        if size == 0:
            break
        asides[found] = sequence_hash(terms, first, first + size)
        first += size
        found += 1
        begins += 1
    return first, last


@numba.njit(**INNER_KERNEL)
def _boilerplate_size(terms: U64, flags: U8, at: int, step: int, most: int, boilerplate: U64) -> int:
    """Words of the longest boilerplate of at most `most` words that begins at a token (step 1) or ends there (-1).

    It is found by its words alone, wherever the text has sentence ends.
    """
    value, power = np.uint64(0), np.uint64(1)
    found = 0
    for size in range(1, min(BOILERPLATE_WORDS, most) + 1):
        if flags[at] & (SIGN | FIXED):
            break
        if terms[at] != 0:
            if step > 0:
                value = value * GOLDEN + terms[at]
            else:
                value += terms[at] * power
                power *= GOLDEN
            if size >= BOILERPLATE_LEAST_WORDS and is_in(boilerplate, mix(value) & ~ELSEWHERE):
                found = size
        at += step
    return found
