"""What of an eval item is its own: flags for the words of a task's template, and for words that must not be missing.

    words of probes ─ mark_informative, mark_templates ─ settle_flags ─▶ flags ─ trimmed, stems ─▶ words to search

Template are three words in a row that more than a tenth of the task's items share, and labels at the beginning of lines
("Question:") and one or two words after the options that as many share: they do not count. Informative are words that
few of the items have. Firm are informative words that have a digit, are capitalised inside a sentence, or negate.
"""

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


def settle_flags(
    bounds: NDArray[np.int64],
    flags: Flags,
    shared: NDArray[np.bool_],
    same: NDArray[np.bool_],
    least_stem: int,
    least: int,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Clear `OPTION` where fewer than `least_stem` own words are left, and `TEMPLATE` where fewer than `least` are.

    `OPTION` is cleared too where the words without options are those of another probe (`same`), which only options tell
    apart.
    Where `TEMPLATE` is cleared, `OPTION` stays unless the words without options are `shared`, a template's: they tell
    the probe from others, as the premises of a puzzle do, although short stretches of them are in many probes.

    Returns
    -------
    mostly_template : bool (p,)
        Whether a probe is little more than a template; it is then searched as a whole only.
    listed : bool (p,)
        Whether it has options whose flags are cleared.
    """
    sizes = np.diff(bounds)
    own_with_options = _count(flags & TEMPLATE == 0, bounds[:-1], bounds[1:])
    own = _count(flags & (TEMPLATE | OPTION) == 0, bounds[:-1], bounds[1:])
    mostly_template = own_with_options < least
    cleared = ((own < least_stem) & (shared | ~mostly_template)) | same
    flags[np.repeat(cleared, sizes)] &= np.uint16(0xFFFF ^ OPTION)
    # What follows the options, such as "Answer:", stays the template's.
    options = np.append(-1, np.flatnonzero(flags & OPTION))
    last = options[np.searchsorted(options, bounds[1:]) - 1] + 1
    until = np.where(last > bounds[:-1], last, bounds[1:])
    own_again = np.repeat(mostly_template, sizes) & (np.arange(len(flags)) < np.repeat(until, sizes))
    flags[own_again] &= np.uint16(0xFFFF ^ TEMPLATE)
    return mostly_template, cleared & (own < own_with_options)


def _count(marks: NDArray[np.bool_], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of marks in each stretch of places."""
    until = np.append(0, np.cumsum(marks))
    return until[ends] - until[begins]


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
    begins, ends = _strip(flags, bounds, TEMPLATE)
    kept = np.append(0, np.cumsum(ends - begins))
    leads = np.zeros((len(begins), lead_words), np.uint64)
    for lead in range(lead_words):
        place = begins - 1 - lead
        has_lead = place >= bounds[:-1]
        leads[has_lead, lead] = words[place[has_lead]]
    places = np.arange(kept[-1]) + np.repeat(begins - kept[:-1], ends - begins)
    return words[places], flags[places], kept, begins, leads


def stems(bounds: NDArray[np.int64], flags: Flags, least: int) -> NDArray[np.int64]:
    """Begin and end, (p, 2), of each probe without its options and the template around them.

    It is the whole probe where fewer than `least` words are left, or the options are in their middle.
    """
    begins, ends = _strip(flags, bounds, TEMPLATE | OPTION)
    whole = (ends - begins < least) | (_count(flags & OPTION > 0, begins, ends) > 0)
    return np.where(whole[:, None], spans(bounds), np.stack([begins, ends], axis=1))


def _strip(flags: Flags, bounds: NDArray[np.int64], which: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of each probe without the words at its beginning and end that have any of some flags, up to a seam."""
    is_kept, is_seam = flags & which == 0, flags & SEAM != 0
    is_seam[bounds[:-1][bounds[:-1] < len(flags)]] = False
    stops = np.concatenate([[-1], np.flatnonzero(is_kept | is_seam), [len(flags)]])
    begins = np.minimum(stops[np.searchsorted(stops, bounds[:-1])], bounds[1:])
    last = stops[np.searchsorted(stops, bounds[1:]) - 1]
    ends = np.where(last >= bounds[:-1], last + np.append(is_kept, False)[last], begins)
    return begins, np.maximum(begins, ends)
