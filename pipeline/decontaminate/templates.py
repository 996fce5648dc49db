"""What of an eval item is its own: flags for the words of a task's template, and for words that must not be missing.

    words of probes ─ mark_informative, mark_templates ─ settle_flags ─▶ flags ─ trimmed, stems ─▶ words to search

Template are three words in a row that more than a tenth of the task's items share, and labels at the beginning of lines
("Question:") and one or two words after the options that as many share: they do not count. Informative are words that
few of the items have. Firm are informative words that have a digit, are capitalised inside a sentence, or negate.
"""

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.decontaminate.index import FIRM, INFORMATIVE, SEAM, TEMPLATE
from pipeline.decontaminate.ngrams import all_grams, document_counts, in_group, span_hashes, spans
from pipeline.decontaminate.word_hashes import BREAK, LABEL, NAME, NUMBER, OPTION, Flags, Words, words_of
from pipeline.text.hashing import U64

TEMPLATE_WORDS = 3
TEMPLATE_SHARE = 0.1
TEMPLATE_ITEMS = 5
"""`TEMPLATE_WORDS` words in a row are a template's if more than this share of a task's items has them, and more than
this number of items. An n-gram that more than this number of items have is not used for search."""
COMMON_SHARE = 0.005
COMMON_ITEMS = 3
"""A word is common if at least this share of all probes has it, and at least this number."""
NEGATIONS = (
    "not no never none nor neither nothing nobody without except cannot dont doesnt didnt isnt arent wasnt werent wont "
    "cant couldnt shouldnt wouldnt hasnt havent hadnt"
)
"""Words that reverse the meaning of a question; English."""


def negations() -> U64:
    """The `NEGATIONS` as words."""
    return words_of(pl.Series([NEGATIONS])).words


def mark_informative(probes: Words, flags: Flags) -> None:
    """Set `INFORMATIVE` and `FIRM`."""
    # By sorting, because the table of numpy 2.0 does not take hashes above 2**63.
    flags[~np.isin(probes.words, _common_words(probes), kind="sort")] |= np.uint16(INFORMATIVE)
    firm = (probes.flags & np.uint16(NUMBER | NAME) > 0) | np.isin(probes.words, negations(), kind="sort")
    flags[firm] |= np.uint16(INFORMATIVE | FIRM)


def _common_words(probes: Words) -> U64:
    """Words that many probes have, sorted."""
    place = np.repeat(np.arange(len(probes.bounds) - 1), np.diff(probes.bounds))
    order = np.lexsort((place, probes.words))
    words, place = probes.words[order], place[order]
    first = np.ones(len(words), bool)
    first[1:] = (words[1:] != words[:-1]) | (place[1:] != place[:-1])
    found, counts = np.unique(words[first], return_counts=True)
    return found[counts >= max(COMMON_ITEMS, COMMON_SHARE * (len(probes.bounds) - 1))]


def mark_templates(probes: Words, flags: Flags, groups: NDArray[np.int64]) -> None:
    """Set `TEMPLATE`; `groups`, int64 (p,), numbers the probes that may share a template."""
    limit = template_limit(groups)
    keys, place, at = all_grams(probes.words, spans(probes.bounds), TEMPLATE_WORDS)
    shared = document_counts(in_group(keys, groups[place]), place)
    starts = at[shared > limit[place]]
    for offset in range(TEMPLATE_WORDS):
        flags[starts + offset] |= np.uint16(TEMPLATE)
    _mark_seams(flags, starts)
    labels = np.flatnonzero(probes.flags & LABEL)
    place = np.repeat(np.arange(len(groups)), np.diff(probes.bounds))[labels]
    shared = document_counts(in_group(probes.words[labels], groups[place]), place)
    flags[labels[shared > limit[place]]] |= np.uint16(TEMPLATE)
    _mark_tails(probes, flags, groups, limit)


def _mark_seams(flags: Flags, starts: NDArray[np.int64]) -> None:
    """Set `SEAM` for words that no stretch joins to the template's word before in the line; they begin at `starts`.

    Frequent titles in a row have seams, but a template has few.
    """
    joined = np.zeros(len(flags), bool)
    for offset in range(1, TEMPLATE_WORDS):
        joined[starts + offset] = True
    is_template = flags & np.uint16(TEMPLATE) != 0
    in_line = flags & np.uint16(BREAK) == 0
    seams = np.flatnonzero(is_template[1:] & is_template[:-1] & ~joined[1:] & in_line[1:]) + 1
    flags[seams] |= np.uint16(SEAM)


def _mark_tails(probes: Words, flags: Flags, groups: NDArray[np.int64], limit: NDArray[np.float64]) -> None:
    """Set `TEMPLATE` for the few words after the options, such as "Answer format:", that many of a group end with."""
    options = np.flatnonzero(probes.flags & OPTION)
    begins = np.zeros(len(groups), np.int64)  # of the words after the last option
    np.maximum.at(begins, np.repeat(np.arange(len(groups)), np.diff(probes.bounds))[options], options + 1)
    sizes = probes.bounds[1:] - begins
    short = np.flatnonzero((begins > 0) & (sizes > 0) & (sizes < TEMPLATE_WORDS))
    tails = np.stack([begins[short], probes.bounds[1:][short]], axis=1)
    keys = in_group(span_hashes(probes.words, tails), groups[short])
    shared = document_counts(keys, np.arange(len(short))) > limit[short]
    for begin, end in tails[shared].tolist():
        flags[begin:end] |= np.uint16(TEMPLATE)


def template_limit(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each probe, the number of its group above which what they share is a template's."""
    return np.maximum(TEMPLATE_ITEMS, TEMPLATE_SHARE * np.bincount(groups)[groups])


@numba.njit(cache=True, nogil=True)
def settle_flags(
    bounds: NDArray[np.int64], flags: Flags, shared: NDArray[np.bool_], least_stem: int, least: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Clear `OPTION` where fewer than `least_stem` own words are left, and `TEMPLATE` where fewer than `least` are.

    Where `TEMPLATE` is cleared, `OPTION` stays unless the words without options are `shared`, a template's: they tell
    the probe from others, as the premises of a puzzle do, although short stretches of them are in many probes.

    Returns
    -------
    mostly_template : bool (p,)
        Whether a probe is little more than a template; it is then searched as a whole only.
    listed : bool (p,)
        Whether it has options whose flags are cleared.
    """
    mostly_template = np.zeros(len(bounds) - 1, np.bool_)
    listed = np.zeros(len(bounds) - 1, np.bool_)
    for probe in range(len(mostly_template)):
        begin, end = bounds[probe], bounds[probe + 1]
        own = own_with_options = 0
        for place in range(begin, end):
            if flags[place] & TEMPLATE == 0:
                own_with_options += 1
                own += flags[place] & OPTION == 0
        mostly_template[probe] = own_with_options < least
        if own < least_stem and (shared[probe] or not mostly_template[probe]):
            listed[probe] = own < own_with_options
            _clear(flags, begin, end, OPTION)
        if mostly_template[probe]:
            last = end  # what follows the options, such as "Answer:", stays the template's
            while last > begin and flags[last - 1] & OPTION == 0:
                last -= 1
            _clear(flags, begin, last if last > begin else end, TEMPLATE)
    return mostly_template, listed


@numba.njit(cache=True, nogil=True)
def _clear(flags: Flags, begin: int, end: int, which: int) -> None:
    """Clear a flag of the words from begin to end; numba compiles it sooner than an operation on a slice."""
    for place in range(begin, end):
        flags[place] &= np.uint16(0xFFFF ^ which)


@numba.njit(cache=True, nogil=True)
def trimmed(
    words: U64, flags: Flags, bounds: NDArray[np.int64], lead_words: int
) -> tuple[U64, Flags, NDArray[np.int64], NDArray[np.int64], U64]:
    """Words, flags and bounds of probes without the template's words at their beginning and end; and their leads.

    Returns
    -------
    words, flags, bounds
    begins : int64 (p,)
        Place of the first word that is kept among all.
    leads : uint64 (p, lead_words)
        The words before it, the nearest first, and then 0.
    """
    begins = np.zeros(len(bounds) - 1, np.int64)
    keep = np.zeros(len(words), np.bool_)
    kept = np.zeros(len(bounds), np.int64)
    leads = np.zeros((len(bounds) - 1, lead_words), np.uint64)
    for probe in range(len(bounds) - 1):
        begin, end = _strip(flags, bounds[probe], bounds[probe + 1], TEMPLATE)
        keep[begin:end] = True
        begins[probe] = begin
        kept[probe + 1] = kept[probe] + end - begin
        for place in range(min(lead_words, begin - bounds[probe])):
            leads[probe, place] = words[begin - 1 - place]
    return words[keep], flags[keep], kept, begins, leads


@numba.njit(cache=True, nogil=True)
def stems(bounds: NDArray[np.int64], flags: Flags, least: int) -> NDArray[np.int64]:
    """Begin and end, (p, 2), of each probe without its options and the template around them.

    It is the whole probe where fewer than `least` words are left, or the options are in their middle.
    """
    found = np.empty((len(bounds) - 1, 2), np.int64)
    for probe in range(len(found)):
        begin, end = _strip(flags, bounds[probe], bounds[probe + 1], TEMPLATE | OPTION)
        if end - begin < least or (flags[begin:end] & OPTION).any():
            begin, end = bounds[probe], bounds[probe + 1]
        found[probe, 0], found[probe, 1] = begin, end
    return found


@numba.njit(cache=True, nogil=True)
def _strip(flags: Flags, begin: int, end: int, which: int) -> tuple[int, int]:
    """Bounds of a probe without the words at its beginning and end that have any of some flags, up to a seam."""
    first = begin
    while begin < end and flags[begin] & which and (begin == first or flags[begin] & SEAM == 0):
        begin += 1
    while begin < end and flags[end - 1] & which:
        end -= 1
        if flags[end] & SEAM:
            break
    return begin, end
