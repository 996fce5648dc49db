"""Seeded task families: generated sources that need no download.

A generator is a virtual JSONL file. Each line is a pure function of (family,
seed, split, row number), so any range of rows can be generated separately:

    family.draw_from(split) -> problem -> family.phrase -> dirt (training rows only) -> schema -> JSON line

Training rows have dirt at the rates in `corpus.generators.dirt`; held-out rows
are clean. `corpus.generators.family` defines the split.
"""

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, get_args

from corpus.config import ConfigError, closest
from corpus.generators.dirt import Dirt, choose, cut_off, disguise, soil
from corpus.generators.family import Family, Split, Text
from corpus.generators.schemas import SCHEMAS
from corpus.plugins import instances

FAMILIES: Mapping[str, Family[Any]] = {family.name: family for family in instances(__name__, Family)}
"""All families by name: the `Family` objects of this package's modules."""


def open_generator(name: str, rows: int, seed: int, split: Split, start: int = 0) -> Iterator[bytes]:
    """Yield the lines `start` to `start + rows` of a generator's virtual JSONL file.

    Parameters
    ----------
    name
        A family in `FAMILIES`.
    rows
        Number of lines.
    seed
        Seed of the rows; it does not affect the split.
    split
        "train" (with dirt) or "heldout" (clean).
    start
        Index of the first line.

    Yields
    ------
    bytes
        One line of JSON in UTF-8, with its line end; a few training lines are deliberately broken.

    Raises
    ------
    ConfigError
        The family or the split is unknown.

    Examples
    --------
    >>> next(open_generator("comparisons", rows=1, seed=0, split="heldout"))[:12]
    b'{"question":'
    """
    if name not in FAMILIES:
        raise ConfigError(f"there is no generator {name!r}{closest(name, list(FAMILIES))}")
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
    """Return a row's dirt, its text without that dirt, and its random generator."""
    rng = Random(f"{family.name}/{seed}/{split}/{row}")
    kind = choose(rng) if split == "train" else None
    return kind, family.phrase(family.draw_from(split, rng), rng), rng


def _earlier_clean_text(family: Family[Any], seed: int, split: Split, row: int, rng: Random) -> Text | None:
    """Return the text of a clean row before `row`: the first, counting down from a random one."""
    for earlier in range(rng.randrange(row) if row else -1, -1, -1):
        kind, text, _ = _clean_row(family, seed, split, earlier)
        if kind is None:
            return text
    return None
