"""Whether a record has some words of an eval item in a row: its template's, its question's, its answer's."""

import numba

from pipeline.decontaminate.index import Index
from pipeline.decontaminate.word_hashes import BREAK
from pipeline.text.hashing import U64
from pipeline.text.options import INNER_KERNEL

DISTINCTIVE_WORDS = 9
"""A short question, or the stem of one with options, of at least this many words is a hit without its answer."""
QUESTION_WORDS = 4
"""Words at the end of a stem that tell the questions about one passage apart."""

_LONG_LINE = 6
"""Words of options, in the mean, that only an item has together."""
_LEAD_WORDS = 3
"""Words in a row by which a template is recognised."""


@numba.njit(**INNER_KERNEL)
def found_at(sought: U64, first: int, size: int, words: U64, at: int, begin: int, end: int) -> bool:
    """Whether the `size` words from `first` are at a place among a record's words from begin to end."""
    if at < begin or at + size > end:
        return False
    same = 0
    while same < size and words[at + same] == sought[first + same]:
        same += 1
    return same == size


@numba.njit(**INNER_KERNEL)
def lead_found(index: Index, probe: int, words: U64, at: int, begin: int) -> int:
    """Words of the template before a probe's stem that a record has before the stem's place, in a row."""
    if index.stems[probe, 0] != index.bounds[probe]:
        return 0
    same = 0
    lead = index.leads[probe]
    while same < len(lead) and lead[same] != 0 and at - 1 - same >= begin and words[at - 1 - same] == lead[same]:
        same += 1
    return same


@numba.njit(**INNER_KERNEL)
def answer_found(index: Index, probe: int, words: U64, begin: int, end: int) -> bool:
    """Whether a text has the words of an item's answer, at least one, in a row."""
    first = index.answer_bounds[index.item[probe]]
    size = index.answer_bounds[index.item[probe] + 1] - first
    for at in range(begin, end - size + 1 if size else begin):
        if found_at(index.answers, first, size, words, at, begin, end):
            return True
    return False


@numba.njit(**INNER_KERNEL)
def listed_found(index: Index, probe: int, words: U64, begin: int, end: int) -> bool:
    """Whether a text has each line and option of a `listed` probe, in any order.

    Short options, such as names and titles, may be in any list: the text must have words of the template before them.
    """
    if not index.listed[probe] or not _lines_found(index, probe, words, begin, end):
        return False
    lines = 0
    for place in range(index.bounds[probe], index.bounds[probe + 1]):
        lines += index.flags[place] & BREAK != 0
    is_long = index.bounds[probe + 1] - index.bounds[probe] >= _LONG_LINE * lines
    return is_long or _template_found(index, probe, words, begin, end)


@numba.njit(**INNER_KERNEL)
def _template_found(index: Index, probe: int, words: U64, begin: int, end: int) -> bool:
    """Whether a text has `_LEAD_WORDS` of the template's words before a probe in a row, or there are not as many."""
    lead = index.leads[probe]
    size = 0
    while size < len(lead) and lead[size] != 0:
        size += 1
    found = size < _LEAD_WORDS
    for at in range(begin + _LEAD_WORDS - 1, end):
        for first in range(size - _LEAD_WORDS + 1):
            same = 0
            while same < _LEAD_WORDS and words[at - same] == lead[first + same]:
                same += 1
            found |= same == _LEAD_WORDS
    return found


@numba.njit(**INNER_KERNEL)
def _lines_found(index: Index, probe: int, words: U64, begin: int, end: int) -> bool:
    """Whether a text has each line and option of a probe, in any order."""
    first, last = index.bounds[probe], index.bounds[probe + 1]
    while first < last:
        size = 1
        while first + size < last and index.flags[first + size] & BREAK == 0:
            size += 1
        found = False
        for at in range(begin, end - size + 1):
            found |= found_at(index.words, first, size, words, at, begin, end)
        if not found:
            return False
        first += size
    return True


@numba.njit(**INNER_KERNEL)
def question_found(index: Index, probe: int, words: U64, begin: int, end: int) -> bool:
    """Whether a text has the last words of a question's stem in a row, as often as the stem, whose passage may too."""
    first, last = index.stems[probe, 0], index.stems[probe, 1]
    size = min(QUESTION_WORDS, last - first)
    missing = 0
    for at in range(first, last - size + 1):
        missing += found_at(index.words, last - size, size, index.words, at, first, last)
    for at in range(begin, end - size + 1):
        missing -= found_at(index.words, last - size, size, words, at, begin, end)
    return missing <= 0
