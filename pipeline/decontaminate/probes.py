"""The n-gram index of eval items: what of each item a train record must hold to be contaminated.

    records of eval sources ─▶ probes (questions, solutions) ─▶ template or own words ─▶ n-grams that tell ─▶ Index

A *probe* is a question, or a solution that is long enough to be known without
its question. Its words are

- *template* where they lie in three words in a row that more than a tenth of
  the task's items share, or are such a share's label at a line's beginning
  ("Question:"): they count for nothing;
- *informative* where they stand in few of the items, and *firm* where they have
  a digit, are capitalised inside a sentence, or negate;
- *option* words where they stand behind an option's label.

A template's words at the beginning and end are no part of the probe.

How a probe is looked for follows from how many words of its own it has
(`LONG`, `WHOLE`, `EXACT`). Every probe enters the index by n-grams that few of
the task's items share, so that a template leads to no candidates.
"""

import json

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.decontaminate.index import EXACT, FIRM, INFORMATIVE, LONG, TEMPLATE, UNTOLD, WHOLE, Index
from pipeline.decontaminate.scan import scan
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.words import LABEL, NAME, NUMBER, OPTION, U64, Words, gram, powers, prefixes, words_of

TEMPLATE_SHARE = 0.1
TEMPLATE_ITEMS = 5
"""Three words in a row are a template's if more than so large a share of a task's items has them, and more than so
many items; an n-gram that more items than that have is none to look for."""
COMMON_SHARE = 0.005
COMMON_ITEMS = 3
"""A word is common if at least so large a share of all items has it, and at least so many."""
NEGATIONS = (
    "not no never none nor neither nothing nobody without except cannot dont doesnt didnt isnt arent wasnt werent wont "
    "cant couldnt shouldnt wouldnt hasnt havent hadnt"
)
"""Words without which a question is another; English."""
LEAD = 4
"""Words of the n-grams by which `WHOLE` probes are found, and least words of a stem before options."""
ANSWER_WORDS, ANSWER_END = 8, 3
"""A longer reference answer is known by its last number, if that is among so many last words."""
RATIONALES = ("rationale", "chain_of_thought", "explanation", "solution", "canonical_solution", "reasoning", "cot")
"""Fields of a row's `meta` that may hold a worked solution."""
SLOTS, BITS = 2, 16
"""Slots of the table, and bits of the sieve, for each n-gram, at least."""


def build_index(items: pl.DataFrame, spec: DecontaminateSpec) -> tuple[Index, pl.Series]:
    """Index eval items.

    Parameters
    ----------
    items
        String columns `source`, `task`, `instruction`, `response` (empty for a prompt without reference) and `meta`.
    spec
        The manifest's rules.

    Returns
    -------
    index : Index
    told : polars.Series
        Boolean (i,): whether an item has a probe that can be looked for.
    """
    solutions, owner = _solutions(items)
    probes = words_of(pl.concat([items["instruction"], solutions]))
    questions = len(items)
    item = np.concatenate([np.arange(questions), owner]).astype(np.int32)
    solution = np.arange(len(item)) >= questions
    groups = items.select(pl.struct("source", "task").rank("dense")).to_series().to_numpy().astype(np.int64)[item]
    groups = 2 * groups + solution  # questions and solutions of one task have templates of their own
    flags = probes.flags.copy()
    _mark_informative(probes, flags, _common_words(probes))
    _mark_templates(probes, flags, groups)
    few = _settle_flags(probes.bounds, flags, LEAD, spec.min_words)
    words, flags, bounds = _trimmed(probes.words, flags, probes.bounds)
    answers, answer_bounds = _answers(items["response"])
    telling = _telling(answers, answer_bounds, groups[:questions])
    sizes = np.diff(bounds)
    stems = _stems(bounds, flags, LEAD)
    stem_sizes = stems[:, 1] - stems[:, 0]
    mode = np.full(len(item), LONG, np.uint8)
    mode[~solution & (stem_sizes < spec.n)] = WHOLE
    mode[~solution & (sizes < spec.min_words)] = EXACT
    mode[solution & (np.diff(probes.bounds) < spec.min_solution_words) | (solution & (sizes < spec.n))] = UNTOLD
    # What words cannot tell apart, such as rows of brackets in one template, cannot be looked for.
    whole = _span_hashes(words, spans(bounds))
    mode[_document_counts(_in_group(whole, groups), np.arange(len(groups))) > TEMPLATE_ITEMS] = UNTOLD
    has_answer = np.diff(answer_bounds)[item] > 0
    mode[(mode == EXACT) & (~has_answer | (sizes == 0))] = UNTOLD
    need = np.where(few, 1.0, spec.coverage)
    long_grams, long_probes = _long_entries(words, bounds, mode, few, groups, spec.n)
    short_grams, short_probes, anchors = _short_entries(words, stems, mode, LEAD)
    grams, probe = _unique_entries(np.append(long_grams, short_grams), np.append(long_probes, short_probes))
    table, first, following, sieve = table_of(grams)
    index = Index(
        words=words,
        flags=flags,
        bounds=bounds,
        stems=stems,
        anchors=anchors,
        mode=mode,
        solution=solution,
        need=need,
        item=item,
        answers=answers,
        answer_bounds=answer_bounds,
        telling=telling,
        table=table,
        first=first,
        entry_probe=probe,
        entry_next=following,
        sieve=sieve,
        sizes=np.array([LEAD, spec.n, spec.min_words]),
    ).read_only()
    index = index._replace(need=_need_among_siblings(index, items, groups)).read_only()
    told = np.zeros(questions, bool)
    told[item[mode != UNTOLD]] = True
    return index, pl.Series("told", told)


def _need_among_siblings(index: Index, items: pl.DataFrame, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """`index.need`, raised where another item of the same task covers a probe almost: more than that is needed."""
    need = index.need.copy()
    hits = scan(words_of(items["instruction"], items["response"]), index)
    item = index.item[hits.probe]
    almost = (hits.row != item) & (groups[hits.row] == groups[item]) & (hits.coverage < 1.0)
    np.maximum.at(need, hits.probe[almost], (1.0 + hits.coverage[almost]) / 2)
    return need


def _solutions(items: pl.DataFrame) -> tuple[pl.Series, NDArray[np.int64]]:
    """Texts that may be worked solutions, and the item of each: the responses, and known fields of `meta`."""
    texts = [items["response"]]
    owners = [np.arange(len(items))]
    rows = items["meta"].fill_null("").str.contains("|".join(f'"{name}"' for name in RATIONALES)).arg_true()
    found, places = [], []
    for row, meta in zip(rows, items["meta"].gather(rows), strict=True):
        fields = json.loads(meta)
        for value in (fields.get(name) for name in RATIONALES):
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, str):
                found.append(value)
                places.append(row)
    if found:
        texts.append(pl.Series(found, dtype=pl.String))
        owners.append(np.array(places))
    return pl.concat(texts), np.concatenate(owners)


def _answers(responses: pl.Series) -> tuple[U64, NDArray[np.int64]]:
    """Words by which each answer is known: all of a short one, a number at the end of a long one, else none."""
    found = words_of(responses)
    parts, sizes = [np.empty(0, np.uint64)], np.zeros(len(responses) + 1, np.int64)
    for place, (begin, end) in enumerate(zip(found.bounds[:-1].tolist(), found.bounds[1:].tolist(), strict=True)):
        if end - begin > ANSWER_WORDS:
            begin = end - ANSWER_END
            numbers = np.flatnonzero(found.flags[begin:end] & NUMBER)
            begin, end = (begin + int(numbers[-1]), begin + int(numbers[-1]) + 1) if len(numbers) else (end, end)
        parts.append(found.words[begin:end])
        sizes[place + 1] = end - begin
    return np.concatenate(parts), np.cumsum(sizes)


def _telling(answers: U64, bounds: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    keys = _span_hashes(answers, spans(bounds))
    shared = _document_counts(_in_group(keys, groups), np.arange(len(groups)))
    return shared <= _least_shared(groups)


@numba.njit(cache=True, nogil=True)
def _settle_flags(
    bounds: NDArray[np.int64], flags: NDArray[np.uint8], least_stem: int, least: int
) -> NDArray[np.bool_]:
    """Let options count like a question that is short without them, and templates where there is little else.

    Returns which probes are little else than template: those are themselves only as a whole.
    """
    few = np.zeros(len(bounds) - 1, np.bool_)
    for probe in range(len(few)):
        mine = flags[bounds[probe] : bounds[probe + 1]]
        own = own_with_options = 0
        for flag in mine:
            if flag & TEMPLATE == 0:
                own_with_options += 1
                own += flag & OPTION == 0
        if own < least_stem:
            mine &= np.uint8(0xFF ^ OPTION)
        if own_with_options < least:
            mine &= np.uint8(0xFF ^ TEMPLATE)
            few[probe] = True
    return few


@numba.njit(cache=True, nogil=True)
def _trimmed(
    words: U64, flags: NDArray[np.uint8], bounds: NDArray[np.int64]
) -> tuple[U64, NDArray[np.uint8], NDArray[np.int64]]:
    """Probes without the template's words at their beginning and end."""
    keep = np.zeros(len(words), np.bool_)
    trimmed = np.zeros(len(bounds), np.int64)
    for probe in range(len(bounds) - 1):
        begin, end = bounds[probe], bounds[probe + 1]
        while begin < end and flags[begin] & TEMPLATE:
            begin += 1
        while begin < end and flags[end - 1] & TEMPLATE:
            end -= 1
        keep[begin:end] = True
        trimmed[probe + 1] = trimmed[probe] + end - begin
    return words[keep], flags[keep], trimmed


@numba.njit(cache=True, nogil=True)
def _stems(bounds: NDArray[np.int64], flags: NDArray[np.uint8], least: int) -> NDArray[np.int64]:
    """The words of each probe without its options and the template around them; all of it where that is too little, or
    not one stretch."""
    stems = np.empty((len(bounds) - 1, 2), np.int64)
    for probe in range(len(stems)):
        begin, end = bounds[probe], bounds[probe + 1]
        stems[probe, 0], stems[probe, 1] = begin, end
        while begin < end and flags[begin] & (TEMPLATE | OPTION):
            begin += 1
        while begin < end and flags[end - 1] & (TEMPLATE | OPTION):
            end -= 1
        inside = flags[begin:end]
        if end - begin >= least and not (inside & OPTION).any():
            stems[probe, 0], stems[probe, 1] = begin, end
    return stems


def _common_words(probes: Words) -> U64:
    """Words that many probes have, sorted."""
    place = np.repeat(np.arange(len(probes.bounds) - 1), np.diff(probes.bounds))
    order = np.lexsort((place, probes.words))
    words, place = probes.words[order], place[order]
    fresh = np.ones(len(words), bool)
    fresh[1:] = (words[1:] != words[:-1]) | (place[1:] != place[:-1])
    found, counts = np.unique(words[fresh], return_counts=True)
    return found[counts >= max(COMMON_ITEMS, COMMON_SHARE * (len(probes.bounds) - 1))]


def _mark_informative(probes: Words, flags: NDArray[np.uint8], common: U64) -> None:
    negations = words_of(pl.Series([NEGATIONS])).words
    flags[~np.isin(probes.words, common)] |= np.uint8(INFORMATIVE)
    firm = (probes.flags & np.uint8(NUMBER | NAME) > 0) | np.isin(probes.words, negations)
    flags[firm] |= np.uint8(INFORMATIVE | FIRM)


def _mark_templates(probes: Words, flags: NDArray[np.uint8], groups: NDArray[np.int64]) -> None:
    size = 3
    keys, place, at = all_grams(probes.words, spans(probes.bounds), size)
    shared = _document_counts(_in_group(keys, groups[place]), place)
    least = _least_shared(groups)
    starts = at[shared > least[place]]
    for offset in range(size):
        flags[starts + offset] |= np.uint8(TEMPLATE)
    labels = np.flatnonzero(probes.flags & LABEL)
    place = np.repeat(np.arange(len(groups)), np.diff(probes.bounds))[labels]
    shared = _document_counts(_in_group(probes.words[labels], groups[place]), place)
    flags[labels[shared > least[place]]] |= np.uint8(TEMPLATE)


def _least_shared(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each text, how many of its group must share something for it to be a template's, less one."""
    return np.maximum(TEMPLATE_ITEMS, TEMPLATE_SHARE * np.bincount(groups)[groups])


def _in_group(keys: U64, groups: NDArray[np.int64]) -> U64:
    return keys ^ groups.astype(np.uint64) * np.uint64(0x9FB21C651E98DF25)


@numba.njit(cache=True, nogil=True)
def _span_hashes(words: U64, within: NDArray[np.int64]) -> U64:
    """Hash of all words of each span."""
    prefix = prefixes(words)
    most = 0
    for begin, end in within:
        most = max(most, end - begin)
    power = powers(most)
    hashes = np.empty(len(within), np.uint64)
    for span in range(len(within)):
        size = within[span, 1] - within[span, 0]
        hashes[span] = gram(prefix, within[span, 0], size, power[size])
    return hashes


def spans(bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Begin and end of each text, (t, 2), from the bounds between texts, (t + 1,)."""
    return np.stack([bounds[:-1], bounds[1:]], axis=1)


@numba.njit(cache=True, nogil=True)
def all_grams(words: U64, within: NDArray[np.int64], size: int) -> tuple[U64, NDArray[np.int64], NDArray[np.int64]]:
    """Hash, text and place of every stretch of `size` words in the span (begin, end) of each text."""
    count = 0
    for begin, end in within:
        count += max(0, end - begin - size + 1)
    keys, texts, at = np.empty(count, np.uint64), np.empty(count, np.int64), np.empty(count, np.int64)
    prefix, power = prefixes(words), powers(size)[size]
    count = 0
    for text in range(len(within)):
        for place in range(within[text, 0], within[text, 1] - size + 1):
            keys[count], texts[count], at[count] = gram(prefix, place, size, power), text, place
            count += 1
    return keys, texts, at


def _document_counts(keys: U64, texts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each entry, in how many texts its key is found."""
    order = np.lexsort((texts, keys))
    sorted_keys, sorted_texts = keys[order], texts[order]
    new_key = np.ones(len(keys), bool)
    new_key[1:] = sorted_keys[1:] != sorted_keys[:-1]
    fresh = new_key.copy()
    fresh[1:] |= sorted_texts[1:] != sorted_texts[:-1]
    group = np.cumsum(new_key) - 1
    counts = np.bincount(group, weights=fresh).astype(np.int64) if len(keys) else np.zeros(0, np.int64)
    found = np.empty(len(keys), np.int64)
    found[order] = counts[group]
    return found


def _long_entries(
    words: U64,
    bounds: NDArray[np.int64],
    mode: NDArray[np.uint8],
    few: NDArray[np.bool_],
    groups: NDArray[np.int64],
    n: int,
) -> tuple[U64, NDArray[np.int64]]:
    """N-grams by which `LONG` probes are found, and their probes."""
    keys, probe, _ = all_grams(words, spans(bounds), n)
    in_long = mode[probe] == LONG
    keys, probe = keys[in_long], probe[in_long]
    counts = _document_counts(_in_group(keys, groups[probe]), probe)
    least = np.full(len(mode), np.iinfo(np.int64).max)
    np.minimum.at(least, probe, counts)
    # What has no words of its own, or none that few items share, is found by its rarest n-gram and compared as a whole.
    rarest = np.zeros(len(keys), bool)
    candidates = np.flatnonzero(counts == least[probe])
    _, chosen = np.unique(probe[candidates], return_index=True)
    rarest[candidates[chosen]] = True
    telling = (counts <= TEMPLATE_ITEMS) & ~few[probe]
    taken = telling | (rarest & (few | (least > TEMPLATE_ITEMS))[probe])
    return keys[taken], probe[taken]


def _short_entries(
    words: U64, stems: NDArray[np.int64], mode: NDArray[np.uint8], size: int
) -> tuple[U64, NDArray[np.int64], NDArray[np.int64]]:
    """For each `WHOLE` probe the rarest n-gram of `size` words in its stem, for each `EXACT` one its whole stem; their
    probes; and the anchors of all probes."""
    keys, probe, at = all_grams(words, stems, size)
    whole = mode[probe] == WHOLE
    keys, probe, at = keys[whole], probe[whole], at[whole]
    order = np.lexsort((at, _document_counts(keys, probe), probe))
    _, first = np.unique(probe[order], return_index=True)
    rarest = order[first]
    anchors = np.zeros(len(mode), np.int64)
    anchors[probe[rarest]] = at[rarest] - stems[probe[rarest], 0]
    exact = np.flatnonzero(mode == EXACT)
    return np.append(keys[rarest], _span_hashes(words, stems[exact])), np.append(probe[rarest], exact), anchors


def _unique_entries(grams: U64, probes: NDArray[np.int64]) -> tuple[U64, NDArray[np.int32]]:
    order = np.lexsort((probes, grams))
    grams, probes = grams[order], probes[order]
    fresh = np.ones(len(grams), bool)
    fresh[1:] = (grams[1:] != grams[:-1]) | (probes[1:] != probes[:-1])
    return grams[fresh], probes[fresh].astype(np.int32)


@numba.njit(cache=True, nogil=True)
def table_of(grams: U64) -> tuple[U64, NDArray[np.int32], NDArray[np.int32], U64]:
    """The table, first entries, chains and sieve of entries sorted by n-gram."""
    slots = 1024
    while slots < SLOTS * len(grams):
        slots *= 2
    table, first = np.zeros(slots, np.uint64), np.full(slots, -1, np.int32)
    following = np.full(len(grams), -1, np.int32)
    sieve = np.zeros(slots * (BITS // SLOTS) // 64, np.uint64)
    mask = np.uint64(slots - 1)
    for entry in range(len(grams)):
        key = grams[entry]
        if entry and grams[entry - 1] == key:
            following[entry - 1] = entry
            continue
        slot = (key >> np.uint64(20)) & mask
        while table[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot], first[slot] = key, entry
        bit = key & np.uint64(64 * len(sieve) - 1)
        sieve[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    return table, first, following, sieve
