"""Stems in any spacing, found in a record by their letters alone, without white space.

    letters of a stem ─ the rarest of some stretches ─▶ entry (stretch, stem) in a table
    letters of a record ─ sieve ─ stretches in the table ─▶ candidates ─ all letters of the stem in a row ─▶ hits

Words broken by line breaks or blanks, and texts without any blank, have other words than the item and the same letters.
The *gap* between two letters, a sign or the gap between two numbers, must be the same too, but where a line is broken
there: "20\\n12" may be 2012, "5.\\n2" may be 5.2, and "x\\n- 3" may be x - 3. A label such as "e." that begins a line
may be the end of the last line's word: a record with such labels is scanned once more, with these as letters.

The sieve settles nearly all places of a record. Its hashes are made of those of 2, 4 and 8 letters, in loops that the
compiler turns into vector instructions.

Of a stem of fewer than `DISTINCTIVE_WORDS` words, all options must be found too, or a distinctive answer, or the words
of the template before it, and a line must end behind it.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from pipeline.decontaminate.gram_table import build_gram_table, first_entry
from pipeline.decontaminate.ngrams import document_counts
from pipeline.decontaminate.word_hashes import BREAK, BROKEN, BROKEN_LABEL, Letters, Words
from pipeline.text import codes
from pipeline.text.codes import Int
from pipeline.text.hash_table import slots_for
from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL, KERNEL

U32 = NDArray[np.uint32]

STRETCH = 24
"""Letters of a stretch: three times eight."""
_SIEVE_BITS, _LEAST_SIEVE_BITS = 32, 2**13
"""Bits of the sieve for each stem, at least, and in all."""
_M4, _M8, _M24, _M_LAST = (np.uint32(odd) for odd in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F))
"""Odd multipliers of the sieve's hashes of 4, 8 and 24 letters, and of its last step."""
_CHOICES = 16
"""Stretches of a stem of which the rarest is its entry."""
_LEAST_LETTER = codes.DIGIT_0
"""What is smaller is a sign or a mark."""
_LABELS_END = BROKEN_LABEL + codes.LOWER_J - codes.LOWER_A + 1
SUFFICIENT, SHORT, LED = range(3)
"""What an entry has: a stem that suffices; one that takes the options or the answer too; a short one behind the
template's last words, which a line's end must follow."""
_ANY_GAP = -1
_GAP_BITS = 6

Spans = NDArray[np.int64]


class LetterIndex(NamedTuple):
    """Arrays over s stems, g gaps, o options and the slots of a table."""

    hashes: U64
    """(s,): hash of all letters of a stem."""
    sizes: NDArray[np.int64]
    """(s,): number of its letters."""
    places: NDArray[np.int64]
    """(s,): offset of its entry's stretch."""
    probes: NDArray[np.int32]
    """(s,): the probe that has the stem."""
    kinds: NDArray[np.uint8]
    """(s,): `SUFFICIENT`, `SHORT` or `LED`."""
    gap_bounds: NDArray[np.int64]
    """(s + 1,): stem i has the gaps gap_bounds[i] to gap_bounds[i + 1]."""
    gap_at: NDArray[np.int32]
    """(g,): offset of the letter behind a gap."""
    gaps: NDArray[np.int64]
    """(g,): what is in it, `_ANY_GAP` if a line is broken there."""
    option_bounds: NDArray[np.int64]
    """(s + 1,): stem i has the options option_bounds[i] to option_bounds[i + 1]; only a `SHORT` one has any."""
    option_hashes: U64
    option_sizes: NDArray[np.int64]
    """(o,): hash of all letters of an option, and their number."""
    table: U64
    first: NDArray[np.int32]
    following: NDArray[np.int32]
    """See `pipeline.decontaminate.gram_table`; an entry is a stem."""
    sieve: U32
    """Bit set of the stretches' hashes: two bits of one word for each."""


def letter_index(
    texts: Words,
    stems: Spans,
    probes: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    options: Spans,
    option_probes: NDArray[np.int64],
    max_items: int,
) -> LetterIndex:
    """Index stems by their letters.

    Parameters
    ----------
    texts
        Words of all probes.
    stems
        (s, 2): begin and end of each stem among all words.
    probes
        (s,): the probe of each stem.
    kinds
        (s,): `SUFFICIENT`, `SHORT` or `LED`.
    options, option_probes
        (o, 2), (o,): begin and end of each option among all words, and its probe, ascending.
    max_items
        A stretch that more stems with other letters have is not used for search.
    """
    until = np.append(0, texts.ends)
    is_letter = texts.letters >= _LEAST_LETTER
    letters = texts.letters[is_letter]
    before = np.append(0, np.cumsum(is_letter))  # letters before each place
    spans = before[until[stems]]
    long = spans[:, 1] - spans[:, 0] >= STRETCH
    spans, probes, kinds = spans[long], probes[long], kinds[long]
    hashes = _hashes(letters, spans)
    room = spans[:, 1] - spans[:, 0] - STRETCH
    places = room[:, None] * np.arange(_CHOICES) // (_CHOICES - 1)
    keys = _stretch_keys(letters, (spans[:, :1] + places).ravel())
    _, number = np.unique(hashes, return_inverse=True)  # an item may be in several sets
    counts = document_counts(keys, np.repeat(number, _CHOICES)).reshape(-1, _CHOICES)
    rarest = counts.argmin(axis=1, keepdims=True)
    taken = np.take_along_axis(counts, rarest, 1)[:, 0] <= max_items
    keys = np.take_along_axis(keys.reshape(-1, _CHOICES), rarest, 1)[taken, 0]
    places = np.take_along_axis(places, rarest, 1)[taken, 0]
    order = np.lexsort((probes[taken], keys))
    spans, probes, kinds, hashes = (part[taken][order] for part in (spans, probes, kinds, hashes))

    gap_at, gaps = _gaps(texts.letters)
    gap_spans = np.searchsorted(gap_at, spans + np.array([1, 0]))
    chosen, gap_bounds = _ranges(gap_spans)
    option_spans = np.searchsorted(option_probes, probes[:, None] + np.array([0, 1]))
    option_spans[kinds != SHORT, 1] = option_spans[kinds != SHORT, 0]
    chosen_options, option_bounds = _ranges(option_spans)
    option_letters = before[until[options[chosen_options]]]
    table, first, following, _ = build_gram_table(keys[order])
    return LetterIndex(
        hashes=hashes,
        sizes=spans[:, 1] - spans[:, 0],
        places=places[order],
        probes=probes.astype(np.int32),
        kinds=kinds,
        gap_bounds=gap_bounds,
        gap_at=(gap_at[chosen] - np.repeat(spans[:, 0], np.diff(gap_bounds))).astype(np.int32),
        gaps=gaps[chosen],
        option_bounds=option_bounds,
        option_hashes=_hashes(letters, option_letters),
        option_sizes=option_letters[:, 1] - option_letters[:, 0],
        table=table,
        first=first,
        following=following,
        sieve=_sieve(letters.astype(np.uint32) + np.uint32(1), spans[:, 0] + places[order]),
    )


def _ranges(spans: Spans) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers in n spans (begin, end), one span after the other, and the bounds (n + 1,) between them."""
    sizes = spans[:, 1] - spans[:, 0]
    bounds = np.append(0, np.cumsum(sizes))
    return np.arange(bounds[-1]) + np.repeat(spans[:, 0] - bounds[:-1], sizes), bounds


@numba.njit(cache=True, nogil=True)
def _gaps(letters: Letters) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of letters before each gap that is not empty, ascending, and what is in it."""
    places, gaps = np.empty(len(letters), np.int64), np.empty(len(letters), np.int64)
    count = before = 0
    gap = np.int64(0)
    for at in range(len(letters)):
        if letters[at] < _LEAST_LETTER:
            gap = _with_mark(gap, letters[at])
            continue
        if gap != 0:
            places[count], gaps[count] = before, gap
            count += 1
            gap = np.int64(0)
        before += 1
    return places[:count].copy(), gaps[:count].copy()


@numba.njit(**INNER_KERNEL)
def _with_mark(gap: Int, mark: Int) -> np.int64:
    """A gap with one more sign or mark."""
    if BROKEN_LABEL <= mark < _LABELS_END:
        return np.int64(gap)
    if mark == BROKEN or gap == _ANY_GAP:
        return np.int64(_ANY_GAP)
    return np.int64(gap << _GAP_BITS | (np.int64(mark) + 1))


@numba.njit(cache=True, nogil=True)
def _hash(letters: Letters, begin: int, end: int) -> np.uint64:
    """Polynomial hash of some letters."""
    value = np.uint64(0)
    for at in range(begin, end):
        value = value * GOLDEN + np.uint64(letters[at]) + np.uint64(1)
    return value


@numba.njit(cache=True, nogil=True)
def _hashes(letters: Letters, spans: Spans) -> U64:
    hashes = np.empty(len(spans), np.uint64)
    for stem in range(len(spans)):
        hashes[stem] = _hash(letters, spans[stem, 0], spans[stem, 1])
    return hashes


@numba.njit(**INNER_KERNEL)
def _key(value: np.uint64) -> np.uint64:
    """Key of a stretch in the table, never 0, from its polynomial hash."""
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return (value ^ (value >> np.uint64(32))) | np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _stretch_keys(letters: Letters, begins: NDArray[np.int64]) -> U64:
    keys = np.empty(len(begins), np.uint64)
    for place in range(len(begins)):
        keys[place] = _key(_hash(letters, begins[place], begins[place] + STRETCH))
    return keys


@numba.njit(**INNER_KERNEL)
def _hash_stretches(solid: U32, values: U32) -> None:
    """Write the sieve's hash of the stretch at each place of some letters, each and one.

    The first len(solid) - STRETCH + 1 values are hashes of stretches.
    """
    count = np.uint64(len(solid))
    for at in range(count - np.uint64(1)):
        values[at] = solid[at] << np.uint32(16) | solid[at + np.uint64(1)]
    for at in range(count - np.uint64(3)):
        values[at] = values[at] * _M4 + values[at + np.uint64(2)]
    for at in range(count - np.uint64(7)):
        values[at] = values[at] * _M8 + values[at + np.uint64(4)]
    for at in range(count - np.uint64(STRETCH - 1)):
        value = (values[at] * _M24 + values[at + np.uint64(8)]) * _M24 + values[at + np.uint64(16)]
        values[at] = (value ^ (value >> np.uint32(15))) * _M_LAST


@numba.njit(cache=True, nogil=True)
def _sieve(solid: U32, begins: NDArray[np.int64]) -> U32:
    """Bit set of the stretches that begin at some places of letters, each and one."""
    bits = slots_for(max(_LEAST_SIEVE_BITS, _SIEVE_BITS * len(begins)))
    sieve = np.zeros(bits // 32, np.uint32)
    shift = _sieve_shift(sieve)
    values = np.empty(STRETCH, np.uint32)
    for begin in begins:
        _hash_stretches(solid[begin : begin + STRETCH], values)
        bit, other = values[0] >> shift, values[0] & np.uint32(31)
        sieve[bit >> np.uint32(5)] |= np.uint32(1) << (bit & np.uint32(31)) | np.uint32(1) << other
    return sieve


@numba.njit(**INNER_KERNEL)
def _sieve_shift(sieve: U32) -> np.uint32:
    """Lower bits of a hash that are no part of its place in a sieve."""
    shift, size = np.uint32(27), len(sieve)
    while size > 1:
        shift, size = shift - np.uint32(1), size // 2
    return shift


@numba.njit(**INNER_KERNEL)
def _next_candidate(values: U32, at: np.uint64, count: np.uint64, sieve: U32, shift: np.uint32) -> np.uint64:
    """The first of `count` hashes from a place on that the sieve has; `count` if it has none."""
    while at < count:
        bit, other = values[at] >> shift, values[at] & np.uint32(31)
        word = sieve[bit >> np.uint32(5)]
        if (word >> (bit & np.uint32(31))) & (word >> other) & np.uint32(1):
            break
        at += np.uint64(1)
    return at


class Found(NamedTuple):
    """Stems in records, f of them."""

    rows: NDArray[np.int64]
    """(f,): index of the record."""
    probes: NDArray[np.int32]
    """(f,)"""
    complete: NDArray[np.bool_]
    """(f,): whether nothing else must be found: it is False for a `SHORT` stem without its options."""


def scan_letters(records: Words, index: LetterIndex) -> Found:
    """Find stems in records by their letters alone."""
    row_ends = np.append(0, records.ends)[records.bounds]
    longest = int(np.diff(row_ends).max(initial=0))
    solid, values = np.empty(longest + 1, np.uint32), np.empty(longest + 1, np.uint32)
    room = 1024
    while True:
        found = Found(np.empty(room, np.int64), np.empty(room, np.int32), np.empty(room, np.bool_))
        count = _scan(records, row_ends, index, solid, values, found)
        if count <= room:
            return Found._make(values[:count] for values in found)
        room = count


@numba.njit(**KERNEL)
def _scan(
    records: Words, row_ends: NDArray[np.int64], index: LetterIndex, solid: U32, values: U32, found: Found
) -> int:
    """Write what is found, and return its number, which may be larger than the arrays."""
    letters, sieve = records.letters, index.sieve
    shift = _sieve_shift(sieve)
    hits = 0
    for row in range(len(records.bounds) - 1):
        begin, end = row_ends[row], row_ends[row + 1]
        with_labels = False
        while True:
            size, labelled = _write_solid(letters, begin, end, with_labels, solid)
            count = np.uint64(max(0, size - STRETCH + 1))
            if count:
                _hash_stretches(solid[:size], values)
            place = _next_candidate(values, np.uint64(0), count, sieve, shift)
            while place < count:
                at = np.int64(place)
                place = _next_candidate(values, place + np.uint64(1), count, sieve, shift)
                stem = first_entry(_key(_hash_solid(solid, at, at + STRETCH)), index.table, index.first)
                while stem >= 0:
                    first = at - index.places[stem]
                    kind = index.kinds[stem]
                    last = -1
                    if first >= 0 and _is_at(index, stem, solid, first, size):
                        last = _find_end(index, stem, letters, first, begin, end, with_labels)
                    if last >= 0 and (kind != LED or _ends_line(records, row, last)):
                        if hits < len(found.rows):
                            found.rows[hits], found.probes[hits] = row, index.probes[stem]
                            found.complete[hits] = kind != SHORT or _has_options(index, stem, solid[:size])
                        hits += 1
                    stem = index.following[stem]
            if with_labels or not labelled:
                break
            with_labels = True
    return hits


@numba.njit(**INNER_KERNEL)
def _letter(letter: Int, with_labels: bool) -> np.uint32:
    """A letter or digit and one; 0 for a sign or a mark."""
    if letter >= _LEAST_LETTER:
        return np.uint32(letter) + np.uint32(1)
    if with_labels and BROKEN_LABEL <= letter < _LABELS_END:
        return np.uint32(codes.LOWER_A + np.int64(letter) - BROKEN_LABEL + 1)
    return np.uint32(0)


@numba.njit(**INNER_KERNEL)
def _write_solid(letters: Letters, begin: int, end: int, with_labels: bool, solid: U32) -> tuple[int, bool]:
    """Write a record's letters, each and one; returns how many there are, and whether there are broken labels."""
    size = 0
    labelled = False
    for place in range(np.uint64(begin), np.uint64(end)):
        letter = _letter(letters[place], with_labels)
        solid[np.uint64(size)] = letter
        size += letter != 0
        labelled |= BROKEN_LABEL <= letters[place] < _LABELS_END
    return size, labelled


@numba.njit(**INNER_KERNEL)
def _is_at(index: LetterIndex, stem: int, solid: U32, first: int, size: int) -> bool:
    """Whether a record has the letters of a stem from its letter `first` on."""
    last = first + index.sizes[stem]
    if last > size:
        return False
    return bool(_hash_solid(solid, first, last) == index.hashes[stem])


@numba.njit(**INNER_KERNEL)
def _hash_solid(solid: U32, begin: int, end: int) -> np.uint64:
    """`_hash` of letters that are one too large each."""
    value = np.uint64(0)
    for at in range(begin, end):
        value = value * GOLDEN + np.uint64(solid[at])
    return value


@numba.njit(**INNER_KERNEL)
def _find_end(
    index: LetterIndex, stem: int, letters: Letters, first: int, begin: int, end: int, with_labels: bool
) -> int:
    """Where a stem ends that is at a record's letter `first`; -1 if its gaps differ, or a number is cut."""
    place, size = begin, -first
    gap = np.int64(0)
    number = index.gap_bounds[stem]
    while size < index.sizes[stem]:
        if _letter(letters[place], with_labels) == 0:
            gap = _with_mark(gap, letters[place])
            place += 1
            continue
        if size == 0 and _cuts_number(letters, place, begin, end):
            return -1
        if size > 0:
            expected = np.int64(0)
            if number < index.gap_bounds[stem + 1] and index.gap_at[number] == size:
                expected = index.gaps[number]
                number += 1
            if gap != expected and gap != _ANY_GAP and expected != _ANY_GAP:
                return -1
        gap = np.int64(0)
        place += 1
        size += 1
    return -1 if _cuts_number(letters, place, begin, end) else place


@numba.njit(**INNER_KERNEL)
def _ends_line(records: Words, row: int, at: int) -> bool:
    """Whether a word of a record ends at a place of its letters, and the next begins a line, or there is none."""
    first, last = records.bounds[row], records.bounds[row + 1] - 1
    split = first + records.splits[row]
    while first < last:
        middle = (first + last) // 2
        if records.ends[middle] < at:
            first = middle + 1
        else:
            last = middle
    after = first + 1
    is_break = after in (split, records.bounds[row + 1]) or records.flags[after] & BREAK != 0
    return bool(records.ends[first] == at and is_break)


@numba.njit(**INNER_KERNEL)
def _has_options(index: LetterIndex, stem: int, solid: U32) -> bool:
    """Whether a record has the letters of each option of a stem that has any, in any order."""
    for option in range(index.option_bounds[stem], index.option_bounds[stem + 1]):
        if not _has(solid, index.option_hashes[option], index.option_sizes[option]):
            return False
    return bool(index.option_bounds[stem] < index.option_bounds[stem + 1])


@numba.njit(**INNER_KERNEL)
def _has(solid: U32, sought: np.uint64, size: int) -> bool:
    """Whether some letters in a row have a hash."""
    power, value = np.uint64(1), np.uint64(0)
    for _ in range(size):
        power *= GOLDEN
    for at in range(len(solid)):
        value = value * GOLDEN + np.uint64(solid[at])
        if at >= size:
            value -= np.uint64(solid[at - size]) * power
        if value == sought and at >= size - 1:
            return True
    return size == 0


@numba.njit(**INNER_KERNEL)
def _cuts_number(letters: Letters, at: int, begin: int, end: int) -> bool:
    """Whether the letters before and at a place are digits of one number."""
    return begin < at < end and _is_digit(letters[at - 1]) and _is_digit(letters[at])


@numba.njit(**INNER_KERNEL)
def _is_digit(letter: np.uint16) -> bool:
    return bool(codes.DIGIT_0 <= letter <= codes.DIGIT_9)
