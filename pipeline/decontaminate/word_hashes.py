"""Word hashes that do not depend on typography, for eval items and train records.

    texts ─ NFKC where it could matter ─ kernel over UTF-8 bytes ─▶ a hash and flags for each word, and its letters

A word is a run of letters and digits, folded to lower case and to letters that look alike
(`pipeline.decontaminate.lookalikes`); punctuation and apostrophes do not count. Signs of
arithmetic count beside a digit, also across a line break. Labels of options do not count
(`pipeline.decontaminate.option_labels`), nor do the calculator marks of worked solutions ("<<3*4=12>>"). English number
words are the same words as their digits. An underscore separates words; a hyphen where a line is broken does not.
"""

import functools
from typing import NamedTuple

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.decontaminate.lookalikes import LetterTables, letter_tables
from pipeline.decontaminate.option_labels import begins_list, label_size, letter_alone, may_be_label
from pipeline.text import codes
from pipeline.text.characters import (
    DIGIT,
    JOINER,
    LETTER,
    LONE,
    NEWLINE,
    SENTENCE_END,
    SPACE,
    TABLE_SIZE,
    class_of,
    decode,
)
from pipeline.text.codes import Int, byte_at, byte_in, is_blank_at, is_digit_at, is_letter, separates_thousands
from pipeline.text.columns import Texts, texts_of
from pipeline.text.hash_table import slot_of, slots_for
from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.marks import mark_size
from pipeline.text.normal import may_change_in_nfkc, where
from pipeline.text.options import INNER_KERNEL, KERNEL, ZERO

U8 = NDArray[np.uint8]
Flags = NDArray[np.uint16]
Letters = NDArray[np.uint16]

NUMBER, NAME, BREAK, OPTION, LABEL, SENTENCE = 1, 2, 4, 8, 16, 256
"""Flags of a word: it has a digit; it is capitalised inside a sentence; it begins a line or an option; it is part of an
option; it begins a line and a colon follows; it begins a sentence."""

APART, BROKEN, BROKEN_LABEL = 0, 1, 2
"""Marks among letters; smaller than every sign, see `Words.letters`."""

_FNV_OFFSET, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x00000100000001B3)
_UNDERSCORE, _AMPERSAND = ord("_"), ord("&")
_ENTITY = tuple(ord(letter) for letter in "&nbsp;")
NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBER_SLOTS = 32
"""Slots of the table of number words for each of them: most other words find an empty one."""
_D, _E, _L, _M, _N, _R, _S, _T, _V = (ord(letter) for letter in "delmnrstv")
"""Letters of clitics: n't, 's, 't, 'd, 'm, 're, 've, 'll."""


class Words(NamedTuple):
    """Words of n texts, one after the other."""

    words: U64
    """Hashes."""
    flags: Flags
    bounds: NDArray[np.int64]
    """(n + 1,): text i has words[bounds[i]:bounds[i + 1]]."""
    splits: NDArray[np.int64]
    """(n,): number of text i's words that belong to its first part."""
    letters: Letters
    """Letters, digits and signs of all words, folded, without white space. In between: `APART` between two numbers in a
    line; `BROKEN` where a line ends before a number, or after one; `BROKEN_LABEL` and more for a to j as labels that
    may be the rest of a word."""
    ends: NDArray[np.int64]
    """End of each word in `letters`."""


class Room(NamedTuple):
    """Arrays for the words and letters of some texts, as in `Words`."""

    words: U64
    flags: Flags
    letters: Letters
    ends: NDArray[np.int64]


def room_for(size: int) -> Room:
    """Make room for texts of `size` bytes: a word takes a byte at least, and a letter has a 0 before it at most.

    NumPy asks for huge pages, which kernels do not; otherwise a third of the time would be spent on page faults.
    """
    return Room(
        np.empty(size, np.uint64), np.empty(size, np.uint16), np.empty(2 * size, np.uint16), np.empty(size, np.int64)
    )


def words_of(first: pl.Series, second: pl.Series | None = None, room: Room | None = None) -> Words:
    """Words of texts, or of pairs of texts: those of the first, then those of the second.

    Parameters
    ----------
    first, second
        String (n,), no nulls.
    room
        Arrays for the words, which are views of them, if these are large enough: memory that was used before is faster.
    """
    parts = _normalized(first), _empty(len(first)) if second is None else _normalized(second)
    words, flags, bounds, letters, ends = _hash_texts(*parts, letter_tables(), *_number_words(), room)
    return Words(words, flags, bounds[::2].copy(), bounds[1::2] - bounds[:-1:2], letters, ends)


def _normalized(texts: pl.Series) -> Texts:
    """Texts in NFKC."""
    found = texts_of(texts.to_arrow().cast(pa.large_string()))
    may_change = may_change_in_nfkc(found)
    if not may_change.any():
        return found
    changed = where(may_change, texts, lambda some: some.str.normalize("NFKC"))
    return texts_of(changed.to_arrow().cast(pa.large_string()))


def _empty(count: int) -> Texts:
    """Texts without a character."""
    return texts_of(pa.repeat(pa.scalar("", pa.large_string()), count))


@functools.cache
def _number_words() -> tuple[U64, U64]:
    """A hash table of the number words, and for each slot the hash of the digits; at the end that of "1"."""
    names = NUMBER_WORDS.split()
    texts = texts_of(pa.array([" ".join(names), " ".join(map(str, range(len(names))))], pa.large_string()))
    none = np.zeros(1, np.uint64)
    words, _, bounds, _, _ = _hash_texts(texts, _empty(2), letter_tables(), none, none)
    table, found = _table_of(words[: bounds[2]], words[bounds[2] :])
    return table, np.append(found, words[bounds[2] + 1])


@numba.njit(cache=True)
def _table_of(keys: U64, values: U64) -> tuple[U64, U64]:
    table = np.zeros(slots_for(_NUMBER_SLOTS * len(keys)), np.uint64)
    found = np.zeros(len(table), np.uint64)
    for place in range(len(keys)):
        slot = slot_of(table, keys[place], keys[place])
        table[slot], found[slot] = keys[place], values[place]
    return table, found


def _hash_texts(
    first: Texts, second: Texts, tables: LetterTables, names: U64, digits: U64, room: Room | None = None
) -> tuple[U64, Flags, NDArray[np.int64], Letters, NDArray[np.int64]]:
    """Return the words of n pairs of texts, their flags, the bounds (2 n + 1,) of each text's, the letters, and their
    ends."""
    size = sum(int(texts.bounds[-1] - texts.bounds[0]) for texts in (first, second))
    if room is None or len(room.words) < size:
        room = room_for(size)
    word_bounds = np.zeros(2 * len(first.bounds) - 1, np.int64)
    used = _fill(first, second, tables, names, digits, room, word_bounds)
    count = word_bounds[-1]
    return room.words[:count], room.flags[:count], word_bounds, room.letters[:used], room.ends[:count]


@numba.njit(**KERNEL)
def _fill(
    first: Texts,
    second: Texts,
    tables: LetterTables,
    names: U64,
    digits: U64,
    room: Room,
    word_bounds: NDArray[np.int64],
) -> int:
    """Write the words of all texts; returns the number of their letters."""
    count = used = ZERO
    for text in range(len(word_bounds) - 1):
        texts = second if text % 2 else first
        begin, end = texts.bounds[text // 2], texts.bounds[text // 2 + 1]
        count, used = _hash_text(texts.data, begin, end, tables, names, digits, room, count, used)
        word_bounds[text + 1] = count
    return used


@numba.njit(**INNER_KERNEL)
def _hash_text(
    data: U8,
    begin: int,
    end: int,
    tables: LetterTables,
    names: U64,
    digits: U64,
    room: Room,
    count: int,
    used: int,
) -> tuple[int, int]:
    """Write one text's words behind the `count` of the texts before; returns their number with it, and the letters'."""
    classes, folded = tables.classes, tables.folded
    words, flags, letters, ends = room.words, room.flags, room.letters, room.ends
    earlier = count
    after_number = False
    before = np.int64(SPACE)  # class of the last character that is not white space
    touching = False  # the last word ends right here, and it is not a character of a script without spaces
    line_start = sentence_start = True
    option = np.uint16(0)  # flag of the words of an option
    pending = np.uint16(BREAK)  # flag of the next word
    next_letter = np.int64(0)  # label of the next option in a list that is labelled by letters alone
    at = begin
    while at < end:
        if byte_in(data, at) == codes.BLANK:
            touching = False
            at += 1
            continue
        char, width = decode(data, at)
        kind = np.int64(class_of(char, classes))
        if not touching and (kind == LETTER or char in (codes.PAREN_OPEN, next_letter)):
            fresh = sentence_start and (at == begin or is_blank_at(data, at - 1, end))  # not the "E." of "P.E."
            skip = label_size(data, begin, at, end, fresh) if may_be_label(data, at, end, char, fresh) else 0
            if not skip and fresh and line_start:
                expected = char == next_letter and letter_alone(data, at, end)
                if expected or (char | codes.CASE == codes.LOWER_A and begins_list(data, at, end)):
                    skip, next_letter = 1, char + 1
            if skip:
                if char >= codes.LOWER_A and count > earlier and _continues_line(data, begin, at):
                    letters[used] = BROKEN_LABEL + char - codes.LOWER_A
                    used += 1
                    ends[count - 1] = used
                at += skip
                option, pending = np.uint16(OPTION), np.uint16(BREAK)
                sentence_start, line_start = True, False
                before = np.int64(SPACE)
                continue
        if kind in (LETTER, DIGIT, LONE):
            if (after_number and kind == DIGIT) or (pending and (after_number or kind == DIGIT)):
                letters[np.uint64(used)] = BROKEN if pending or _is_broken_thousand(data, begin, at, end) else APART
                used += 1
            word, number, last, at, used = _read_word(data, at, end, char, width, kind, classes, folded, letters, used)
            after_number = last == DIGIT
            flag = option | pending
            slot = slot_of(names, word, word)
            if names[slot] != 0:
                word = digits[slot]
                number = word != digits[-1]  # "one" has other meanings
            if number:
                flag |= np.uint16(NUMBER)
            if sentence_start:
                flag |= np.uint16(SENTENCE)
            elif kind == LETTER and tables.capital[np.uint64(char)]:
                flag |= np.uint16(NAME)
            if line_start and at < end and byte_in(data, at) == codes.COLON:
                flag |= np.uint16(LABEL)
            place = np.uint64(count)
            words[place], flags[place], ends[place] = word, flag, used
            count += 1
            pending = np.uint16(0)
            touching = last != LONE
            before = last if touching else np.int64(LETTER)
            line_start = sentence_start = False
            continue
        if char == _AMPERSAND:
            skip = _entity_size(data, at, end)
            if skip:
                at += skip
                touching = False
                continue
        if char == codes.LESS:
            skip = mark_size(data, at, end)
            if skip:
                at += skip
                continue
        sign = np.int64(folded[np.uint64(char)])
        bullet = line_start and sign in (codes.ASTERISK, codes.HYPHEN, codes.GREATER)
        if not bullet and _counts_as_word(data, at + width, end, sign, before, classes):
            place = np.uint64(count)
            words[place] = (np.uint64(sign) + np.uint64(1)) * GOLDEN
            flags[place] = np.uint16(NUMBER) | option
            letters[np.uint64(used)] = sign
            used += 1
            ends[place] = used
            count += 1
            after_number = False
        touching = False
        if kind == NEWLINE:
            line_start = sentence_start = True
            option, pending = np.uint16(0), np.uint16(BREAK)
        elif kind != SPACE:
            sentence_start |= kind == SENTENCE_END
            line_start &= char in (codes.DOUBLE_QUOTE, codes.APOSTROPHE, codes.PAREN_OPEN, codes.ASTERISK, codes.HYPHEN)
            before = kind
        at += width
    return count, used


@numba.njit(inline="always")
def _read_word(  # type: ignore[no-untyped-def]
    data: U8,
    at: Int,
    end: int,
    char: Int,
    width: Int,
    kind: Int,
    classes: U8,
    folded: NDArray[np.uint32],
    letters: Letters,
    used: Int,
):
    """Read the word that begins with a character.

    Returns
    -------
    word, number, kind, at, used
        Its hash, whether it has a digit, the class of its last character, where it ends, and how many letters there are
        with its own.
    """
    letter = np.uint64(char if char >= TABLE_SIZE else np.int64(folded[np.uint64(char)]))
    value = (_FNV_OFFSET ^ letter) * _FNV_PRIME
    letters[np.uint64(used)] = letter
    used += 1
    number = kind == DIGIT
    at += width
    while kind != LONE and at < end:
        byte = byte_in(data, at)
        if codes.LOWER_A <= byte <= codes.LOWER_Z:  # most characters, which are their own folded form
            value = (value ^ np.uint64(byte)) * _FNV_PRIME
            letters[np.uint64(used)] = byte
            used += 1
            kind = np.int64(LETTER)
            at += 1
            continue
        if byte in (codes.BLANK, codes.LINE_FEED):
            after = at + 1
            while is_blank_at(data, after, end):
                after += 1
            if not (_may_be_clitic(byte_at(data, after, end)) and _is_clitic(data, after, end)):
                break
            at = after
            continue
        char, width = decode(data, at)
        following = np.int64(class_of(char, classes))
        if following in (LETTER, DIGIT):
            letter = np.uint64(folded[np.uint64(char)])
            value = (value ^ letter) * _FNV_PRIME
            letters[np.uint64(used)] = letter
            used += 1
            kind = following
            number |= following == DIGIT
        elif kind == DIGIT and char == codes.PERIOD and is_digit_at(data, at + 1, end):  # a decimal point
            value = (value ^ np.uint64(codes.PERIOD)) * _FNV_PRIME
            letters[np.uint64(used)] = codes.PERIOD
            used += 1
        elif char == _UNDERSCORE:
            break
        elif char == codes.HYPHEN and kind == LETTER and _is_wrapped(data, at, end):
            width = 2
        elif following != JOINER and not (kind == DIGIT and char == codes.COMMA and separates_thousands(data, at, end)):
            break
        at += width
    return (value ^ (value >> np.uint64(29))) * GOLDEN, number, kind, at, used


@numba.njit(**INNER_KERNEL)
def _continues_line(data: U8, begin: Int, at: Int) -> bool:
    """Whether a letter ends the line right before a place, so that the line may be broken inside a word."""
    return at > begin + 1 and data[at - 1] == codes.LINE_FEED and (is_letter(data[at - 2]) or data[at - 2] >= 0x80)


@numba.njit(**INNER_KERNEL)
def _is_broken_thousand(data: U8, begin: Int, at: Int, end: int) -> bool:
    """Whether a comma precedes the digits at a place and a line ends after one or two of them: "1,50" before "0"."""
    if at < begin + 2 or data[at - 1] != codes.COMMA:
        return False
    at += 1 + is_digit_at(data, at + 1, end)
    return byte_at(data, at, end) == codes.LINE_FEED


@numba.njit(**INNER_KERNEL)
def _is_wrapped(data: U8, at: Int, end: int) -> bool:
    """Whether a line ends after the hyphen at a place, and the next begins with a small letter."""
    return (
        byte_at(data, at + 1, end) == codes.LINE_FEED and codes.LOWER_A <= byte_at(data, at + 2, end) <= codes.LOWER_Z
    )


@numba.njit(**INNER_KERNEL)
def _entity_size(data: U8, at: Int, end: int) -> int:
    """Bytes of the "&nbsp;" at a place, 0 if there is none."""
    for place in range(len(_ENTITY)):
        if byte_at(data, at + place, end) != _ENTITY[place]:
            return 0
    return len(_ENTITY)


@numba.njit(**INNER_KERNEL)
def _may_be_clitic(byte: Int) -> bool:
    """Whether what begins with a byte may be a clitic: its apostrophe or the n of a negation."""
    return byte | codes.CASE == _N or byte >= 0x80 or byte in (codes.APOSTROPHE, codes.BACKTICK)


@numba.njit(**INNER_KERNEL)
def _is_clitic(data: U8, at: Int, end: int) -> bool:
    """Whether what begins here belongs to the word before: "Ann 's", "do n't", as some corpora are tokenized."""
    negation = byte_at(data, at, end) | codes.CASE == _N
    at += negation
    apostrophe = _apostrophe_size(data, at, end)
    if not apostrophe:
        return False
    at += apostrophe
    first, second = byte_at(data, at, end) | codes.CASE, byte_at(data, at + 1, end) | codes.CASE
    if not is_letter(second):
        return first == _T if negation else first in (_S, _T, _D, _M)
    if negation or is_letter(byte_at(data, at + 2, end)):
        return False
    return (first in (_R, _V) and second == _E) or (first == _L and second == _L)


@numba.njit(**INNER_KERNEL)
def _apostrophe_size(data: U8, at: Int, end: int) -> int:
    """Bytes of the apostrophe at a place, 0 if there is none."""
    if byte_at(data, at, end) == 0xE2:  # U+2019
        return 3 if byte_at(data, at + 1, end) == 0x80 and byte_at(data, at + 2, end) == 0x99 else 0
    return int(byte_at(data, at, end) in (codes.APOSTROPHE, codes.BACKTICK))


@numba.njit(**INNER_KERNEL)
def _counts_as_word(data: U8, at: Int, end: int, sign: Int, before: Int, classes: U8) -> bool:
    """Whether a sign of arithmetic that ends here is between words of which one is a number; a hyphen, between two."""
    if sign not in codes.ARITHMETIC or before not in (LETTER, DIGIT):
        return False
    while is_blank_at(data, at, end):
        at += 1
    if byte_at(data, at, end) == codes.LESS:
        at += mark_size(data, at, end)
    if at >= end:
        return False
    char, _ = decode(data, at)
    after = np.int64(class_of(char, classes))
    if sign == codes.HYPHEN:
        return before == DIGIT and after == DIGIT
    return after in (LETTER, DIGIT) and DIGIT in (before, after)
