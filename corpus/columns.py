"""Columns and their use: how often each is filled and in no pair, and which of them are context by their names.

Keys of the turns of a conversation that no adapter reads count as columns too, as in `messages.*.name`.

read_pairs ─ row, columns that its pairs used ─▶ ColumnCounter ─▶ ColumnUse, one for each column
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from corpus.adapters.base import is_filled, plain
from corpus.adapters.columns import HISTORY_NAMES, PASSAGE_NAMES, SYSTEM_NAMES, TOOL_NAMES
from corpus.adapters.conversation import unread_keys
from corpus.formats.base import Row, shorten

MAX_COLUMNS = 1000
"""Distinct columns that are counted by name; further ones are counted together as `OTHERS`."""
OTHERS = "(other columns)"
_NAME_CHARS = 100
_EXAMPLE_CHARS = 80

_OTHER_NAMES = """
histories ctx ctxs articles supportingfacts facts hint lecture premise scenario tables schema sqlcontext
input inputs pretext posttext systemturn
options option choices choice endings multiplechoices mcoptions answerchoices tool toollist
persona personas personality personalities
reference references excerpt excerpts snippet snippets doc docs chunk chunks searchresults retrieveddocs
constraint constraints demonstration demonstrations exemplar exemplars fewshot fewshots fewshotexamples
startercode startercodes createtablestatement createtable sqlschema dbschema tableschema databaseschema
"""
"""Plain names of further texts that a question refers to, and of choices."""
_CONTEXT = frozenset((*SYSTEM_NAMES, *TOOL_NAMES, *PASSAGE_NAMES, *HISTORY_NAMES, *_OTHER_NAMES.split()))
_CONTEXT_WORD = re.compile(r"contexts?|passages?|paragraphs?|histor(?:y|ies)|documents?|excerpts?|evidences?|ctxs?")
"""Words that make a name of several words one of context, as in gold_context and passage_1."""
_ABOUT_WORDS = re.compile(
    r"ids?|idx|index|ur[li]s?|links?|titles?|names?|length|len|size|count|num|number|tokens?|sources?|types?|category"
    r"|lang|language|hash|scores?|start|end|offset|date|time|path|file|embedding|rate|ratio|labels?|key|version|used"
    r"|relevance|rank|order"
)
"""Words that follow in names of facts about a text, as in context_id."""
_COUNT_WORDS = frozenset({"has", "is", "num", "n", "number", "count", "len"})
"""Words that precede in such names."""
_CHOICE = re.compile(r"(|options?|opt?|choices?|ans|answer|ending|sol|solution)([a-h]|(?<=.)[0-9])")
"""Plain name of a column with one choice of several: A, option_b, opa, choice1, ending0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnUse:
    """How often rows fill a column, and their pairs use it."""

    name: str
    unused: int
    """Rows in which it is filled and no pair used it."""
    used: int
    """Rows whose pairs used it."""
    example: str
    """Its first unused value, shortened; empty if there is none."""


class ColumnCounter:
    """Counts, over rows that yield pairs, the columns that these used and those that they did not."""

    def __init__(self) -> None:
        self.rows = 0
        """Rows that were counted."""
        self._unused: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._examples: dict[str, str] = {}
        self._whole: dict[tuple[str, ...], int] = {}
        """Names of the columns of rows whose pairs used all of them, to the number of such rows not yet in `_used`."""

    def add(self, row: Row, used: frozenset[str]) -> None:
        """Count a row and the columns that its pairs used."""
        for name, value in row.items():
            if type(value) is list and name in used and value and type(value[0]) is dict:
                self._add_keys(name, value)
        if row.keys() <= used:
            self.add_whole(tuple(row))
            return
        self.rows += 1
        for name, value in row.items():
            if name in used:
                self._used[name] = self._used.get(name, 0) + 1
            elif value is not None and value == value and is_filled(value):  # NaN is null
                self._count_unused(name, value)

    def add_whole(self, names: tuple[str, ...], rows: int = 1) -> None:
        """Count rows of columns `names`, all of which their pairs used, without turns."""
        self.rows += rows
        self._whole[names] = self._whole.get(names, 0) + rows
        if len(self._whole) > MAX_COLUMNS:
            self._count_whole()

    def _add_keys(self, column: str, turns: Sequence[Any]) -> None:
        """Count the keys of turns that no adapter reads, each once."""
        found: dict[str, Any] = {}
        for turn in turns:
            if type(turn) is not dict or len(turn) < 3:
                continue
            text, unread = unread_keys(tuple(turn))
            # All of a turn without text is read: it may be a call, or a tool's result.
            if unread and turn[text] is not None:
                found |= {key: turn[key] for key in unread if key not in found and is_filled(turn[key])}
        for key, value in found.items():
            self._count_unused(f"{column}.*.{key}", value)

    def _count_unused(self, name: str, value: Any) -> None:
        if name not in self._unused:
            if len(self._unused) >= MAX_COLUMNS:
                name = OTHERS
            self._examples.setdefault(name, shorten(value, _EXAMPLE_CHARS))
        self._unused[name] = self._unused.get(name, 0) + 1

    def _count_whole(self) -> None:
        for names, rows in self._whole.items():
            for name in names:
                self._used[name] = self._used.get(name, 0) + rows
        self._whole.clear()

    @property
    def columns(self) -> tuple[ColumnUse, ...]:
        """Columns that are filled in some row whose pairs did not use them, in the order of their first such row."""
        self._count_whole()
        return tuple(
            ColumnUse(name=_shown(name), unused=rows, used=self._used.get(name, 0), example=self._examples[name])
            for name, rows in self._unused.items()
        )

    @property
    def all_columns(self) -> tuple[ColumnUse, ...]:
        """Those of `columns`, and then at most `MAX_COLUMNS` others that pairs used: other files may not use them."""
        columns = self.columns
        others = islice((item for item in self._used.items() if item[0] not in self._unused), MAX_COLUMNS)
        return (*columns, *(ColumnUse(name=_shown(name), unused=0, used=rows, example="") for name, rows in others))


def merged(uses: Iterable[ColumnUse]) -> list[ColumnUse]:
    """Add up the columns of several files: first those that are filled and unused somewhere, in the order of files."""
    examples: dict[str, str] = {}
    unused: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for use in uses:
        if use.unused:
            examples.setdefault(use.name, use.example)
        unused[use.name] += use.unused
        used[use.name] += use.used
    names = [*examples, *(name for name in used if name not in examples)]
    return [
        ColumnUse(name=name, unused=unused[name], used=used[name], example=examples.get(name, "")) for name in names
    ]


def context_columns(names: Iterable[str]) -> list[str]:
    """Return the names that usually hold context of a question: system texts, history, passages, choices, tools.

    A name of several words counts if one of them does, unless another says that it is about the text (`context_id`).

    Columns that hold one choice each, such as A, B, C, count when there are at least two of them.
    """
    by_name = {name: plain(name) for name in names}
    choices: dict[str, list[str]] = {}
    for name, text in by_name.items():
        if match := _CHOICE.fullmatch(text):
            choices.setdefault(match.group(1), []).append(name)
    of_several = {name for found in choices.values() if len(found) >= 2 for name in found}
    return [name for name, text in by_name.items() if text in _CONTEXT or name in of_several or _has_context_word(name)]


def _has_context_word(name: str) -> bool:
    parts = re.sub(r"([a-z])([A-Z])|[\W_]+", lambda match: f"{match[1] or ''} {match[2] or ''}", name)
    words = re.sub(r"\d+", " ", parts).lower().split()
    place = next((place for place, word in enumerate(words) if _CONTEXT_WORD.fullmatch(word)), None)
    if place is None or not _COUNT_WORDS.isdisjoint(words[:place]):
        return False
    return not any(map(_ABOUT_WORDS.fullmatch, words[place + 1 :]))


def _shown(name: str) -> str:
    name = name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 3]}..."
    return name.encode("utf-8", "replace").decode()
