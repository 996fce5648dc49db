"""Seeded task families: generated sources that need no download.

A generator is a virtual JSONL file. Each of its lines is a pure function of
(family, seed, split, row number), so any range of rows can be made alone:

    family.draw_from(split) -> problem -> family.phrase -> dirt (training rows only) -> schema -> JSON line

Training rows carry dirt at the rates in `corpus.generators.dirt`; held-out rows
are clean. See `corpus.generators.family` for how the split is made.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, get_args

from corpus.config import ConfigError
from corpus.generators.arithmetic import ARITHMETIC
from corpus.generators.comparisons import COMPARISONS, EXTREMES
from corpus.generators.dates import CALENDAR, DATE_FORMATS
from corpus.generators.dirt import Dirt, choose, cut_off, disguise, soil
from corpus.generators.equations import EQUATIONS
from corpus.generators.family import Family, Split, Text
from corpus.generators.lists import COUNTING, EDITS, REVERSAL, SORTING
from corpus.generators.logic import LOGIC, RANKING
from corpus.generators.lookup import LOOKUP
from corpus.generators.schemas import SCHEMAS
from corpus.generators.sequences import SEQUENCES
from corpus.generators.sudoku import SUDOKU
from corpus.generators.units import UNITS
from corpus.generators.word_problems import WORD_PROBLEMS, WORD_PROBLEMS_COT

FAMILIES: Mapping[str, Family[Any]] = {
    family.name: family
    for family in (
        ARITHMETIC,
        EQUATIONS,
        SEQUENCES,
        UNITS,
        COMPARISONS,
        EXTREMES,
        SORTING,
        REVERSAL,
        COUNTING,
        EDITS,
        DATE_FORMATS,
        CALENDAR,
        LOGIC,
        RANKING,
        LOOKUP,
        SUDOKU,
        WORD_PROBLEMS,
        WORD_PROBLEMS_COT,
    )
}
"""All families by name."""


def open_generator(name: str, rows: int, seed: int, split: Split, start: int = 0) -> Iterator[bytes]:
    """Lines `start` to `start + rows` of a generator's virtual JSONL file.

    Parameters
    ----------
    name
        A family in `FAMILIES`.
    rows
        How many lines.
    seed
        Other seeds give other rows, on the same side of the split.
    split
        "train" (with dirt) or "heldout" (clean).
    start
        Number of the first line.

    Yields
    ------
    bytes
        One line of JSON in UTF-8, with its line end; a few training lines are broken on purpose.

    Raises
    ------
    ConfigError
        No family or split has that name.

    Examples
    --------
    >>> next(open_generator("comparisons", rows=1, seed=0, split="heldout"))[:12]
    b'{"question":'
    """
    if name not in FAMILIES:
        close = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(FAMILIES))}"
        raise ConfigError(f"there is no generator {name!r}; {hint}")
    if split not in get_args(Split):
        raise ConfigError(f"generator {name!r} has no split {split!r}; expected one of {', '.join(get_args(Split))}")
    return (_line(FAMILIES[name], seed, split, row) for row in range(start, start + rows))


def _line(family: Family[Any], seed: int, split: Split, row: int) -> bytes:
    kind, text, rng = _clean_row(family, seed, split, row)
    if kind is Dirt.DUPLICATE:
        text = disguise(_earlier_clean_text(family, seed, split, row, rng) or text, rng)
    if kind is None or kind is Dirt.DUPLICATE or kind is Dirt.BROKEN_JSON:
        fields = SCHEMAS[family.schema](text)
    else:
        fields = soil(kind, text, family.schema, rng)
    line = json.dumps(fields, ensure_ascii=False)
    if kind is Dirt.BROKEN_JSON:
        line = cut_off(line, rng)
    return line.encode() + b"\n"


def _clean_row(family: Family[Any], seed: int, split: Split, row: int) -> tuple[Dirt | None, Text, Random]:
    """A row's dirt, its text without that dirt, and its random numbers from there on."""
    rng = Random(f"{family.name}/{seed}/{split}/{row}")
    kind = choose(rng) if split == "train" else None
    return kind, family.phrase(family.draw_from(split, rng), rng), rng


def _earlier_clean_text(family: Family[Any], seed: int, split: Split, row: int, rng: Random) -> Text | None:
    """The text of a clean row before `row`: the first one from a random row downwards."""
    for earlier in range(rng.randrange(row) if row else -1, -1, -1):
        kind, text, _ = _clean_row(family, seed, split, earlier)
        if kind is None:
            return text
    return None
