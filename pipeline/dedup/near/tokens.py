"""Tokens: a text as the hashes of its words and signs, without what is never informative.

    bytes of UTF-8 ─ tokenize ─▶ a hash and flags for each word or sign

Words are runs of letters and digits, folded to lower case; a character of a script without spaces is a word. Every
other visible character is a sign. No token are

- white space, but in a text with code (`pipeline.dedup.near.code`) the indentation of a line is one;
- what ends a sentence or clause: ".!?…" and ",;:" where a blank, the text's end, a quote or a closing bracket follows,
  and their likes of other scripts anywhere. Where such a mark could have a meaning of its own, it is a sign: inside a
  word or number, between numbers or single letters ("f(x, y)"), as a factorial ("5!");
- markup: calculator marks ("<<48/2=24>>"), and of Markdown emphasis, backticks, and the bullet, "#" or ">" that begins
  a line.

All quotes are one sign, but for an apostrophe after a number; underscores that touch no word are one. In a line of code
every character counts as it is, markup excepted.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.dedup.near.code import depth_at, has_code, is_code_line, is_fence
from pipeline.text import codes
from pipeline.text.characters import (
    CLAUSE_END,
    DIGIT,
    JOINER,
    LETTER,
    LONE,
    NEWLINE,
    QUOTE,
    SENTENCE_END,
    SPACE,
    class_of,
    decode,
)
from pipeline.text.codes import (
    Int,
    byte_at,
    byte_in,
    is_blank_at,
    is_digit_at,
    is_letter,
    past_blanks,
    separates_thousands,
)
from pipeline.text.columns import Texts
from pipeline.text.hash_table import slot_of
from pipeline.text.hashing import GOLDEN, U64, mix
from pipeline.text.marks import mark_size
from pipeline.text.options import FALSE, INNER_KERNEL, KERNEL, PART_OF_KERNEL, ZERO

U8 = NDArray[np.uint8]

FREE, CAPITAL, UPPER, SIGN, FIRST, FIXED, ANSWER, INITIAL = 1, 2, 4, 8, 16, 32, 64, 128
"""Flags. FREE: an interchangeable word may stand for it. CAPITAL: its first letter is a capital, not at the beginning
of a sentence. INITIAL: the same at the beginning. UPPER: a later letter is a capital. SIGN: not a word, so in no
shingle. FIRST: first word of a sentence or line. FIXED: has a digit or is in a list. ANSWER: in a last line such as
"#### 72"."""

OTHER_CASE, ALL_UPPER, ALL_LOWER, CASED = range(4)
"""Letter case of a text. ALL_UPPER: no small letters. ALL_LOWER: no capitals, or the first letter alone of several
sentences. CASED: it does not begin with a small letter."""

ELSEWHERE = np.uint64(1)
"""Bit that hashes of sentences have clear; `count_sample` sets it for sentences where boilerplate is not expected."""
_SEED = np.uint64(0x9AE16A3B2F90404F)
_SIGNS, _QUOTES, _PRIMES, _DEPTHS = 0x200000, 0x400000, 0x3FFFFF, 0x400001
"""Added to a sign's code point before hashing, so that it is beyond every word's; hashed for any quote; for an
apostrophe after a number; added to the depth of an indentation."""
_APOSTROPHES = (codes.APOSTROPHE, 0x2018, 0x2019, 0x02BC)
_UNDERSCORE, _FIXED_SIGN, _EXCLAMATION, _DOLLAR, _SEMICOLON, _QUESTION = b"_#!$;?"
_BULLETS = tuple(ord(char) for char in "-*+•‣◦▪–")
_CLOSING = tuple(ord(char) for char in ")]}\"'`*_.!? \n\t\r")
"""Bytes before which ".", "!" and "?" end a sentence."""
_OPENING = tuple(ord(char) for char in "\"'`*_")
"""Bytes that may be between an article and its word."""
_AFTER_CLAUSE = tuple(ord(char) for char in "\"' \n\t\r")
"""Bytes before which ",", ";" and ":" end a clause."""


class Vocabulary(NamedTuple):
    """What is known about characters, words and sentences. Sets are tables of `pipeline.text.hash_table`."""

    classes: U8
    folded: NDArray[np.uint32]
    """`pipeline.text.characters.tables`."""
    interchangeable: U64
    """Set of the hashes of words that others may stand for, and of empty words."""
    representatives: U64
    """For each slot of `interchangeable`: the hash of the word's group, 0 for an empty word."""
    polite: U64
    """Set of the hashes of polite phrases."""
    polite_edges: U64
    """Set of the hashes of their first and last words."""
    courteous: U64
    """Set of the hashes of the words of courtesies…"""
    courteous_markers: U64
    """…and of those of which a courtesy has one."""
    polar: U64
    """Set of the hashes of words that may be a verdict."""
    boilerplate: U64
    """Set of the hashes of sentences that many records have."""


@numba.njit(**INNER_KERNEL)
def is_in(table: U64, key: np.uint64) -> bool:
    """Whether a set of a `Vocabulary` has a hash."""
    return bool(table[slot_of(table, key, key)] != 0)


def scratch(instructions: Texts, responses: Texts) -> tuple[U64, U8, U64]:
    """Arrays for the hashes and flags that `tokenize` writes, and for `terms_of`, large enough for any of the texts."""
    room = 1 + max(int(np.diff(texts.bounds).max(initial=0)) for texts in (instructions, responses))
    return np.empty(room, np.uint64), np.empty(room, np.uint8), np.empty(room, np.uint64)


@numba.njit(**INNER_KERNEL)
def _sift_down(heap: U64, begin: int, root: int, size: int) -> None:
    """Move an entry of a heap of `size` entries from `begin` on below those that are larger."""
    value = heap[begin + root]
    while 2 * root + 1 < size:
        child = 2 * root + 1
        if child + 1 < size and heap[begin + child] < heap[begin + child + 1]:
            child += 1
        if heap[begin + child] <= value:
            break
        heap[begin + root] = heap[begin + child]
        root = child
    heap[begin + root] = value


@numba.njit(**KERNEL)
def sort_unique(values: U64, begin: int, end: int) -> int:
    """Sort values[begin:end] and drop repetitions, in place; returns the new end.

    A heap sort, since numba's own sort takes two seconds to compile.
    """
    size = end - begin
    for root in range(size // 2 - 1, -1, -1):
        _sift_down(values, begin, root, size)
    for last in range(size - 1, 0, -1):
        values[begin], values[begin + last] = values[begin + last], values[begin]
        _sift_down(values, begin, ZERO, last)
    kept = begin
    for i in range(begin, end):
        if kept == begin or values[i] != values[kept - 1]:
            values[kept] = values[i]
            kept += 1
    return kept


@numba.njit(**INNER_KERNEL)
def tokenize(texts: Texts, text: int, vocabulary: Vocabulary, hashes: U64, flags: U8) -> tuple[int, int]:
    """Write the words and signs of one text.

    Parameters
    ----------
    texts, text
        The texts, and which of them.
    vocabulary
        Of the corpus.
    hashes, flags
        Output, from `scratch`: one entry for each word or sign.

    Returns
    -------
    count
        Number of entries written; 0 for a text without any.
    case
        `ALL_UPPER`, `ALL_LOWER`, `CASED` or `OTHER_CASE`.
    """
    data, begin, end = texts.data, texts.bounds[text], texts.bounds[text + 1]
    classes, folded = vocabulary.classes, vocabulary.folded
    code = has_code(data, begin, end)
    strict = fenced = False  # the line is code; it is between fences
    count = 0
    starts = first = line_start = True  # a sentence begins; or a line does; nothing visible precedes on the line
    listed = False  # in an option or an item of a list
    isolated = FALSE  # a number, a single letter or a sign precedes
    initial = capitals = small = False  # the first word has a capital initial; there are other capitals, small letters
    cased = True  # no small letter begins the text
    lowered = False  # one begins a later sentence
    answer = np.uint8(0)
    line, quote = begin, begin - 1  # where the line begins, and where the last quote ends
    place = begin
    while place < end:
        if byte_in(data, place) == codes.BLANK:
            place += 1
            continue
        char, width = decode(data, place)
        kind = class_of(char, classes)
        if kind == SPACE:
            place += width
            continue
        if kind == NEWLINE:
            line_start = True
            place += width
            line = place
            continue
        if line_start:
            line_start = False
            continues = codes.LOWER_A <= char <= codes.LOWER_Z
            first |= not continues
            listed &= continues
            if code:
                fence = is_fence(data, place, end)
                strict = fenced or fence or is_code_line(data, line, end)
                fenced ^= fence
                starts &= not strict
                depth = depth_at(data, line, place)
                if depth and line > begin:
                    hashes[count], flags[count] = _hash_char(_DEPTHS + depth), np.uint8(SIGN)
                    count += 1
            size = 0 if strict else _line_markup_size(data, place, end, char, width)
            if size:
                if char == _FIXED_SIGN and _is_answer_line(data, place + size, end):
                    answer = np.uint8(ANSWER)
                listed |= char != _FIXED_SIGN and char != codes.GREATER
                line_start = True
                line = place + size
                place = line
                continue
        if kind in (LETTER, DIGIT):
            word, length, shape, has_small, after = _read_word(data, place, end, classes, folded)
            single = length == 1 and not shape & FIXED
            listed |= (single or (shape & FIXED and length <= 2)) and _is_label(data, begin, place, after, end)
            article = single and not isolated and _letters_follow(data, after, end)
            flag = shape | answer
            cased &= count > 0 or kind == DIGIT or shape & CAPITAL != 0
            if starts and shape & CAPITAL:
                flag ^= np.uint8(CAPITAL | INITIAL)
            if first or starts:
                flag |= np.uint8(FIRST)
            if listed:
                flag |= np.uint8(FIXED)
            if not (code or listed or quote == place or shape & FIXED or (single and not article)):
                flag |= np.uint8(FREE)
            lowered |= starts and count > 0 and kind == LETTER and not shape & CAPITAL
            initial |= count == 0 and shape & CAPITAL != 0
            capitals |= (count > 0 and shape & CAPITAL != 0) or shape & UPPER != 0
            hashes[np.uint64(count)], flags[np.uint64(count)] = word, flag
            count += 1
            small |= has_small
            isolated = (single and not article) or shape & FIXED != 0
            starts = first = False
            place = after
            continue
        if char == codes.LESS:
            size = mark_size(data, place, end)
            if size:
                place += size
                continue
        if kind == LONE:
            hashes[count] = _hash_char(char)
            flags[count] = answer | np.uint8(FIRST) if first or starts else answer
            count += 1
            small = True
            isolated = starts = first = False
            place += width
            continue
        value: Int = np.int64(folded[char]) + _SIGNS  # to hash, 0 if the character is no token
        if strict:
            isolated = True
        elif kind == QUOTE or (kind == JOINER and char in _APOSTROPHES):
            # After a number, an apostrophe may be feet or minutes, and a quote inches or seconds.
            value = _PRIMES if kind == JOINER and place > begin and is_digit_at(data, place - 1, end) else _QUOTES
            quote = place + width
        elif char == _UNDERSCORE:
            width = _run_size(data, place, end)
            value = value if _is_apart(data, begin, place, place + width, end) else 0
        elif kind == JOINER:
            value = 0
        elif kind == SENTENCE_END:
            if width > 1 or _ends_sentence(data, begin, place, end, char, isolated):
                value = 0
                starts = True
        elif kind == CLAUSE_END:
            if width > 1 or _ends_clause(data, place, end, isolated):
                value = 0
                starts |= folded[char] == codes.COLON
        elif char == codes.ASTERISK and _is_emphasis(data, begin, place, end):
            value = 0
        else:
            isolated = True
        if value:
            hashes[count], flags[count] = _hash_char(value), np.uint8(SIGN) | answer
            count += 1
        place += width
    case = OTHER_CASE
    if code:
        case = OTHER_CASE
    elif not capitals and (lowered or not initial):
        case = ALL_LOWER
    elif not small:
        case = ALL_UPPER
    elif cased:
        case = CASED
    return count, case


@numba.njit(**PART_OF_KERNEL)
def _read_word(
    data: U8, begin: int, end: int, classes: U8, folded: NDArray[np.uint32]
) -> tuple[np.uint64, int, np.uint8, bool, int]:
    """Hash of the word that begins here, the number of its characters, flags of its letters and digits (`FIXED`,
    `CAPITAL`, `UPPER`), whether it has a small letter, and its end."""
    value, length, place = _SEED, 0, begin
    shape = np.uint8(0)
    small = False
    while place < end:
        byte = byte_in(data, place)
        if codes.LOWER_A <= byte <= codes.LOWER_Z:  # most characters, whose class and folded form are known
            value = (value ^ np.uint64(byte)) * GOLDEN
            small = True
            length += 1
            place += 1
            continue
        char, width = decode(data, place)
        kind = class_of(char, classes)
        if kind in (LETTER, DIGIT):
            plain = folded[np.uint64(char)]
            value = (value ^ np.uint64(plain)) * GOLDEN
            if kind == DIGIT:
                shape |= np.uint8(FIXED)
            elif plain == char:
                small = True
            else:
                shape |= np.uint8(UPPER) if length else np.uint8(CAPITAL)
            length += 1
        elif kind == JOINER:
            if char == codes.BACKTICK:
                break
            if char == _UNDERSCORE or char in _APOSTROPHES:
                if not _is_word_at(data, place + width, end, classes):
                    break
                value = (value ^ np.uint64(_UNDERSCORE if char == _UNDERSCORE else codes.APOSTROPHE)) * GOLDEN
        elif not (shape & FIXED and is_digit_at(data, place - 1, end)):
            break
        elif char == codes.PERIOD and is_digit_at(data, place + 1, end):  # a decimal point
            value = (value ^ np.uint64(codes.PERIOD)) * GOLDEN
        elif not (char == codes.COMMA and separates_thousands(data, place, end)):
            break
        place += width
    return mix(value), length, shape, small, place


@numba.njit(**INNER_KERNEL)
def _is_word_at(data: U8, at: Int, end: int, classes: U8) -> bool:
    """Whether a letter or digit is at a place."""
    if at >= end:
        return False
    char, _ = decode(data, at)
    return class_of(char, classes) in (LETTER, DIGIT)


@numba.njit(**INNER_KERNEL)
def _hash_char(char: int) -> np.uint64:
    return mix((_SEED ^ np.uint64(char)) * GOLDEN)


@numba.njit(**INNER_KERNEL)
def _is_label(data: U8, text: int, begin: int, after: int, end: int) -> bool:
    """Whether a single letter or a number of at most two digits labels an option: "a)", "(1)", or, where a line begins
    or it is a capital, "2.", "B:"."""
    if after >= end:
        return False
    before = begin - 1
    while before >= text and data[before] == codes.BLANK:
        before -= 1
    line_start = before < text or data[before] == codes.LINE_FEED
    if data[after] == codes.PAREN_CLOSE:
        return line_start or data[begin - 1] in (codes.BLANK, codes.PAREN_OPEN)
    capital = codes.UPPER_A <= data[begin] < codes.LOWER_A
    marked = data[after] in (codes.PERIOD, codes.COLON) and (after + 1 >= end or is_blank_at(data, after + 1, end))
    return bool(marked and (line_start or capital))


@numba.njit(**INNER_KERNEL)
def _letters_follow(data: U8, at: Int, end: int) -> bool:
    """Whether a word of at least two letters follows after a blank, so that a single letter before it is an article."""
    first = at
    while at < end and data[at] <= codes.BLANK:
        at += 1
    if at == first:
        return False
    while at < end and data[at] in _OPENING:
        at += 1
    return at + 1 < end and is_letter(data[at]) and is_letter(data[at + 1])


@numba.njit(**INNER_KERNEL)
def _line_markup_size(data: U8, at: int, end: int, char: Int, width: int) -> int:
    """Bytes of the markup that begins a line, with the blank after it: "## ", "> ", "- "; 0 if there is none.

    A bullet before a number or a sign may be a minus.
    """
    size = width
    if char == _FIXED_SIGN:
        while byte_at(data, at + size, end) == _FIXED_SIGN:
            size += 1
    elif char != codes.GREATER and char not in _BULLETS:
        return 0
    if byte_at(data, at + size, end) != codes.BLANK:
        return 0
    text = past_blanks(data, at + size, end)
    following = byte_at(data, text, end)
    quoted = following in (codes.DOUBLE_QUOTE, codes.APOSTROPHE, codes.BACKTICK, codes.ASTERISK, _UNDERSCORE)
    worded = quoted or following >= 0x80 or (is_letter(following) and byte_at(data, text + 1, end) > codes.BLANK)
    return text - at if worded or char in (_FIXED_SIGN, codes.GREATER) else 0


@numba.njit(**INNER_KERNEL)
def _is_answer_line(data: U8, at: Int, end: int) -> bool:
    """Whether a number begins here, and no line follows, as in the "#### 72" of GSM8K."""
    if byte_at(data, at, end) in (codes.HYPHEN, _DOLLAR):
        at += 1
    if not is_digit_at(data, at, end):
        return False
    while at < end and data[at] != codes.LINE_FEED:
        at += 1
    while is_blank_at(data, at, end):
        at += 1
    return at >= end


@numba.njit(**INNER_KERNEL)
def _ends_sentence(data: U8, begin: int, at: int, end: int, char: Int, isolated: bool) -> bool:
    """Whether ".", "!" or "?" ends a sentence, rather than being inside a word or number, or a factorial."""
    before = np.int64(data[at - 1]) if at > begin else np.int64(codes.BLANK)
    touches = is_letter(before) or codes.DIGIT_0 <= before <= codes.DIGIT_9 or before == codes.PAREN_CLOSE
    if char == _EXCLAMATION and isolated and touches:
        return False
    return at + 1 >= end or data[at + 1] in _CLOSING or data[at + 1] >= 0x80


@numba.njit(**INNER_KERNEL)
def _ends_clause(data: U8, at: int, end: int, isolated: bool) -> bool:
    """Whether ",", ";" or ":" ends a clause, rather than being inside a word or between numbers, letters and signs."""
    if at + 1 >= end:
        return True
    if not (data[at + 1] in _AFTER_CLAUSE or data[at + 1] >= 0x80):
        return False
    return not (isolated and _is_isolated_at(data, at + 1, end))


@numba.njit(**INNER_KERNEL)
def _is_isolated_at(data: U8, at: Int, end: int) -> bool:
    """Whether a number, a single letter other than an article, or a sign is the next in a text."""
    while at < end and data[at] <= codes.BLANK:
        at += 1
    byte = byte_at(data, at, end)
    if is_letter(byte):
        following = byte_at(data, at + 1, end)
        alone = following < 0x80 and not is_letter(following) and following != codes.APOSTROPHE
        return alone and not _letters_follow(data, at + 1, end)
    return codes.BLANK < byte < 0x80 and byte not in (codes.DOUBLE_QUOTE, codes.APOSTROPHE)


@numba.njit(**INNER_KERNEL)
def _is_emphasis(data: U8, begin: int, at: int, end: int) -> bool:
    """Whether an asterisk belongs to "*word*" or "**any**": a text is on one side of the run, none on the other."""
    first, last = at, at + 1
    while first > begin and data[first - 1] == codes.ASTERISK:
        first -= 1
    while last < end and data[last] == codes.ASTERISK:
        last += 1
    before = np.int64(data[first - 1]) if first > begin else np.int64(codes.BLANK)
    after = byte_at(data, last, end)
    opens = before < codes.DIGIT_0 and after > codes.BLANK
    closes = before > codes.BLANK and (after < codes.DIGIT_0 or after in (codes.COLON, _SEMICOLON, _QUESTION))
    if opens == closes:
        return False
    if last - first > 1:
        return True
    at = last if opens else first - 2
    return at >= begin and at + 1 < end and _is_text(data[at]) and _is_text(data[at + 1])


@numba.njit(**INNER_KERNEL)
def _run_size(data: U8, at: Int, end: int) -> int:
    """Bytes of the run of one ASCII character that begins at a place."""
    size = 1
    while at + size < end and data[at + size] == data[at]:
        size += 1
    return size


@numba.njit(**INNER_KERNEL)
def _is_apart(data: U8, begin: int, first: Int, last: Int, end: int) -> bool:
    """Whether nothing touches a stretch before, and no word behind: "___" is a gap to fill, "_so_" is emphasis."""
    free = first <= begin or data[first - 1] <= codes.BLANK or data[first - 1] == codes.PAREN_OPEN
    return bool(free and (last >= end or not (_is_text(data[last]) or is_digit_at(data, last, end))))


@numba.njit(**INNER_KERNEL)
def _is_text(byte: Int) -> bool:
    return is_letter(byte) or byte >= 0x80


@numba.njit(**INNER_KERNEL)
def write_terms(hashes: U64, flags: U8, count: int, vocabulary: Vocabulary, terms: U64) -> None:
    """Write the hash of each token, of the words that another may stand for their group's, and 0 of empty words."""
    for i in range(count):
        value = hashes[i]
        if flags[i] & FREE:
            slot = slot_of(vocabulary.interchangeable, value, value)
            if vocabulary.interchangeable[slot] != 0:
                value = vocabulary.representatives[slot]
        terms[i] = value


@numba.njit(**INNER_KERNEL)
def sequence_hash(terms: U64, begin: int, end: int) -> np.uint64:
    """Hash of some terms in their order, without empty ones."""
    value = np.uint64(0)
    for place in range(begin, end):
        if terms[place] != 0:
            value = value * GOLDEN + terms[place]
    return mix(value) & ~ELSEWHERE


@numba.njit(**INNER_KERNEL)
def sentence_end(flags: U8, begin: int, count: int) -> int:
    """Index of the token after the sentence that begins at a token."""
    place = begin + 1
    while place < count and not flags[place] & FIRST:
        place += 1
    return place
