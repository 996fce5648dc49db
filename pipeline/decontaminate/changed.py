"""Long stems with a changed word or two, and halves of them, from a few words that a record shares with the stem.

A stem is contained if the record has its words in a row, but for one of each `WORDS_PER_CHANGE` own words and
`MAX_CHANGES` at most, that are replaced, absent or added. It is another question if a number, a name or a negation is
changed, two informative words, or one of the last `_AGREE` words; or, where the stem has several sentences and the
answer is not found, one of the last `QUESTION_WORDS` words.

Half a stem is contained if a piece of it that cuts a sentence is all of the record's instruction, or, from the stem's
beginning on, all of some lines. It takes `HALF` of the stem's words and `DISTINCTIVE_WORDS`, to which those of the
template before it count. Whole sentences of an item may be its passage, and half a short question is another one.
"""

import numba

from pipeline.decontaminate.contains import DISTINCTIVE_WORDS, lead_found, question_found
from pipeline.decontaminate.index import FIRM, INFORMATIVE, TEMPLATE, Index
from pipeline.decontaminate.word_hashes import BREAK, NUMBER, SENTENCE, Words
from pipeline.text.codes import Int
from pipeline.text.options import BACKWARD, FORWARD, INNER_KERNEL

WORDS_PER_CHANGE, MAX_CHANGES = 9, 2
HALF = 0.4
_AGREE = 2
"""Words beyond a changed one that must be the same."""


@numba.njit(**INNER_KERNEL)
def share_found(
    index: Index, probe: int, offset: int, records: Words, at: int, begin: int, split: int, end: int, answered: bool
) -> float:
    """Share of a `LONG` question's own words that a record has around a place; 0 if it does not contain the question.

    Parameters
    ----------
    index, probe
    offset
        Place in the probe of a word that the record has.
    records
    at
        That word's place in the record.
    begin, split, end
        Bounds of the record's instruction and response.
    answered
        Whether the item's answer is found.
    """
    first, last = index.stems[probe, 0], index.stems[probe, 1]
    words = records.words
    left, right = index.bounds[probe] + offset, index.bounds[probe] + offset + 1  # of the same words in a row
    before, after = at, at + 1  # their bounds in the record
    while left > first and before > begin and index.words[left - 1] == words[before - 1]:
        left, before = left - 1, before - 1
    while right < last and after < end and index.words[right] == words[after]:
        right, after = right + 1, after + 1
    if right - left < last - first:
        share = _piece_share(index, probe, left, right, records, before, after, begin, split, end)
        if share >= HALF:
            return share
    own = index.own[probe]
    allowed = min(MAX_CHANGES, own // WORDS_PER_CHANGE)
    changes, informative = _changes(index, right, last, records, after, end, FORWARD, allowed)
    if changes <= allowed:
        more, others = _changes(index, left - 1, first - 1, records, before - 1, begin - 1, BACKWARD, allowed - changes)
        changes, informative = changes + more, informative + others
    if changes > allowed or informative > 1:
        return 0.0
    is_passage = changes > 0 and not answered and _has_sentences(index, first, last)
    if is_passage and not question_found(index, probe, words, begin, end):
        return 0.0
    share = 1.0 - changes / max(own, 1)
    return share if share >= index.need[probe] else 0.0


@numba.njit(**INNER_KERNEL)
def _piece_share(
    index: Index,
    probe: int,
    left: int,
    right: int,
    records: Words,
    before: int,
    after: int,
    begin: int,
    split: int,
    end: int,
) -> float:
    """Share of a stem's words, with the template's before it, in a piece of it; 0 if that is not half the stem alone.

    A piece from the stem's beginning must be all of some lines of the record, another all of its instruction. It must
    not be short, must cut a sentence of the stem, and half of it must be own words: others may be a frequent title.
    """
    first, last = index.stems[probe, 0], index.stems[probe, 1]
    lead = lead_found(index, probe, records.words, before, begin) if left == first else 0
    before -= lead
    if before not in (begin, split) and records.flags[before] & BREAK == 0:
        return 0.0
    if after not in (split, end) and records.flags[after] & BREAK == 0:
        return 0.0
    if left > first and (before != begin or after != split):  # a title in a list may be the end of a question
        return 0.0
    cut_left = left > first and index.flags[left] & SENTENCE == 0
    cut_right = right < last and index.flags[right] & SENTENCE == 0
    found = right - left + lead
    own = 0
    for place in range(left, right):
        own += index.flags[place] & TEMPLATE == 0
    if found < DISTINCTIVE_WORDS or 2 * own < right - left or not (cut_left or cut_right):
        return 0.0
    words = last - first
    for word in index.leads[probe]:
        words += word != 0
    return found / words


@numba.njit(**INNER_KERNEL)
def _changes(
    index: Index, place: Int, stop: Int, records: Words, at: Int, until: Int, step: int, allowed: Int
) -> tuple[Int, Int]:
    """Number of changed words from a place of a stem on, up to `stop`, in one direction, and how many are informative.

    It is more than allowed if a firm word of the stem is changed, or the record has a number or negation instead.
    """
    changes = informative = 0
    while place != stop:
        if at != until and index.words[place] == records.words[at]:
            place, at = place + step, at + step
            continue
        changes += 1
        if changes > allowed:
            break
        if at != until and _agree(index, place + step, stop, records, at + step, until, step):
            replaced = added = True
        elif _agree(index, place + step, stop, records, at, until, step):
            replaced, added = True, False
        elif at != until and _agree(index, place, stop, records, at + step, until, step):
            replaced, added = False, True
        else:
            return allowed + 1, informative
        if (replaced and index.flags[place] & FIRM) or (added and _reverses(index, records, at)):
            return allowed + 1, informative
        informative += replaced and index.flags[place] & INFORMATIVE != 0
        place, at = place + step * replaced, at + step * added
    return changes, informative


@numba.njit(**INNER_KERNEL)
def _agree(index: Index, place: Int, stop: Int, records: Words, at: Int, until: Int, step: int) -> bool:
    """Whether the next words of a stem are at a place of a record.

    Before the stem's beginning it needs none; behind its end there are no words that agree.
    """
    for _ in range(_AGREE):
        if place == stop:
            return step < 0
        if at == until or index.words[place] != records.words[at]:
            return False
        place, at = place + step, at + step
    return True


@numba.njit(**INNER_KERNEL)
def _reverses(index: Index, records: Words, at: Int) -> bool:
    """Whether a word of a record makes another question of an item that does not have it: a number or a negation."""
    if records.flags[at] & NUMBER:
        return True
    found = False
    for word in index.negations:
        found |= word == records.words[at]
    return found


@numba.njit(**INNER_KERNEL)
def _has_sentences(index: Index, first: int, last: int) -> bool:
    """Whether a sentence of a stem begins after its first word."""
    found = False
    for place in range(first + 1, last):
        found |= index.flags[place] & SENTENCE != 0
    return found
