"""The n-gram index of eval items: what of each item a train record must hold to be contaminated.

    records of eval sources ─▶ probes (questions, solutions) ─▶ template or own words ─▶ n-grams that tell ─▶ Index

A *probe* is a question, or a solution that is long enough to be known without
its question. Its words are

- *template* where they lie in three words in a row that more than a tenth of
  the task's items share: they count for nothing;
- *informative* where they have a digit, are capitalised inside a sentence, or
  stand in few of the items: none of these may be missing in a record;
- *option* words where they stand behind an option's label.

A template's words at the beginning and end are no part of the probe.

How a probe is looked for follows from how many words of its own it has
(`LONG`, `WHOLE`, `EXACT`). Every probe enters the index by n-grams that few of
the task's items share, so that a template leads to no candidates.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.decontaminate.words import NAME, NUMBER, OPTION, U64, Words, gram, powers, prefixes, words_of
from pipeline.drops import DropKey, live_batches
from pipeline.progress import report
from pipeline.step import Step, folder

LONG, WHOLE, EXACT, UNTOLD = range(4)
"""By its n-grams and the share of its own words that they cover; as one stretch of words; as a record's whole
instruction; not at all, because it is too short."""

TEMPLATE, INFORMATIVE = 16, 32
"""Further flags of a word, beside those of `pipeline.decontaminate.words`."""

TEMPLATE_SHARE = 0.1
TEMPLATE_ITEMS = 5
"""Three words in a row are a template's if more than so large a share of a task's items has them, and more than so
many items; an n-gram that more items than that have is none to look for."""
COMMON_SHARE = 0.005
COMMON_ITEMS = 3
"""A word is common if at least so large a share of all items has it, and at least so many."""
ANSWER_WORDS = 8
"""A longer reference answer is known by its last number."""
SHARD_BYTES = 16 * 2**20
"""Text of the eval items in one index; an index takes about twenty times its text in memory."""
RATIONALES = ("rationale", "chain_of_thought", "explanation", "solution", "canonical_solution", "reasoning", "cot")
"""Fields of a row's `meta` that may hold a worked solution."""
FILL = 4
"""Slots of the table of n-grams for each n-gram, at least."""


class Index(NamedTuple):
    """Arrays over p probes, i items, w words and e entries (n-gram, probe), read only; kernels take it as it is."""

    words: U64
    flags: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    """(p + 1,): words of each probe."""
    mode: NDArray[np.uint8]
    """(p,): `LONG`, `WHOLE`, `EXACT` or `UNTOLD`."""
    solution: NDArray[np.bool_]
    """(p,): a solution rather than a question."""
    need: NDArray[np.float64]
    """(p,): least coverage."""
    item: NDArray[np.int32]
    """(p,): the item that a probe belongs to."""
    answers: U64
    """Words of the items' answers."""
    answer_bounds: NDArray[np.int64]
    """(i + 1,): an item without a known answer has no words."""
    table: U64
    """Open addressing by n-gram, 0 for an empty slot."""
    first: NDArray[np.int32]
    """For each slot of `table`, its first entry."""
    entry_probe: NDArray[np.int32]
    """(e,): the probe of an entry."""
    entry_next: NDArray[np.int32]
    """(e,): the next entry of the same n-gram, -1 after the last."""
    sieve: U64
    """Bits by n-gram: most that are not in the index are told by one bit."""
    lengths: NDArray[np.int64]
    """Lengths in words of the n-grams in the index."""
    n: NDArray[np.int64]
    """(1,): the spec's n."""

    def save(self, out: Path) -> None:
        """Write one `.npy` file for each array."""
        for name, array in self._asdict().items():
            np.save(out / f"{name}.npy", array)

    @classmethod
    def load(cls, place: Path) -> "Index":
        """Map what `save` wrote."""
        return cls._make(np.load(place / f"{name}.npy", mmap_mode="r") for name in cls._fields).read_only()

    def read_only(self) -> "Index":
        """The same arrays as views of one type, mapped or not, so that kernels are compiled once."""
        views = [array.view(np.ndarray) for array in self]
        for view in views:
            view.flags.writeable = False
        return Index._make(views)


ITEMS = pa.schema(
    [
        ("source", pa.string()),
        ("task", pa.string()),
        ("row_id", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
        ("told", pa.bool_()),
    ]
)
"""items.arrow beside an index: its items in order; `told` is whether any of an item's probes can be looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildIndex(Step):
    """Index the items of some eval sources, in one or several shards of bounded size."""

    stage: ClassVar[str] = "decontaminate-index"

    sources: tuple[tuple[tuple[tuple[int, str], ...], tuple[DropKey, ...]], ...]
    """For each eval source: number of each partition and the key of its `Ingest`; steps that dropped records of it."""
    spec: dict[str, Any]
    """The manifest's `DecontaminateSpec`."""

    @property
    def partition(self) -> str:
        return "all eval sources"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        spec = DecontaminateSpec.model_validate(self.spec)
        shards = 0
        for frame in self._shards(work):
            place = out / f"shard-{shards:05}"
            place.mkdir()
            index, told = build_index(frame, spec)
            index.save(place)
            items = frame.select(ITEMS.names[:-1]).with_columns(told=told).to_arrow().cast(ITEMS)
            with pa.OSFile(str(place / "items.arrow"), "wb") as sink, pa.ipc.new_file(sink, ITEMS) as writer:
                writer.write_table(items)
            shards += 1
            report(rows=len(frame))
        return {"shards": shards}

    def _shards(self, work: Path) -> Iterator[pl.DataFrame]:
        waiting: list[pl.DataFrame] = []
        size = 0
        records = (batch for inputs, drops in self.sources for _, _, batch in live_batches(work, inputs, drops))
        for batch in records:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            waiting.append(frame.select("source", "task", "row_id", "instruction", "response", "meta"))
            size += batch.column("instruction").nbytes + batch.column("response").nbytes
            if size >= SHARD_BYTES:
                yield pl.concat(waiting)
                waiting, size = [], 0
        if waiting:
            yield pl.concat(waiting)


def shards_of(work: Path, key: str) -> list[Path]:
    """Folders of the shards that a `BuildIndex` made, in order."""
    return sorted(folder(work, BuildIndex.stage, key).glob("shard-*"))


def read_items(place: Path) -> pl.DataFrame:
    """Items of a shard, `ITEMS`."""
    with pa.memory_map(str(place / "items.arrow")) as file:
        frame = pl.from_arrow(pa.ipc.open_file(file).read_all())
    assert isinstance(frame, pl.DataFrame)
    return frame


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
    few = _settle_flags(probes.bounds, flags, spec.min_words)
    words, flags, bounds = _trimmed(probes.words, flags, probes.bounds)
    answers, answer_bounds = _answers(items["response"])
    sizes = np.diff(bounds)
    mode = np.full(len(item), LONG, np.uint8)
    mode[~solution & (sizes < spec.n)] = WHOLE
    mode[~solution & (sizes < spec.min_words)] = EXACT
    mode[solution & (np.diff(probes.bounds) < spec.min_solution_words) | (solution & (sizes < spec.n))] = UNTOLD
    has_answer = np.diff(answer_bounds)[item] > 0
    mode[(mode == EXACT) & (~has_answer | (sizes == 0))] = UNTOLD
    need = np.where(few, 1.0, spec.coverage)
    grams, probe = _entries(words, bounds, mode, few, groups, spec.n)
    table, first, following, sieve = _table(grams)
    lengths = np.unique(np.append(sizes[mode == WHOLE], spec.n if (mode == LONG).any() else [])).astype(np.int64)
    index = Index(
        words=words,
        flags=flags,
        bounds=bounds,
        mode=mode,
        solution=solution,
        need=need,
        item=item,
        answers=answers,
        answer_bounds=answer_bounds,
        table=table,
        first=first,
        entry_probe=probe,
        entry_next=following,
        sieve=sieve,
        lengths=lengths,
        n=np.array([spec.n]),
    )
    told = np.zeros(questions, bool)
    told[item[mode != UNTOLD]] = True
    return index.read_only(), pl.Series("told", told)


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
    """Words by which each answer is known: all of a short one, the last number of a long one, else none."""
    found = words_of(responses)
    parts, sizes = [np.empty(0, np.uint64)], np.zeros(len(responses) + 1, np.int64)
    for place, (begin, end) in enumerate(zip(found.bounds[:-1].tolist(), found.bounds[1:].tolist(), strict=True)):
        if end - begin > ANSWER_WORDS:
            numbers = np.flatnonzero(found.flags[begin:end] & NUMBER)
            begin, end = (begin + int(numbers[-1]), begin + int(numbers[-1]) + 1) if len(numbers) else (end, end)
        parts.append(found.words[begin:end])
        sizes[place + 1] = end - begin
    return np.concatenate(parts), np.cumsum(sizes)


@numba.njit(cache=True, nogil=True)
def _settle_flags(bounds: NDArray[np.int64], flags: NDArray[np.uint8], least: int) -> NDArray[np.bool_]:
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
        if own < least:
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
    rare = ~np.isin(probes.words, common)
    flags[rare | (probes.flags & np.uint8(NUMBER | NAME) > 0)] |= np.uint8(INFORMATIVE)


def _mark_templates(probes: Words, flags: NDArray[np.uint8], groups: NDArray[np.int64]) -> None:
    size = 3
    keys, place, at = _all_grams(probes.words, probes.bounds, size)
    keys ^= groups[place].astype(np.uint64) * np.uint64(0x9FB21C651E98DF25)
    shared = _document_counts(keys, place)
    least = np.maximum(TEMPLATE_ITEMS, TEMPLATE_SHARE * np.bincount(groups)[groups])
    starts = at[shared > least[place]]
    for offset in range(size):
        flags[starts + offset] |= np.uint8(TEMPLATE)


@numba.njit(cache=True, nogil=True)
def _all_grams(words: U64, bounds: NDArray[np.int64], size: int) -> tuple[U64, NDArray[np.int64], NDArray[np.int64]]:
    """Hash, text and place of every stretch of `size` words."""
    count = 0
    for text in range(len(bounds) - 1):
        count += max(0, bounds[text + 1] - bounds[text] - size + 1)
    keys, texts, at = np.empty(count, np.uint64), np.empty(count, np.int64), np.empty(count, np.int64)
    prefix, power = prefixes(words), powers(size)[size]
    count = 0
    for text in range(len(bounds) - 1):
        for place in range(bounds[text], bounds[text + 1] - size + 1):
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


def _entries(
    words: U64,
    bounds: NDArray[np.int64],
    mode: NDArray[np.uint8],
    few: NDArray[np.bool_],
    groups: NDArray[np.int64],
    n: int,
) -> tuple[U64, NDArray[np.int32]]:
    """N-grams by which probes are found, and their probes."""
    keys, probe, _ = _all_grams(words, bounds, n)
    in_long = mode[probe] == LONG
    keys, probe = keys[in_long], probe[in_long]
    counts = _document_counts(keys ^ groups[probe].astype(np.uint64) * np.uint64(0x9FB21C651E98DF25), probe)
    least = np.full(len(mode), np.iinfo(np.int64).max)
    np.minimum.at(least, probe, counts)
    # What has no words of its own, or none that few items share, is found by its rarest n-gram and compared as a whole.
    rarest = np.zeros(len(keys), bool)
    candidates = np.flatnonzero(counts == least[probe])
    _, chosen = np.unique(probe[candidates], return_index=True)
    rarest[candidates[chosen]] = True
    telling = (counts <= TEMPLATE_ITEMS) & ~few[probe]
    taken = telling | (rarest & (few | (least > TEMPLATE_ITEMS))[probe])
    prefix, power = prefixes(words), powers(int(np.diff(bounds).max(initial=0)))
    wholes = np.flatnonzero((mode == WHOLE) | (mode == EXACT))
    whole = np.array(
        [
            gram(prefix, int(bounds[p]), int(bounds[p + 1] - bounds[p]), power[bounds[p + 1] - bounds[p]])
            for p in wholes
        ],
        np.uint64,
    )
    all_keys, all_probes = np.concatenate([keys[taken], whole]), np.concatenate([probe[taken], wholes])
    order = np.lexsort((all_probes, all_keys))
    all_keys, all_probes = all_keys[order], all_probes[order]
    fresh = np.ones(len(all_keys), bool)
    fresh[1:] = (all_keys[1:] != all_keys[:-1]) | (all_probes[1:] != all_probes[:-1])
    return all_keys[fresh], all_probes[fresh].astype(np.int32)


@numba.njit(cache=True, nogil=True)
def _table(grams: U64) -> tuple[U64, NDArray[np.int32], NDArray[np.int32], U64]:
    """The table, first entries, chains and sieve of entries sorted by n-gram."""
    slots = 1024
    while slots < FILL * len(grams):
        slots *= 2
    table, first = np.zeros(slots, np.uint64), np.full(slots, -1, np.int32)
    following = np.full(len(grams), -1, np.int32)
    sieve = np.zeros(slots // 8, np.uint64)  # 8 bits a slot
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
        bit = key & np.uint64(8 * slots - 1)
        sieve[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    return table, first, following, sieve
