"""The scan: which train records hold an eval item, by one pass over their words for each index.

    words of a record ─ n-grams in the index ─▶ candidates ─ comparison with the probe ─▶ hits

An n-gram in common only proposes. A record then holds a probe if

- shared n-grams cover the stated share of the probe's own words;
- none of its informative words is missing, or where the answer is there one that is not firm, and at most `MAX_GAP`
  others in a row: a word is there if it stands in the record in the same three words in a row (in options of fewer
  words: the same option);
- its options, or most of them, are there too, or its answer is in the response, if that tells the item from others.

A short question is looked for as one stretch of words: with its options, or with its answer, or as the better part of
an instruction, or by itself if it has `TELLING_WORDS`.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.index import EXACT, FIRM, INFORMATIVE, LONG, TEMPLATE, WHOLE, Index
from pipeline.decontaminate.words import BREAK, OPTION, U64, Words, gram, powers, prefixes

MAX_GAP = 4
"""Common words of a probe that may be missing in a row."""
TELLING_WORDS = 9
"""So many words of a short question in a row need no more than themselves."""
MISSING_OPTIONS, MISSING_OPTIONS_SHORT = 0.5, 0.2
"""Share of the words of a question's options that may be missing; of a short question's."""
CONTEXT = 3
"""Words in a row that show that a word is the same one."""


class Hits(NamedTuple):
    """Pairs of a record and a probe it holds, h of them, by record and probe."""

    row: NDArray[np.int64]
    """(h,): place of the record among those that were scanned."""
    probe: NDArray[np.int32]
    """(h,)"""
    coverage: NDArray[np.float64]
    """(h,): share of the probe's own words that shared n-grams cover."""
    answered: NDArray[np.bool_]
    """(h,): whether the item's answer is known, tells it from others, and is in the response."""


def scan(records: Words, index: Index) -> Hits:
    """Find the probes that records hold.

    Parameters
    ----------
    records
        Words of instructions and responses, split between them.
    index
        Of one shard of eval items.
    """
    most = int(max(np.diff(index.bounds).max(initial=0), np.diff(records.bounds).max(initial=0), index.sizes[1]))
    return Hits(*_scan(records, prefixes(records.words), index, prefixes(index.words), powers(most)))


@numba.njit(cache=True, nogil=True, inline="always")
def look_up(key: np.uint64, table: U64, first: NDArray[np.int32], sieve: U64) -> int:
    bit = key & np.uint64(64 * len(sieve) - 1)
    if not (sieve[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1):
        return -1
    mask = np.uint64(len(table) - 1)
    slot = (key >> np.uint64(20)) & mask
    while table[slot] != 0:
        if table[slot] == key:
            return first[slot]
        slot = (slot + np.uint64(1)) & mask
    return -1


@numba.njit(cache=True, nogil=True)
def _scan(
    records: Words, prefix: U64, index: Index, probe_prefix: U64, power: U64
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64], NDArray[np.bool_]]:
    room = 1024
    rows, probes = np.empty(room, np.int64), np.empty(room, np.int32)
    coverages, answereds = np.empty(room, np.float64), np.empty(room, np.bool_)
    count = 0
    mode, n = index.mode, index.sizes[1]
    compared = np.full(len(mode), -1, np.int64)
    """For each probe, the last record it was compared with."""
    grams = np.zeros(1024, np.uint64)
    for row in range(len(records.bounds) - 1):
        begin, end = records.bounds[row], records.bounds[row + 1]
        split = begin + records.splits[row]
        filled = False
        for turn in range(3):
            exact = turn == 2
            size = split - begin if exact else index.sizes[turn]
            if not 0 < size < len(power):
                continue
            for at in range(begin, begin + 1 if exact else end - size + 1):
                entry = look_up(gram(prefix, at, size, power[size]), index.table, index.first, index.sieve)
                while entry >= 0:
                    probe = index.entry_probe[entry]
                    entry = index.entry_next[entry]
                    if compared[probe] == row or (mode[probe] == EXACT) != exact:
                        continue
                    stem, known = index.stems[probe, 0], 0
                    if mode[probe] == WHOLE:
                        known = index.stems[probe, 1] - stem
                        if not _stands(index.words, stem, known, records.words, at - index.anchors[probe], begin, end):
                            continue
                    compared[probe] = row
                    item = index.item[probe]
                    answer = index.answers[index.answer_bounds[item] : index.answer_bounds[item + 1]]
                    answered = _occurs(answer, records.words, split, end)
                    told = answered and index.telling[item]
                    no_options = told and (mode[probe] == LONG or known >= index.sizes[2])
                    first, last = index.bounds[probe], index.bounds[probe + 1]
                    if mode[probe] == LONG or (mode[probe] == WHOLE and last - first > known):
                        if not filled:
                            grams = _fill(grams, prefix, power, begin, end, n)
                            filled = True
                        coverage = _compare(
                            probe_prefix, power, index.flags, first, last, stem, known, grams, n,
                            index.need[probe], index.solution[probe], no_options,
                        )  # fmt: skip
                    else:
                        long = mode[probe] == WHOLE and (known >= TELLING_WORDS or 2 * known >= split - begin)
                        coverage = 1.0 if answered or long else 0.0
                    if coverage == 0.0:
                        continue
                    if count == room:
                        room *= 2
                        rows, probes = _grown(rows, room), _grown(probes, room)
                        coverages, answereds = _grown(coverages, room), _grown(answereds, room)
                    rows[count], probes[count], coverages[count], answereds[count] = row, probe, coverage, told
                    count += 1
    return rows[:count].copy(), probes[:count].copy(), coverages[:count].copy(), answereds[:count].copy()


@numba.njit(cache=True, nogil=True)
def _grown(values, room):  # type: ignore[no-untyped-def]
    larger = np.empty(room, values.dtype)
    larger[: len(values)] = values
    return larger


@numba.njit(cache=True, nogil=True)
def _stands(sought: U64, first: int, size: int, words: U64, at: int, begin: int, end: int) -> bool:
    """Whether `size` words from `first` stand at a place in a record's words from begin to end."""
    if at < begin or at + size > end:
        return False
    same = 0
    while same < size and words[at + same] == sought[first + same]:
        same += 1
    return same == size


@numba.njit(cache=True, nogil=True)
def _occurs(sought: U64, words: U64, begin: int, end: int) -> bool:
    """Whether some words, at least one, stand in a row in a text."""
    size = len(sought)
    for at in range(begin, end - size + 1 if size else begin):
        if _stands(sought, 0, size, words, at, begin, end):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _fill(grams: U64, prefix: U64, power: U64, begin: int, end: int, n: int) -> U64:
    """The set of a record's n-grams and of its shorter ones, by open addressing."""
    slots = 1024
    while slots < 8 * (end - begin):
        slots *= 2
    if len(grams) < slots:
        grams = np.zeros(slots, np.uint64)
    else:
        grams[:] = 0
    mask = np.uint64(len(grams) - 1)
    for size in (1, 2, CONTEXT, n):
        for at in range(begin, end - size + 1):
            key = gram(prefix, at, size, power[size])
            slot = (key >> np.uint64(20)) & mask
            while grams[slot] != 0 and grams[slot] != key:
                slot = (slot + np.uint64(1)) & mask
            grams[slot] = key
    return grams


@numba.njit(cache=True, nogil=True, inline="always")
def _has(grams: U64, key: np.uint64) -> bool:
    mask = np.uint64(len(grams) - 1)
    slot = (key >> np.uint64(20)) & mask
    while grams[slot] != 0:
        if grams[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


@numba.njit(cache=True, nogil=True)
def _compare(
    prefix: U64,
    power: U64,
    flags: NDArray[np.uint8],
    begin: int,
    end: int,
    stem: int,
    known: int,
    grams: U64,
    n: int,
    need: float,
    solution: bool,
    answered: bool,
) -> float:
    """Coverage of a probe by a record's n-grams and the `known` words from `stem`; 0 where it is not held."""
    covered = np.zeros(end - begin, np.bool_)
    covered[stem - begin : stem - begin + known] = True
    until = begin
    for at in range(begin, end - n + 1):
        if _has(grams, gram(prefix, at, n, power[n])):
            for place in range(max(at, until), at + n):
                covered[place - begin] = True
            until = at + n
    own = mine = 0
    for place in range(begin, end):
        if flags[place] & (TEMPLATE | OPTION) == 0:
            own += 1
            mine += covered[place - begin]
    coverage = mine / own if own else 0.0
    if coverage < need or coverage == 0.0:
        return 0.0
    segment = begin
    while segment < end:
        after = segment + 1
        while after < end and flags[after] & BREAK == 0:
            after += 1
        size = min(CONTEXT, after - segment)
        until = segment
        for at in range(segment, after - size + 1):
            if _has(grams, gram(prefix, at, size, power[size])):
                for place in range(max(at, until), at + size):
                    covered[place - begin] = True
                until = at + size
        segment = after
    gap = options = missing = 0
    spare = answered
    for place in range(begin, end):
        flag = flags[place]
        if flag & OPTION:
            options += 1
            missing += not covered[place - begin]
        elif covered[place - begin] or flag & TEMPLATE:
            gap = 0
        else:
            gap += 1
            if flag & FIRM or gap > MAX_GAP or (flag & INFORMATIVE and not spare):
                return 0.0
            if flag & INFORMATIVE:
                spare = False
    if not (solution or answered) and missing > (MISSING_OPTIONS_SHORT if known else MISSING_OPTIONS) * options:
        return 0.0
    return coverage
