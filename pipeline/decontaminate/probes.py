"""Probes: what a train record must contain to be contaminated by an eval item.

    items of eval sources ─▶ probes (questions, solutions) ─ flags, stems, modes ─▶ entries (n-gram, probe) ─▶ Index

A probe is a question, or a solution long enough to be recognised without its question, less the template's words at its
beginning and end (`pipeline.decontaminate.templates`). How it is searched (`LONG`, `WHOLE`, `EXACT`) follows from its
number of own words. Every probe enters the index by n-grams that few of the task's items share, so that templates cause
no candidates.
"""

import json

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.decontaminate.changed import MAX_CHANGES, WORDS_PER_CHANGE
from pipeline.decontaminate.contains import DISTINCTIVE_WORDS
from pipeline.decontaminate.gram_table import build_gram_table
from pipeline.decontaminate.index import EXACT, LONG, TEMPLATE, UNSEARCHABLE, WHOLE, Index
from pipeline.decontaminate.letters import LED, SHORT, SUFFICIENT, letter_index
from pipeline.decontaminate.ngrams import all_grams, document_counts, in_group, prefixes, span_hashes, spans
from pipeline.decontaminate.scan import scan
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.templates import (
    TEMPLATE_ITEMS,
    mark_informative,
    mark_templates,
    negations,
    settle_flags,
    stems,
    template_limit,
    trimmed,
)
from pipeline.decontaminate.word_hashes import BREAK, NUMBER, OPTION, U8, Flags, words_of
from pipeline.text.hashing import U64

STEM_WORDS = 4
"""Words of the n-grams by which `WHOLE` probes are found, and least words of a stem before options."""
ANSWER_WORDS, ANSWER_END = 8, 3
"""A reference answer of more than `ANSWER_WORDS` words is represented by its last number, if that is among its last
`ANSWER_END` words."""
RATIONALES = ("rationale", "chain_of_thought", "explanation", "solution", "canonical_solution", "reasoning", "cot")
"""Fields of a row's `meta` that may hold a worked solution."""


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
    searchable : polars.Series
        Boolean (i,): whether an item has a probe that can be searched.
    """
    solutions, owner = _solutions(items)
    probes = words_of(pl.concat([items["instruction"], solutions]))
    questions = len(items)
    item = np.concatenate([np.arange(questions), owner]).astype(np.int32)
    solution = np.arange(len(item)) >= questions
    tasks = items.select(pl.struct("source", "task").rank("dense")).to_series().to_numpy().astype(np.int64)[item]
    groups = 2 * tasks + solution  # the questions of a task have one template, its solutions another
    flags = probes.flags.copy()
    mark_informative(probes, flags)
    mark_templates(probes, flags, groups)
    shared = _shared_stems(probes.words, flags, probes.bounds, groups, spec.n)
    same = _same_stems(probes.words, flags, probes.bounds, groups)
    mostly_template, listed = settle_flags(probes.bounds, flags, shared, same, STEM_WORDS, spec.min_words)
    words, flags, bounds, begins, leads = trimmed(probes.words, flags, probes.bounds, DISTINCTIVE_WORDS - STEM_WORDS)
    stem = stems(bounds, flags, STEM_WORDS)
    own_until = np.append(0, np.cumsum(flags & np.uint16(TEMPLATE) == 0))
    own = own_until[stem[:, 1]] - own_until[stem[:, 0]]
    answers, answer_bounds = _answers(items["response"])

    sizes, stem_sizes = np.diff(bounds), stem[:, 1] - stem[:, 0]
    short_solution = (np.diff(probes.bounds) < spec.min_solution_words) | (sizes < spec.n)
    mode = np.full(len(item), LONG, np.uint8)
    mode[~solution & (stem_sizes < spec.n)] = WHOLE
    mode[~solution & (sizes < spec.min_words)] = EXACT
    mode[solution & short_solution] = UNSEARCHABLE
    # Probes that only punctuation tells apart, such as rows of brackets, have the same words.
    mode[_group_counts(span_hashes(words, spans(bounds)), groups) > TEMPLATE_ITEMS] = UNSEARCHABLE
    has_answer = np.diff(answer_bounds)[item] > 0
    mode[(mode == EXACT) & (~has_answer | (sizes == 0))] = UNSEARCHABLE

    long_grams, long_probes = _long_entries(words, bounds, stem, mode, mostly_template, groups, spec.n)
    # One more than may be changed is left as it is, and two more have one in each half.
    pieces = np.minimum(MAX_CHANGES, own // WORDS_PER_CHANGE) + 2
    pieces[(mode != LONG) | solution | mostly_template] = 0
    short = _short_entries(words, stem, mode), _piece_entries(words, flags, bounds, stem, pieces)
    grams, probe, at = _unique_entries((long_grams, long_probes, np.zeros(len(long_grams), np.int64)), *short)
    searched = ~solution & (stem_sizes >= STEM_WORDS) & (mode != EXACT) & (mode != UNSEARCHABLE)
    letter_stems, letter_probes, kinds = _letter_stems(np.flatnonzero(searched), stem, bounds, leads, spec.min_words)
    cut = begins - bounds[:-1]  # words of each probe's beginning, and of all before it, that are not kept
    options, option_probes = _option_spans(flags, bounds)
    table, first, following, sieve = build_gram_table(grams)
    index = Index(
        words=words,
        prefix=prefixes(words),
        flags=flags,
        bounds=bounds,
        stems=stem,
        leads=leads,
        listed=listed,
        own=own,
        mode=mode,
        solution=solution,
        need=np.where(mostly_template, 1.0, spec.coverage),
        item=item,
        answers=answers,
        answer_bounds=answer_bounds,
        distinctive=_distinctive(answers, answer_bounds, groups[:questions]),
        table=table,
        first=first,
        entry_probe=probe,
        entry_at=at,
        entry_next=following,
        sieve=sieve,
        negations=negations(),
        letters=letter_index(
            probes,
            letter_stems + cut[letter_probes, None],
            letter_probes,
            kinds,
            options + cut[option_probes, None],
            option_probes,
            TEMPLATE_ITEMS,
        ),
        sizes=np.array([STEM_WORDS, spec.n, spec.min_words]),
    ).read_only()
    index = index._replace(need=_need_among_siblings(index, items, groups)).read_only()
    searchable = np.zeros(questions, bool)
    searchable[item[mode != UNSEARCHABLE]] = True
    return index, pl.Series("searchable", searchable)


def _need_among_siblings(index: Index, items: pl.DataFrame, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """`index.need`, raised for probes that another item of the same task almost covers: more than that is needed."""
    need = index.need.copy()
    hits = scan(words_of(items["instruction"], items["response"]), index)
    item = index.item[hits.probe]
    almost = (hits.row != item) & (groups[hits.row] == groups[item]) & (hits.coverage < 1.0)
    np.maximum.at(need, hits.probe[almost], (1.0 + hits.coverage[almost]) / 2)
    return need


def _solutions(items: pl.DataFrame) -> tuple[pl.Series, NDArray[np.int64]]:
    """Texts that may be worked solutions, and the item of each: the responses, and the `RATIONALES` of `meta`."""
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
    """Words that represent each answer: all of a short one, a number at the end of a long one, else none."""
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


def _distinctive(answers: U64, bounds: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether few items of its group have an item's answer."""
    return _group_counts(span_hashes(answers, spans(bounds)), groups) <= template_limit(groups)


def _shared_stems(
    words: U64, flags: Flags, bounds: NDArray[np.int64], groups: NDArray[np.int64], n: int
) -> NDArray[np.bool_]:
    """Whether each n-gram of the words of a probe that are not in options is a template's, or there is none."""
    kept = flags & np.uint16(OPTION) == 0
    kept_bounds = np.append(0, np.cumsum(kept))[bounds]
    keys, probe, _ = all_grams(words[kept], spans(kept_bounds), n)
    counts = document_counts(in_group(keys, groups[probe]), probe)
    shared = np.ones(len(groups), bool)
    shared[probe[counts <= template_limit(groups)[probe]]] = False
    return shared


def _same_stems(words: U64, flags: Flags, bounds: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether another probe of the group has the same own words before its options, and differs in others.

    Such are questions about one passage that are the template's, as "Which of the following must be true?". Fewer than
    `DISTINCTIVE_WORDS` own words, or more of the template's than own ones, are no passage.
    """
    kept = flags & np.uint16(OPTION | TEMPLATE) == 0
    own, before = (np.append(0, np.cumsum(which))[bounds] for which in (kept, flags & np.uint16(OPTION) == 0))
    stem = in_group(span_hashes(words[kept], spans(own)), groups)
    texts = np.unique(np.stack([stem, span_hashes(words, spans(bounds))], axis=1), axis=0)
    found, number = np.unique(texts[:, 0], return_counts=True)
    is_passage = (np.diff(own) >= DISTINCTIVE_WORDS) & (2 * np.diff(own) >= np.diff(before))
    return is_passage & (number[np.searchsorted(found, stem)] > 1)


def _letter_stems(
    probes: NDArray[np.int64], stem: NDArray[np.int64], bounds: NDArray[np.int64], leads: U64, min_words: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], U8]:
    """Begin and end (s, 2) of the words that are searched by their letters, their probes, and `LetterIndex.kinds`."""
    stems = stem[probes]
    sizes = stems[:, 1] - stems[:, 0]
    missing = DISTINCTIVE_WORDS - sizes
    kinds = np.where(missing > 0, SHORT, SUFFICIENT)
    led = (missing > 0) & (sizes >= min_words) & (stems[:, 0] == bounds[probes])
    led &= np.count_nonzero(leads[probes], axis=1) >= missing
    longer = stems[led] - missing[led, None] * [1, 0]
    return (
        np.concatenate([stems, longer]),
        np.append(probes, probes[led]),
        np.append(kinds, np.full(len(longer), LED)).astype(np.uint8),
    )


def _option_spans(flags: Flags, bounds: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Begin and end of each option among the words of all probes, (o, 2), and its probe, (o,)."""
    probe = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    is_option = flags & np.uint16(OPTION) != 0
    others = np.diff(probe, prepend=-1) != 0
    begins = is_option & (np.append(True, ~is_option[:-1])[: len(flags)] | others | (flags & np.uint16(BREAK) != 0))
    first = np.flatnonzero(begins)
    edges = np.append(np.flatnonzero(begins | ~is_option | others), len(flags))
    return np.stack([first, edges[np.searchsorted(edges, first, side="right")]], axis=1), probe[first]


def _group_counts(keys: U64, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each text, how many of its group have the same key."""
    return document_counts(in_group(keys, groups), np.arange(len(groups)))


def _long_entries(
    words: U64,
    bounds: NDArray[np.int64],
    stem: NDArray[np.int64],
    mode: U8,
    mostly_template: NDArray[np.bool_],
    groups: NDArray[np.int64],
    n: int,
) -> tuple[U64, NDArray[np.int64]]:
    """N-grams by which `LONG` probes are found, and their probes."""
    keys, probe, at = all_grams(words, spans(bounds), n)
    is_long = mode[probe] == LONG
    keys, probe, at = keys[is_long], probe[is_long], at[is_long]
    counts = document_counts(in_group(keys, groups[probe]), probe)
    # A probe whose stem has no distinctive n-gram is found by the rarest of the stem, since its options may be absent,
    # and then compared as a whole.
    in_stem = (at >= stem[probe, 0]) & (at + n <= stem[probe, 1])
    least = np.full(len(mode), np.iinfo(np.int64).max)
    np.minimum.at(least, probe[in_stem], counts[in_stem])
    rarest = np.zeros(len(keys), bool)
    candidates = np.flatnonzero(in_stem & (counts == least[probe]))
    _, chosen = np.unique(probe[candidates], return_index=True)
    rarest[candidates[chosen]] = True
    distinctive = (counts <= TEMPLATE_ITEMS) & ~mostly_template[probe]
    taken = distinctive | (rarest & (mostly_template | (least > TEMPLATE_ITEMS))[probe])
    return keys[taken], probe[taken]


Entries = tuple[U64, NDArray[np.int64], NDArray[np.int64]]
"""N-grams, their probes, and their offsets in these."""


def _short_entries(words: U64, stem: NDArray[np.int64], mode: U8) -> Entries:
    """For each `WHOLE` probe the rarest n-gram in its stem, for each `EXACT` one its whole stem."""
    keys, probe, at = all_grams(words, stem, STEM_WORDS)
    whole = mode[probe] == WHOLE
    keys, probe, at = keys[whole], probe[whole], at[whole]
    order = np.lexsort((at, document_counts(keys, probe), probe))
    _, first = np.unique(probe[order], return_index=True)
    rarest = order[first]
    exact = np.flatnonzero(mode == EXACT)
    return (
        np.append(keys[rarest], span_hashes(words, stem[exact])),
        np.append(probe[rarest], exact),
        np.append(at[rarest] - stem[probe[rarest], 0], np.zeros(len(exact), np.int64)),
    )


def _piece_entries(
    words: U64, flags: Flags, bounds: NDArray[np.int64], stem: NDArray[np.int64], pieces: NDArray[np.int64]
) -> Entries:
    """The rarest n-gram in each of some equal pieces of a stem, in one line if possible.

    Changed words leave one of the pieces as it is. Pieces of which many other stems have each n-gram are left out.
    """
    keys, probe, at = all_grams(words, stem, STEM_WORDS)
    _, text = np.unique(span_hashes(words, stem), return_inverse=True)  # an item may be in several sets
    counts = document_counts(keys, text[probe])
    sizes = stem[:, 1] - stem[:, 0]
    number = np.maximum(pieces, 1)[probe]
    place = at - stem[probe, 0]
    piece = place * number // np.maximum(sizes[probe], 1)
    breaks = np.append(0, np.cumsum(flags & np.uint16(BREAK) != 0))
    broken = breaks[at + STEM_WORDS] > breaks[at + 1]
    inside = (place + STEM_WORDS - 1) * number // np.maximum(sizes[probe], 1) == piece
    chosen = np.flatnonzero(inside & (pieces[probe] > 0) & (counts <= TEMPLATE_ITEMS))
    order = chosen[np.lexsort((at[chosen], counts[chosen], broken[chosen], piece[chosen], probe[chosen]))]
    first = np.ones(len(order), bool)
    first[1:] = (probe[order][1:] != probe[order][:-1]) | (piece[order][1:] != piece[order][:-1])
    rarest = order[first]
    return keys[rarest], probe[rarest], at[rarest] - bounds[probe[rarest]]


def _unique_entries(*entries: Entries) -> tuple[U64, NDArray[np.int32], NDArray[np.int32]]:
    """Entries sorted by n-gram and probe, each pair of these once."""
    grams, probes, at = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    order = np.lexsort((at, probes, grams))
    grams, probes, at = grams[order], probes[order], at[order]
    first = np.ones(len(grams), bool)
    first[1:] = (grams[1:] != grams[:-1]) | (probes[1:] != probes[:-1])
    return grams[first], probes[first].astype(np.int32), at[first].astype(np.int32)
