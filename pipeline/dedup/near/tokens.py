"""Tokens: the words and signs of a text as hashes, with flags that mark its key terms.

    bytes of UTF-8 ─ tokenize ─▶ a hash and flags for each word or sign ─▶ shingles, key terms, differences

Words are runs of letters and digits, folded to lower case; white space, punctuation and apostrophes do not count. The
*key terms* of a text are its informative tokens in their order. Duplicates have the same key terms. Informative are

- every word with a digit, the word after it (a unit, or what is counted) unless that is a function word, and signs
  beside digits; mathematical signs and those of code anywhere;
- single letters (variables, labels), but not "a" and "i";
- the words of labelled options of an instruction ("A) red", "- red"), and of a response what follows "answer:" or
  "answer ... is" up to the sentence's end, or all of it where it has at most `SHORT_ANSWER` words, closing phrases
  not counted;
- every word that is not ordinary (`pipeline.dedup.near.vocabulary`): names, rare words, identifiers, other languages.

A word that is capitalised inside a sentence may be a name even though it is an ordinary word. It is flagged `NAME`,
and two duplicates must not differ by it.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.text import codes
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
    class_of,
    decode,
)
from pipeline.text.codes import is_blank_at, is_digit_at, past_blanks, separates_thousands
from pipeline.text.columns import Texts
from pipeline.text.hash_table import slot_of
from pipeline.text.hashing import GOLDEN, U64, mix
from pipeline.text.options import INNER_KERNEL

U8 = NDArray[np.uint8]

INFORMATIVE, NAME, LOWER, SIGN, FIRST = 1, 2, 4, 8, 16
"""Flags. NAME: capitalised inside a sentence. LOWER: written in lower case. SIGN: not a word, so in no shingle. FIRST:
first word of a sentence, of a line, or after a colon."""

ANSWER_WORDS = 5
"""Words after "answer" among which "is" begins the answer."""
SHORT_ANSWER = 12
"""Responses of at most this many words must agree in every one. Sentences after the first that are boilerplate, such as
"I hope this helps.", do not count."""

_SEED = np.uint64(0x9AE16A3B2F90404F)
_SIGNS = 0x200000
"""Added to a sign's code point before hashing, so that it is beyond every word's."""


class Vocabulary(NamedTuple):
    """What `tokenize` knows about characters and words. Sets are tables of `pipeline.text.hash_table`."""

    classes: U8
    folded: NDArray[np.uint32]
    """`pipeline.text.characters.tables`."""
    ordinary: U64
    """Set of the hashes of words that are not informative by themselves."""
    function: U64
    """Set of the hashes of function words."""
    boilerplate: U64
    """Set of the hashes of sentences that many records have."""
    answer: U64
    """Hashes of the words "answer" and "is"."""


@numba.njit(inline="always")
def is_in(table: U64, key: np.uint64) -> bool:
    """Whether a set of a `Vocabulary` has a hash."""
    return bool(table[slot_of(table, key, key)] != 0)


@numba.njit(cache=True, nogil=True)
def scratch(instructions: Texts, responses: Texts) -> tuple[U64, U8]:
    """Arrays for the hashes and flags that `tokenize` writes, large enough for any of the texts."""
    longest = 0
    for texts in (instructions, responses):
        for text in range(len(texts.bounds) - 1):
            longest = max(longest, texts.bounds[text + 1] - texts.bounds[text])
    return np.empty(longest + 1, np.uint64), np.empty(longest + 1, np.uint8)


@numba.njit(cache=True, nogil=True)
def sort_unique(values: U64, begin: int, end: int) -> int:
    """Sort values[begin:end] and drop repetitions, in place; returns the new end."""
    values[begin:end].sort()
    kept = begin
    for i in range(begin, end):
        if kept == begin or values[i] != values[kept - 1]:
            values[kept] = values[i]
            kept += 1
    return kept


@numba.njit(**INNER_KERNEL)
def tokenize(texts: Texts, text: int, response: bool, vocabulary: Vocabulary, hashes: U64, flags: U8) -> int:
    """Write the words and signs of one text.

    Parameters
    ----------
    texts, text
        The texts, and which of them.
    response
        Whether it is a response rather than an instruction: their informative words differ.
    vocabulary
        Of the corpus.
    hashes, flags
        Output, from `scratch`: one entry for each word or sign.

    Returns
    -------
    int
        Number of entries written, at least 1: a text without a word gets a sign in its place.
    """
    data, begin, end = texts.data, texts.bounds[text], texts.bounds[text + 1]
    classes, folded = vocabulary.classes, vocabulary.folded
    count = words = names = 0
    words_until_is = 0  # words left among which "is" would begin the answer
    mark_all = False  # inside an option or an answer, whose words are all informative
    sentence_start = line_start = True
    after_number = False  # a number precedes, so that a word is its unit or what is counted
    beside_number = False  # a number precedes on the same line
    place = begin
    while place < end:
        char, width = decode(data, place)
        kind = class_of(char, classes)
        if kind in (LETTER, DIGIT):
            upper = kind == LETTER and folded[char] != char
            word, length, digits, after = _read_word(data, place, end, char, width, kind, classes, folded)
            single = after - place == 1 and not digits
            label = (
                not response
                and (single or (digits and length <= 2))
                and _is_label(data, begin, place, after, end, line_start, single and upper)
            )
            flag = np.uint8(LOWER) if not upper else np.uint8(0)
            if (
                digits
                or mark_all
                or label
                or (after_number and not is_in(vocabulary.function, word))
                or (single and data[place] | codes.CASE != codes.LOWER_A and data[place] | codes.CASE != codes.LOWER_I)
                or not is_in(vocabulary.ordinary, word)
            ):
                flag |= np.uint8(INFORMATIVE)
            if upper and not sentence_start and length > 1:
                flag |= np.uint8(NAME)
                names += 1
            if sentence_start:
                flag |= np.uint8(FIRST)
            hashes[count], flags[count] = word, flag
            count += 1
            words += 1
            mark_all |= label or (words_until_is > 0 and word == vocabulary.answer[1])
            words_until_is = ANSWER_WORDS if response and word == vocabulary.answer[0] else max(0, words_until_is - 1)
            after_number = beside_number = digits
            sentence_start = line_start = False
            place = after
            continue
        if kind == LONE:
            word = _hash_char(char)
            flag = np.uint8(LOWER)
            if mark_all or after_number or not is_in(vocabulary.ordinary, word):
                flag |= np.uint8(INFORMATIVE)
            if sentence_start:
                flag |= np.uint8(FIRST)
            hashes[count], flags[count] = word, flag
            count += 1
            words += 1
            after_number = beside_number = sentence_start = line_start = False
        elif kind in (SYMBOL, OPERATOR):
            if (
                line_start
                and char in (codes.HYPHEN, codes.ASTERISK)
                and place + 1 < end
                and data[place + 1] == codes.BLANK
            ):
                mark_all |= not response  # an item of a list
            elif kind == SYMBOL or beside_number or is_digit_at(data, past_blanks(data, place + width, end), end):
                hashes[count], flags[count] = _hash_char(folded[char] + _SIGNS), np.uint8(SIGN | INFORMATIVE)
                count += 1
            line_start = after_number = beside_number = False
        elif kind == NEWLINE:
            wrapped = place + 1 < end and codes.LOWER_A <= data[place + 1] <= codes.LOWER_Z  # the sentence goes on
            mark_all &= wrapped
            after_number &= wrapped
            beside_number = False
            sentence_start = line_start = True
        elif kind == SENTENCE_END:
            if width > 1 or place + width >= end or is_blank_at(data, place + width, end):
                sentence_start = True
                mark_all &= not response
            line_start = after_number = beside_number = False
        elif kind == PUNCTUATION:
            sentence_start |= char == codes.COLON
            mark_all |= char == codes.COLON and words_until_is == ANSWER_WORDS  # "answer:"
            line_start &= char == codes.PAREN_OPEN
            after_number = beside_number = False
        place += width
    if words == 0:
        hashes[count], flags[count] = _hash_bytes(data, begin, end), np.uint8(INFORMATIVE)
        return count + 1
    if 2 * names > words:  # capitals everywhere, as in a title, do not show names
        for i in range(count):
            flags[i] &= np.uint8(255 - NAME)
    if response and words <= 4 * SHORT_ANSWER:
        _mark_short_answer(hashes, flags, count, vocabulary)
    return count


@numba.njit(inline="always")
def _read_word(data, begin, end, char, width, kind, classes, folded):  # type: ignore[no-untyped-def]
    """Hash of the word that begins here with `char`, the number of its characters, whether any is a digit, its end."""
    value, length, digits, place = _SEED, 0, False, begin
    while True:
        if kind in (LETTER, DIGIT):
            value = (value ^ np.uint64(folded[char])) * GOLDEN
            length += 1
            digits |= kind == DIGIT
        elif kind != JOINER:
            if not (digits and is_digit_at(data, place - 1, end)):
                break
            if char == codes.PERIOD and is_digit_at(data, place + 1, end):  # a decimal point
                value = (value ^ np.uint64(codes.PERIOD)) * GOLDEN
            elif not (char == codes.COMMA and separates_thousands(data, place, end)):
                break
        place += width
        if place >= end:
            break
        char, width = decode(data, place)
        kind = class_of(char, classes)
    return mix(value), length, digits, place


@numba.njit(inline="always")
def _is_label(  # type: ignore[no-untyped-def]
    data: U8, text: int, begin: int, after: int, end: int, line_start: bool, capital: bool
):
    """Whether a letter or number labels an option: "a)", "(1)", "2." where a line begins, "B:"."""
    label = False
    if after < end:
        if data[after] == codes.PAREN_CLOSE:
            label = line_start or begin == text or data[begin - 1] in (codes.LINE_FEED, codes.BLANK, codes.PAREN_OPEN)
        elif data[after] in (codes.PERIOD, codes.COLON) and (after + 1 >= end or is_blank_at(data, after + 1, end)):
            label = line_start or capital
    return label


@numba.njit(inline="always")
def _hash_char(char: int) -> np.uint64:
    return mix((_SEED ^ np.uint64(char)) * GOLDEN)


@numba.njit(**INNER_KERNEL)
def _hash_bytes(data: U8, begin: int, end: int) -> np.uint64:
    """Hash of a text that has no words."""
    value = _SEED
    for place in range(begin, end):
        value = (value ^ np.uint64(data[place])) * GOLDEN
    return mix(value ^ np.uint64(1))


@numba.njit(**INNER_KERNEL)
def _mark_short_answer(hashes: U64, flags: U8, count: int, vocabulary: Vocabulary) -> None:
    """If a response is short without its closing phrases, make all its other words informative."""
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


@numba.njit(**INNER_KERNEL)
def sentence(hashes: U64, flags: U8, begin: int, count: int) -> tuple[np.uint64, int, int]:
    """The sentence that begins at a token.

    Parameters
    ----------
    hashes, flags, count
        As `tokenize` wrote them.
    begin
        Index of its first token.

    Returns
    -------
    value
        Hash of its words in their order.
    size, end
        Its number of words, and the index of the token after it.
    """
    value, size, place = _SEED, 0, begin
    while place < count and not (flags[place] & FIRST and size > 0):
        if not flags[place] & SIGN:
            value = mix(value * GOLDEN + hashes[place])
            size += 1
        place += 1
    return value, size, place
