"""The scan: which train records contain an eval item, by one pass over their words for each index.

    words of a record ─ n-grams in the index ─▶ candidates ─ comparison with the probe ─▶ hits

A shared n-gram makes a candidate. The record contains the probe if

- shared n-grams cover at least `Index.need` of the probe's own words, and `LEAST_SHARE` of all;
- no informative word is missing, or one that is not firm if the answer is found, and at most `MAX_GAP` other words in
  a row; a word is found if the record has the same `CONTEXT` words in a row around it (in options of fewer words: the
  same option);
- of a question, every word is covered, or its last `QUESTION_WORDS` words are found in a row, or its answer is found:
  the same passage with another question is no hit;
- of a question with options, its stem has `DISTINCTIVE_WORDS` and all are found, or as many own words and nearly all of
  these (`STEM_SHARE`), whatever the options and the answer are; or most of its options are found too, in any order and
  under any labels; or its answer is in the response and distinguishes the item from others. Where the stem has fewer
  than four words, all of it and of the options is needed.

A short question is searched as one stretch of words. It takes its options too, or its answer, or to be the better part
of the instruction, or to have `DISTINCTIVE_WORDS`. If it has `min_words`, the words of the template that precede it in
the record count too where the line ends behind it, since a longer question is another one.

The stem of a long question is also searched with a word or two changed and by half (`pipeline.decontaminate.changed`),
and every stem in any spacing (`pipeline.decontaminate.letters`).
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.changed import share_found
from pipeline.decontaminate.contains import (
    DISTINCTIVE_WORDS,
    answer_found,
    found_at,
    lead_found,
    listed_found,
    question_found,
)
from pipeline.decontaminate.gram_table import first_entry, gram_slot, may_have
from pipeline.decontaminate.index import EXACT, FIRM, INFORMATIVE, LONG, TEMPLATE, WHOLE, Index
from pipeline.decontaminate.letters import scan_letters
from pipeline.decontaminate.ngrams import gram, powers, prefixes
from pipeline.decontaminate.word_hashes import BREAK, OPTION, Flags, Words
from pipeline.text.hash_table import slots_for
from pipeline.text.hashing import U64
from pipeline.text.options import INNER_KERNEL, KERNEL

MAX_GAP = 4
"""Common words of a probe that may be missing in a row."""
LEAST_SHARE = 0.5
"""Share of a probe's words that must be found; those between its own words that many items have may be titles from a
pool rather than a template."""
STEM_SHARE = 0.9
"""Share of a stem's own words that must be found where the options are not."""
MISSING_OPTIONS, MISSING_OPTIONS_SHORT = 0.5, 0.2
"""Share of the words of a question's options that may be missing; of a short question's."""
CONTEXT = 3
"""Words in a row that show that a word is the same one."""


class Hits(NamedTuple):
    """Pairs of a record and a probe that it contains, h of them, in no order; some of them twice."""

    row: NDArray[np.int64]
    """(h,): index of the record among those that were scanned."""
    probe: NDArray[np.int32]
    """(h,)"""
    coverage: NDArray[np.float64]
    """(h,): share of the probe's own words that shared n-grams cover."""
    answered: NDArray[np.bool_]
    """(h,): whether the item's answer is known, is distinctive, and is in the response."""


def scan(records: Words, index: Index) -> Hits:
    """Find the probes that records contain.

    Parameters
    ----------
    records
        Words of instructions and responses, split between them.
    index
        Of one shard of eval items.
    """
    hits = _scan_words(records, index)
    rows, probes, complete = scan_letters(records, index.letters)
    if not len(rows):
        return hits
    answered = np.empty(len(rows), np.bool_)
    _write_answered(records, rows, probes, index, answered)
    long_enough = index.stems[probes, 1] - index.stems[probes, 0] >= index.sizes[2]
    found = complete | (answered & long_enough)
    rows, probes, answered = rows[found], probes[found], answered[found]
    return Hits(
        row=np.append(hits.row, rows),
        probe=np.append(hits.probe, probes),
        coverage=np.append(hits.coverage, np.ones(len(rows))),
        answered=np.append(hits.answered, answered),
    )


@numba.njit(**KERNEL)
def _write_answered(
    records: Words, rows: NDArray[np.int64], probes: NDArray[np.int32], index: Index, found: NDArray[np.bool_]
) -> None:
    """Write whether the answer of each hit's item is distinctive and in the response."""
    for hit in range(len(rows)):
        split, end = records.bounds[rows[hit]] + records.splits[rows[hit]], records.bounds[rows[hit] + 1]
        is_distinctive = index.distinctive[index.item[probes[hit]]]
        found[hit] = is_distinctive and answer_found(index, probes[hit], records.words, split, end)


def _scan_words(records: Words, index: Index) -> Hits:
    """Find probes by their words."""
    longest = int(np.diff(records.bounds).max(initial=0))
    longest_probe = int(np.diff(index.bounds).max(initial=0))
    power = powers(int(max(longest_probe, longest, index.sizes[1])))
    prefix = prefixes(records.words)
    grams, covered = np.empty(_gram_slots(longest), np.uint64), np.empty(longest_probe, np.bool_)
    compared = np.empty(len(index.mode), np.int64)
    room = 1024
    while True:
        hits = Hits(
            np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.float64), np.empty(room, np.bool_)
        )
        count = _scan(records, prefix, index, power, grams, covered, compared, hits)
        if count <= room:
            return Hits._make(values[:count] for values in hits)
        room = count


@numba.njit(**INNER_KERNEL)
def _next_candidate(
    prefix: U64, at: np.uint64, until: np.uint64, size: np.uint64, factor: np.uint64, sieve: U64
) -> np.uint64:
    """The first place from `at` on whose n-gram the index may have; `until` if there is none before it."""
    while at < until:
        if may_have(sieve, gram(prefix, at, size, factor)):
            break
        at += np.uint64(1)
    return at


@numba.njit(**KERNEL)
def _scan(
    records: Words,
    prefix: U64,
    index: Index,
    power: U64,
    grams: U64,
    covered: NDArray[np.bool_],
    compared: NDArray[np.int64],
    hits: Hits,
) -> int:
    """Write the hits, and return their number, which may be larger than the arrays."""
    count = 0
    sieve = index.sieve
    compared[:] = -1  # last record that each probe was compared with
    for row in range(len(records.bounds) - 1):
        begin, end = records.bounds[row], records.bounds[row + 1]
        split = begin + records.splits[row]
        filled = 0  # slots of `grams` that hold the record's n-grams
        for kind in range(3):  # n-grams of `WHOLE` probes, of `LONG` probes, and the whole instruction for `EXACT` ones
            exact = kind == 2
            size = split - begin if exact else index.sizes[kind]
            if not 0 < size < len(power):
                continue
            factor, words_ = power[size], np.uint64(size)
            place = np.uint64(begin)
            until = np.uint64(begin + 1 if exact else max(begin, end - size + 1))
            while True:
                place = _next_candidate(prefix, place, until, words_, factor, sieve)
                if place >= until:
                    break
                at = np.int64(place)
                place += np.uint64(1)
                entry = first_entry(gram(prefix, at, size, factor), index.table, index.first)
                while entry >= 0:
                    probe, offset = index.entry_probe[entry], index.entry_at[entry]
                    entry = index.entry_next[entry]
                    if compared[probe] == row or (index.mode[probe] == EXACT) != exact:
                        continue
                    stem = lead = 0  # words of the stem that are found as one stretch, and of the template before it
                    if index.mode[probe] == WHOLE:
                        stem = index.stems[probe, 1] - index.stems[probe, 0]
                        first = at - offset
                        if not found_at(index.words, index.stems[probe, 0], stem, records.words, first, begin, end):
                            continue
                        after = first + stem
                        if stem >= index.sizes[2] and (after in (split, end) or records.flags[after] & BREAK):
                            lead = lead_found(index, probe, records.words, first, begin)
                    has_answer = answer_found(index, probe, records.words, split, end)
                    answered = has_answer and index.distinctive[index.item[probe]]
                    words = index.bounds[probe + 1] - index.bounds[probe]
                    by_piece = index.mode[probe] == LONG and kind == 0
                    if by_piece:
                        coverage = share_found(index, probe, offset, records, at, begin, split, end, answered)
                        if listed_found(index, probe, records.words, begin, end):
                            coverage = 1.0
                    elif index.mode[probe] == LONG or (index.mode[probe] == WHOLE and words > stem):
                        if not filled:
                            filled = _gram_slots(end - begin)
                            _fill(grams[:filled], prefix, power, begin, end, index.sizes[1])
                        coverage = _compare(index, probe, stem, lead, answered, power, grams[:filled], covered[:words])
                        if 0.0 < coverage < 1.0 and not (stem or answered or index.solution[probe]):
                            coverage *= question_found(index, probe, records.words, begin, end)
                    else:
                        enough = stem + lead >= DISTINCTIVE_WORDS or 2 * (stem + lead) >= split - begin
                        coverage = 1.0 if has_answer or (enough and index.mode[probe] == WHOLE) else 0.0
                    if coverage > 0.0 or not by_piece:  # otherwise, other n-grams of the probe decide
                        compared[probe] = row
                    if coverage == 0.0:
                        continue
                    if count < len(hits.row):
                        hits.row[count], hits.probe[count] = row, probe
                        hits.coverage[count], hits.answered[count] = coverage, answered
                    count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _gram_slots(words: int) -> int:
    """Slots of the set of the n-grams of so many words: four sizes of them."""
    return slots_for(max(1024, 8 * words))


@numba.njit(**INNER_KERNEL)
def _fill(grams: U64, prefix: U64, power: U64, begin: int, end: int, n: int) -> None:
    """Fill the set with a record's n-grams, and with its stretches of up to `CONTEXT` words."""
    grams[:] = 0
    for size in (1, 2, CONTEXT, n):
        for at in range(begin, end - size + 1):
            key = gram(prefix, at, size, power[size])
            grams[gram_slot(grams, key)] = key


@numba.njit(**INNER_KERNEL)
def _cover(
    covered: NDArray[np.bool_], begin: int, first: int, last: int, size: int, prefix: U64, power: U64, grams: U64
) -> None:
    """Mark the words from first to last that are in stretches of `size` words which the record has.

    covered[0] is for word `begin`.
    """
    until = first
    for at in range(first, last - size + 1):
        if grams[gram_slot(grams, gram(prefix, at, size, power[size]))] != 0:
            for place in range(max(at, until), at + size):
                covered[place - begin] = True
            until = at + size


@numba.njit(**INNER_KERNEL)
def _compare(
    index: Index,
    probe: int,
    stem: int,
    lead: int,
    answered: bool,
    power: U64,
    grams: U64,
    covered: NDArray[np.bool_],
) -> float:
    """Coverage of a probe by a record's n-grams and by the first `stem` words of its stem; 0 if it is not contained.

    `covered` is scratch, one for each word of the probe.
    """
    begin, end = index.bounds[probe], index.bounds[probe + 1]
    covered[:] = False
    first = index.stems[probe, 0] - begin
    covered[first : first + stem] = True
    _cover(covered, begin, begin, end, index.sizes[1], index.prefix, power, grams)
    flags = index.flags[begin:end]
    coverage = _own_share(flags, covered)
    if coverage < index.need[probe] or coverage == 0.0 or _stem_share(flags, covered) < LEAST_SHARE:
        return 0.0
    segment = begin
    while segment < end:
        after = segment + 1
        while after < end and index.flags[after] & BREAK == 0:
            after += 1
        _cover(covered, begin, segment, after, min(CONTEXT, after - segment), index.prefix, power, grams)
        segment = after
    without_options = answered and (index.mode[probe] == LONG or stem >= index.sizes[2])
    options = 1.0  # share of the options' words that may be missing
    if not (index.solution[probe] or without_options or _stem_suffices(flags, covered, lead)):
        options = MISSING_OPTIONS_SHORT if stem else MISSING_OPTIONS
    return coverage if _missing_little(flags, covered, without_options, options) else 0.0


@numba.njit(**INNER_KERNEL)
def _own_share(flags: Flags, covered: NDArray[np.bool_]) -> float:
    """Share of a probe's own words, those of neither template nor options, that are covered."""
    own = found = 0
    for place in range(len(flags)):
        if flags[place] & (TEMPLATE | OPTION) == 0:
            own += 1
            found += covered[place]
    return found / own if own else 0.0


@numba.njit(**INNER_KERNEL)
def _stem_share(flags: Flags, covered: NDArray[np.bool_]) -> float:
    """Share of a probe's words without its options that are covered, the template's between its own ones included."""
    words = found = 0
    for place in range(len(flags)):
        if flags[place] & OPTION == 0:
            words += 1
            found += covered[place]
    return found / words if words else 1.0


@numba.njit(**INNER_KERNEL)
def _stem_suffices(flags: Flags, covered: NDArray[np.bool_], lead: int) -> bool:
    """Whether enough of a stem is found to know the question without its options: all words, or nearly all own ones.

    `lead` words of the template before it are found too.
    """
    total = own = found = found_own = 0
    for place in range(len(flags)):
        if flags[place] & OPTION == 0:
            total += 1
            found += covered[place]
            if flags[place] & TEMPLATE == 0:
                own += 1
                found_own += covered[place]
    verbatim = total + lead >= DISTINCTIVE_WORDS and found == total
    return verbatim or (own >= DISTINCTIVE_WORDS and found_own >= STEM_SHARE * own)


@numba.njit(**INNER_KERNEL)
def _missing_little(flags: Flags, covered: NDArray[np.bool_], answered: bool, max_options: float) -> bool:
    """Whether the words of a probe that are not covered are few and common enough."""
    gap = options = missing = 0
    spare = answered  # one informative word may be missing
    for place in range(len(flags)):
        flag = flags[place]
        if flag & OPTION:
            options += 1
            missing += not covered[place]
        elif covered[place] or flag & TEMPLATE:
            gap = 0
        else:
            gap += 1
            if flag & FIRM or gap > MAX_GAP or (flag & INFORMATIVE and not spare):
                return False
            if flag & INFORMATIVE:
                spare = False
    return missing <= max_options * options
