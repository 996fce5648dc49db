"""Words: a text as hashes of its words, and which of them are informative.

    bytes of UTF-8 ─ tokenize ─▶ a hash and flags for each word or sign ─▶ shingles, essence, differences

Words are runs of letters and digits, folded to lower case; white space,
punctuation and apostrophes do not count. What must not differ between
duplicates is the *essence*: the sequence of a text's informative words. These are

- every word with a digit, the word after it (its unit, what is counted) unless
  that is a function word, and signs beside digits; mathematical signs and those
  of code anywhere;
- single letters (variables, labels), but not "a" and "i";
- the words of labelled options of an instruction ("A) red", "- red"), and of a
  response what follows "answer:" or "answer ... is" up to the sentence's end, or
  all of it where it has at most `SHORT_ANSWER` words, closing phrases not counted;
- every word that is not ordinary, which is one that the corpus often writes in
  lower case: so names, rare words, identifiers, other languages;
- negations, numbers in words, and what turns a statement round (`POLAR`).

A word that is capitalised inside a sentence may be a name even though it is an
ordinary word; such a word is flagged, and must not be among the differences.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.text.characters import (
    DIGIT,
    JOINER,
    LETTER,
    LONE,
    NEWLINE,
    OPERATOR,
    PUNCTUATION,
    SENTENCE_END,
    SYMBOL,
    TABLE_SIZE,
    decode,
    tables,
)

U64 = NDArray[np.uint64]

INFORMATIVE, NAME, LOWER, SIGN, FIRST = 1, 2, 4, 8, 16
"""Flags. NAME: capitalised inside a sentence. LOWER: written in lower case. SIGN: no word, and so in no shingle. FIRST:
first word of a sentence, a line or what follows a colon."""

ANSWER_WORDS = 5
"""Words after "answer" among which "is" begins the answer."""
SHORT_ANSWER = 12
"""Responses of at most so many words must agree in every one. Sentences after the first that are boilerplate, such as
"I hope this helps.", do not count."""
ORDINARY_SHARE = 1 / 2000
"""Share of the documents in which a word stands in lower case for it to be ordinary…"""
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
"""Likewise, but in a small corpus they may stand at the beginning of sentences only."""

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
"""Never ordinary: exchanging, adding or dropping one can turn a text's meaning round. English."""


class Texts(NamedTuple):
    """n texts, as kernels take them."""

    data: NDArray[np.uint8]
    """UTF-8."""
    bounds: NDArray[np.int64]
    """(n + 1,): where each text begins, and the last ends."""


def texts_of(column: pa.Array | pa.ChunkedArray) -> Texts:
    """An Arrow large_string column without nulls; nothing is copied from an array."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    _, offsets, data = column.buffers()
    if len(column) == 0 or offsets is None:
        return Texts(np.empty(0, np.uint8), np.zeros(1, np.int64))
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return Texts(np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), bounds)


class Vocabulary(NamedTuple):
    """What `tokenize` knows about characters and words."""

    classes: NDArray[np.uint8]
    folded: NDArray[np.uint32]
    """`pipeline.text.characters.tables`."""
    ordinary: U64
    """Set of hashes: open addressing in a table of 2^k slots, 0 for an empty one."""
    function: U64
    boilerplate: U64
    """Sets of hashes likewise: of `FUNCTION_WORDS`, of sentences."""
    answer: U64
    """Hashes of the words "answer" and "is"."""


@functools.cache
def bare_vocabulary() -> Vocabulary:
    """A vocabulary without any ordinary word or boilerplate: enough to tell words apart."""
    nothing = np.zeros(1, np.uint64)
    bare = Vocabulary(*tables(), nothing, nothing, nothing, np.zeros(2, np.uint64))
    return bare._replace(answer=_single_words(_texts(["answer", "is"]), bare))


def vocabulary(frequent: U64, boilerplate: U64) -> Vocabulary:
    """The vocabulary of a corpus.

    Parameters
    ----------
    frequent, boilerplate
        uint64 (n,): hashes of the corpus's frequent words and sentences; see `frequent_words`, `frequent_sentences`.
    """
    bare = bare_vocabulary()
    function, common, polar = (
        _single_words(_texts(words.split()), bare) for words in (FUNCTION_WORDS, COMMON_WORDS, POLAR)
    )
    words = np.setdiff1d(np.concatenate([frequent, function, common]), polar)
    return bare._replace(ordinary=_hash_set(words), function=_hash_set(function), boilerplate=_hash_set(boilerplate))


def _texts(words: Sequence[str]) -> Texts:
    return texts_of(pa.array(words, pa.large_string()))


def count_sample(instructions: pa.Array, responses: pa.Array) -> tuple[U64, U64]:
    """What is counted in some pairs to learn a corpus's vocabulary.

    Returns
    -------
    words, sentences
        Hashes, uint64: of the words that stand in lower case in each pair, and of its sentences, each once a pair; all
        pairs together.
    """
    return _count_sample(texts_of(instructions), texts_of(responses), bare_vocabulary())


def frequent_words(words: U64, counts: NDArray[np.int64], documents: int) -> U64:
    """Words that are ordinary in a corpus.

    Parameters
    ----------
    words, counts
        uint64, int64 (n,): a word's hash (it may occur several times) and how many documents have it in lower case.
    documents
        Number of documents that were looked at.
    """
    return _frequent(words, counts, max(ORDINARY_LEAST, ORDINARY_SHARE * documents))


def frequent_sentences(sentences: U64, counts: NDArray[np.int64], documents: int) -> U64:
    """Sentences that are boilerplate in a corpus; parameters as for `frequent_words`."""
    return _frequent(sentences, counts, max(BOILERPLATE_LEAST, BOILERPLATE_SHARE * documents))


def _frequent(hashes: U64, counts: NDArray[np.int64], least: float) -> U64:
    unique, where = np.unique(hashes, return_inverse=True)
    return unique[np.bincount(where, weights=counts, minlength=len(unique)) >= least]


@numba.njit(inline="always")
def mix(x: np.uint64) -> np.uint64:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(inline="always")
def is_in(table: U64, word: np.uint64) -> bool:
    """Whether a set of a `Vocabulary` has a hash."""
    mask = np.uint64(len(table) - 1)
    slot = word & mask
    while table[slot] != 0:
        if table[slot] == word:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


def _hash_set(words: U64) -> U64:
    return _fill(words, 1 << math.ceil(math.log2(4 * len(words) + 1)))


@numba.njit(cache=True)
def _fill(words: U64, slots: int) -> U64:
    table = np.zeros(slots, np.uint64)
    mask = np.uint64(len(table) - 1)
    for word in words:
        slot = word & mask
        while table[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = word
    return table


@numba.njit(inline="always")
def _is_digit(data: NDArray[np.uint8], place: int, end: int) -> bool:
    return place < end and 48 <= data[place] <= 57


_SEED, _PRIME = np.uint64(0x9AE16A3B2F90404F), np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True)
def sentence(hashes: U64, flags: NDArray[np.uint8], begin: int, count: int) -> tuple[np.uint64, int, int]:
    """The sentence that begins at a word.

    Parameters
    ----------
    hashes, flags, count
        What `tokenize` wrote.
    begin
        Place of its first word or sign.

    Returns
    -------
    value
        Hash of its words in their order.
    size, end
        Its words, and the place after it.
    """
    value, size, place = _SEED, 0, begin
    while place < count and not (flags[place] & FIRST and size > 0):
        if not flags[place] & SIGN:
            value = mix(value * _PRIME + hashes[place])
            size += 1
        place += 1
    return value, size, place


@numba.njit(cache=True, nogil=True)
def _mark_answer(hashes: U64, flags: NDArray[np.uint8], count: int, vocabulary: Vocabulary) -> None:
    """If a response is short, make all its words informative, but not its closing phrases."""
    for marking in (False, True):
        words = place = 0
        while place < count:
            begin = place
            value, size, place = sentence(hashes, flags, begin, count)
            if begin > 0 and is_in(vocabulary.boilerplate, value):
                continue
            words += size
            if marking:
                for i in range(begin, place):
                    flags[i] |= np.uint8(INFORMATIVE)
        if words > SHORT_ANSWER:
            return


@numba.njit(cache=True, nogil=True)
def tokenize(
    texts: Texts, text: int, response: bool, vocabulary: Vocabulary, hashes: U64, flags: NDArray[np.uint8]
) -> int:
    """Words and signs of one text.

    Parameters
    ----------
    texts, text
        Which text.
    response
        Whether it is a response (an instruction otherwise): what is informative differs.
    vocabulary
        Of the corpus.
    hashes, flags
        Written: one entry a word or sign; there must be room for one a byte, and one more.

    Returns
    -------
    int
        How many were written; at least 1: a text without a word is one sign.
    """
    data, begin, end = texts.data, texts.bounds[text], texts.bounds[text + 1]
    classes, folded = vocabulary.classes, vocabulary.folded
    count = words = names = asked = 0
    sentence_start = line_start = True
    loud = after_number = after_digit = False
    previous = np.int64(32)
    place = begin
    while place < end:
        char, width = decode(data, place)
        kind = np.uint8(LONE) if char >= TABLE_SIZE else classes[char]
        if kind in (LETTER, DIGIT):
            first = place
            before = previous
            upper = bool(kind == LETTER and char < TABLE_SIZE and folded[char] != char)
            word = _SEED
            length = 0
            digits = False
            while True:
                if kind in (LETTER, DIGIT):
                    word = (word ^ np.uint64(folded[char])) * _PRIME
                    length += 1
                    digits |= kind == DIGIT
                elif kind == JOINER:
                    pass
                elif digits and char == 46 and _is_digit(data, place - 1, end) and _is_digit(data, place + 1, end):
                    word = (word ^ np.uint64(46)) * _PRIME  # a decimal point
                elif (
                    digits
                    and char == 44
                    and _is_digit(data, place - 1, end)
                    and _is_digit(data, place + 1, end)
                    and _is_digit(data, place + 2, end)
                    and _is_digit(data, place + 3, end)
                    and not _is_digit(data, place + 4, end)
                ):
                    pass  # a separator of thousands
                else:
                    break
                previous = char
                place += width
                if place >= end:
                    break
                char, width = decode(data, place)
                kind = np.uint8(LONE) if char >= TABLE_SIZE else classes[char]
            word = mix(word)
            single = length == 1 and place - first == 1 and not digits
            label = False
            if not response and place < end and (single or (digits and length <= 2)):
                spaced = place + 1 >= end or data[place + 1] == 32 or data[place + 1] == 10
                if char == 41:
                    label = line_start or before in (10, 32, 40)
                elif (char == 46 or char == 58) and spaced:
                    label = line_start or (single and upper)
            mark = np.uint8(0)
            counted = after_number and not is_in(vocabulary.function, word)
            lone = single and data[first] | 32 != 97 and data[first] | 32 != 105
            if digits or loud or label or counted or lone or not is_in(vocabulary.ordinary, word):
                mark |= np.uint8(INFORMATIVE)
            if upper and not sentence_start and length > 1:
                mark |= np.uint8(NAME)
                names += 1
            if not upper:
                mark |= np.uint8(LOWER)
            if sentence_start:
                mark |= np.uint8(FIRST)
            hashes[count] = word
            flags[count] = mark
            count += 1
            words += 1
            loud |= label or (asked > 0 and word == vocabulary.answer[1])
            asked = ANSWER_WORDS if response and word == vocabulary.answer[0] else max(0, asked - 1)
            after_number = after_digit = digits
            sentence_start = line_start = False
            continue
        if kind == LONE:
            word = mix((_SEED ^ np.uint64(char)) * _PRIME)
            hashes[count] = word
            flags[count] = np.uint8(LOWER)
            if loud or after_number or not is_in(vocabulary.ordinary, word):
                flags[count] |= np.uint8(INFORMATIVE)
            if sentence_start:
                flags[count] |= np.uint8(FIRST)
            count += 1
            words += 1
            after_number = after_digit = sentence_start = line_start = False
        elif kind in (SYMBOL, OPERATOR):
            if line_start and (char == 45 or char == 42) and place + 1 < end and data[place + 1] == 32:
                loud |= not response  # a list's item
            else:
                ahead = place + width
                while ahead < end and data[ahead] == 32:
                    ahead += 1
                if kind == SYMBOL or after_digit or _is_digit(data, ahead, end):
                    hashes[count] = mix((_SEED ^ np.uint64(folded[char] + 0x200000)) * _PRIME)
                    flags[count] = np.uint8(SIGN | INFORMATIVE)
                    count += 1
            line_start = after_number = after_digit = False
        elif kind == NEWLINE:
            sentence_start = line_start = True
            wrapped = place + 1 < end and 97 <= data[place + 1] <= 122
            after_number &= wrapped
            loud &= wrapped
            after_digit = False
        elif kind == SENTENCE_END:
            spaced = place + width >= end or data[place + width] == 32 or data[place + width] == 10
            if spaced or width > 1:
                sentence_start = True
                loud &= not response
            line_start = after_number = after_digit = False
        elif kind == PUNCTUATION:
            sentence_start |= char == 58
            loud |= char == 58 and asked == ANSWER_WORDS
            line_start &= char == 40
            after_number = after_digit = False
        previous = char
        place += width
    if words == 0:
        word = _SEED
        for place in range(begin, end):
            word = (word ^ np.uint64(data[place])) * _PRIME
        hashes[count] = mix(word ^ np.uint64(1))
        flags[count] = np.uint8(INFORMATIVE)
        return count + 1
    if 2 * names > words:
        for i in range(count):  # a text in capitals or a title tells no names
            flags[i] &= np.uint8(255 - NAME)
    if response and words <= 4 * SHORT_ANSWER:
        _mark_answer(hashes, flags, count, vocabulary)
    return count


@numba.njit(cache=True)
def _single_words(texts: Texts, vocabulary: Vocabulary) -> U64:
    found = np.empty(len(texts.bounds) - 1, np.uint64)
    for text in range(len(found)):
        hashes, flags = scratch(texts, text)
        tokenize(texts, text, False, vocabulary, hashes, flags)
        found[text] = hashes[0]
    return found


@numba.njit(inline="always")
def scratch(texts: Texts, text: int) -> tuple[U64, NDArray[np.uint8]]:
    """Room for what `tokenize` writes about a text; for a shorter one too."""
    size = texts.bounds[text + 1] - texts.bounds[text] + 1
    return np.empty(size, np.uint64), np.empty(size, np.uint8)


@numba.njit(cache=True, nogil=True)
def _count_sample(instructions: Texts, responses: Texts, vocabulary: Vocabulary) -> tuple[U64, U64]:
    pairs = len(instructions.bounds) - 1
    room = instructions.bounds[-1] - instructions.bounds[0] + responses.bounds[-1] - responses.bounds[0] + 2 * pairs
    words, sentences = np.empty(room, np.uint64), np.empty(room, np.uint64)
    filled = ended = 0
    for pair in range(pairs):
        first_word, first_sentence = filled, ended
        for response in (False, True):
            texts = responses if response else instructions
            hashes, flags = scratch(texts, pair)
            count = tokenize(texts, pair, response, vocabulary, hashes, flags)
            for i in range(count):
                if flags[i] & LOWER:
                    words[filled] = hashes[i]
                    filled += 1
            place = 0
            while place < count:
                sentences[ended], _, place = sentence(hashes, flags, place, count)
                ended += 1
        filled = _only_once(words, first_word, filled)
        ended = _only_once(sentences, first_sentence, ended)
    return words[:filled].copy(), sentences[:ended].copy()


@numba.njit(inline="always")
def _only_once(values: U64, begin: int, end: int) -> int:
    """Keep each of values[begin:end] once, in place; where they end then."""
    unique = np.unique(values[begin:end])
    values[begin : begin + len(unique)] = unique
    return begin + len(unique)
