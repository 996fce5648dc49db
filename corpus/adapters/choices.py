"""Multiple choice: passage, question and lettered options, answered by the text of the right option.

If several options are right, the answer has one a line. `corpus.adapters.options` says which are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from corpus.adapters.base import Adapted, Adapter, is_filled, join, list_columns, passage_text, plain
from corpus.adapters.columns import PASSAGE_NAMES, columns, pair
from corpus.adapters.options import (
    Options,
    find_options,
    number_base,
    parse_options,
    read_options,
    right_options,
    show_options,
)
from corpus.adapters.pairs import is_formatted_copy
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_QUESTION_NAMES = (
    "question",
    "query",
    "squestion",
    "qtext",
    "stem",
    "questionstem",
    "questiontext",
    "problem",
    "ctx",
    "startphrase",
    "goal",
    "sentence",
    "prompt",
    "instruction",
    "input",
    "context",
    "premise",
)
_MORE_PASSAGES = ("text", "premise", "sentence")
"""Columns that are a passage beside a question of another name."""

_GOLD_NAMES = (
    "gold",
    "goldindex",
    "goldidx",
    "answeridx",
    "answerindex",
    "correctidx",
    "correctindex",
    "correctansweridx",
    "correctanswerindex",
    "correctanswerid",
    "correctoption",
    "correctoptionindex",
    "correctchoice",
    "cop",
    "answer",
    "label",
    "answerkey",
    "answerletter",
    "correctanswerkey",
    "correctanswer",
    "correct",
    "rightanswer",
    "lsolutions",
    "goldlabel",
    "goldanswer",
    "correctlabel",
    "correctletter",
    "correctanswerletter",
    "correctanswers",
    "correctoptions",
    "correctoptionid",
    "rightoption",
    "answerlabel",
    "answernumber",
    "answerid",
    "answerchoice",
    "targetidx",
    "targetindex",
    "key",
    "ra",
)
"""Columns that state the right option, most exact first."""
_ANSWER_NAMES = ("target", "ans", "solution")
"""Columns that state it, or else are an answer in other words."""
_INSTRUCTIONS = ("instruction", "instructions", "definition")
_INPUTS = ("input", "inputs", "inputtext", "userinput", "exampleinput")


class _Columns(NamedTuple):
    questions: tuple[str, ...]
    passages: tuple[str, ...]
    golds: tuple[str, ...]
    answers: str | None
    """A column `answers` whose list may be the options (ReClor)."""
    instructions: tuple[str, ...] = ()
    """Columns that precede a question of another name."""
    inputs: tuple[str, ...] = ()
    """Columns that follow an instruction."""


@lru_cache(maxsize=4096)
def _columns(names: tuple[str, ...]) -> _Columns | None:
    by_name = columns(names).plain

    def known(candidates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(by_name[name] for name in candidates if name in by_name)

    questions, golds = known(_QUESTION_NAMES), known((*_GOLD_NAMES, *_ANSWER_NAMES))
    answers = by_name.get("answers")
    if not questions or not (golds or find_options(names) or answers):
        return None
    passages = known((*PASSAGE_NAMES, *_MORE_PASSAGES))
    return _Columns(questions, passages, golds, answers, known(_INSTRUCTIONS), known(_INPUTS))


def _find(row: Row) -> tuple[_Columns, str, str | None, Options] | None:
    """Return the row's columns, question, first filled gold column, and options; None if it is no multiple choice."""
    found = _columns(tuple(row))
    if found is None:
        return None
    options = read_options(row)
    if options is None and found.answers is not None:
        options = parse_options(row[found.answers], found.answers)
        if options is not None and not (found.golds or options.flags):
            options = None
    question = next((name for name in found.questions if is_filled(row[name])), None)
    if options is None and question is not None and isinstance(row[question], dict):
        options = parse_options(row[question].get("choices"), question)
    elif options is not None and question in options.columns:
        return None
    if options is None or question is None:
        return None
    own = (name for name in found.golds if is_filled(row[name]) and name not in (question, *options.columns))
    gold = next((name for name in own if plain(name) not in _ANSWER_NAMES or _states(options, row[name], name)), None)
    if gold is None and not options.flags and all(plain(name) in _ANSWER_NAMES for name in found.golds):
        return None
    return found, question, gold, options


def _states(options: Options, value: Any, column: str) -> bool:
    """Whether a value is the number, letter or text of an option."""
    try:
        return bool(right_options(options, value, column, None))
    except RowError:
        return False


def _adapt(row: Row, context: Mapping[str, Any], *, base: int | None) -> Adapted:
    found = _find(row)
    if found is None:
        raise RowError(
            Outcome.MISSING_FIELD, f"no columns that are a question, options and answer; found {list_columns(row)}"
        )
    names, question, gold, options = found
    used = frozenset({question, *options.columns})
    if any(options.flags):
        right = [index for index, flag in enumerate(options.flags) if flag]
    else:
        if gold is None or row[gold] in (-1, "-1"):
            column = gold or names.golds[0]
            raise RowError(Outcome.NO_PAIR, f"{column} is {shorten(row[column])}: no option is marked as right")
        right, agreeing = _right(row, names, options, gold, base)
        used |= agreeing
    value = row[question]
    text = passage_text((value.get("stem") or value) if isinstance(value, dict) else value, question)
    before: list[str] = []
    after: list[str] = []
    for column in (*names.instructions, *names.inputs):
        given = row[column]
        if column not in used and is_filled(given) and not isinstance(given, bool | int | float):
            (before if column in names.instructions else after).append(passage_text(given, column))
            used |= {column}
    parts = []
    for column in names.passages:
        passage = row[column]
        if column in used or not is_filled(passage) or isinstance(passage, bool | int | float):
            continue
        if not is_formatted_copy(column, passage, text):
            parts.append(passage_text(passage, column))
            used |= {column}
    in_order = (text, *parts) if question in names.instructions else (*before, *parts, text)
    shown = show_options(options)
    instruction = join(*in_order, *after, None if _shows(text, shown) else shown)
    return pair(row, context, instruction, ["\n".join(options.texts[index] for index in right)], used)


def _shows(text: str, shown: str) -> bool:
    """Whether a question already has its lettered options, each at the begin of a line."""
    lines = [f"{line[0]}{line[2:].strip()}" for line in shown.splitlines() if line[1:2] == "."]
    found = {re.sub(r"^\(?([A-Z])\)?[.:]?\s*", r"\1", line.strip()) for line in text.splitlines()}
    return bool(lines) and found.issuperset(lines)


def _right(
    row: Row, names: _Columns, options: Options, gold: str, base: int | None
) -> tuple[list[int], frozenset[str]]:
    """Return the right options by the first column that states them, and all columns that state the same."""
    right: list[int] | None = None
    agreeing: list[str] = []
    first: RowError | None = None
    for column in names.golds[names.golds.index(gold) :]:
        if not is_filled(row[column]) or column in options.columns:
            continue
        try:
            found = right_options(options, row[column], column, base)
        except RowError as error:
            first = first or error
            continue
        right = found if right is None else right
        if found == right:
            agreeing.append(column)
    if right is None:
        assert first is not None
        raise first
    return right, frozenset(agreeing)


class _Number(NamedTuple):
    """The number of the right option of a row, in a column that no label of the options explains."""

    value: int
    cell: Any
    column: str
    options: Options
    stated: int | None
    """Index of the right option by another column; None without one."""

    def is_valid(self, base: int | None) -> bool:
        """Whether there is such an option, and another column states no other, if numbers count from `base`."""
        index = self.value - number_base(self.options, self.cell, self.column, base)
        return 0 <= index < len(self.options.texts) and self.stated in (None, index)

    @property
    def is_decisive(self) -> bool:
        """Whether the row shows what its number counts from."""
        return self.stated is not None or self.value in (0, len(self.options.texts))


def _number(row: Row, names: _Columns, gold: str | None, options: Options) -> _Number | None:
    cell = None if gold is None else row[gold]
    text = str(cell).strip().removesuffix(".0")
    if gold is None or isinstance(cell, bool | list | dict) or not text.isdecimal():
        return None
    if text in options.labels and not options.names:  # the options state their numbers
        return None
    stated = None
    for column in names.golds:
        other = row[column]
        if column == gold or column in options.columns or not isinstance(other, str) or other.strip().isdecimal():
            continue
        if is_filled(other) and _states(options, other, column):
            stated, *_ = right_options(options, other, column, None)
            break
    return _Number(int(text), cell, gold, options, stated)


def _fits(row: Row, context: Mapping[str, Any], *, base: int | None) -> bool:
    """Whether a row is multiple choice, and its answer, if a number, is one that counts from `base`."""
    try:
        found = _find(row)
    except RowError:  # options that are not texts: `adapt` rejects the row
        return base is None
    if found is None:
        return False
    names, _, gold, options = found
    number = _number(row, names, gold, options)
    if number is None:
        return base is None
    if base is not None or number.is_valid(None):
        return number.is_valid(base)
    is_label = str(number.value) in options.labels and isinstance(number.cell, str)
    return is_label or not (number.is_valid(0) or number.is_valid(1))


CHOICES, CHOICES_FROM_0, CHOICES_FROM_1 = (
    Adapter(name=name, rank=rank, fits=partial(_fits, base=base), adapt=partial(_adapt, base=base))
    for name, rank, base in (("choices", 60, None), ("choices_from_0", 61, 0), ("choices_from_1", 62, 1))
)
CHOICE_ADAPTERS = {adapter.name: adapter for adapter in (CHOICES, CHOICES_FROM_0, CHOICES_FROM_1)}


def _numbers(rows: Sequence[Row]) -> Iterator[_Number]:
    for row in rows:
        try:
            found = _find(row)
        except RowError:
            continue
        if found is not None and (number := _number(row, found[0], found[2], found[3])) is not None:
            yield number


def has_doubtful_numbers(rows: Sequence[Row]) -> bool:
    """Whether right options are stated by numbers, and no row shows what these count from."""
    numbers = list(_numbers(rows))
    return bool(numbers) and not any(number.is_decisive for number in numbers)


class Settled(NamedTuple):
    """What the numbers of a file's right options count from."""

    adapter: str
    """The adapter in `CHOICE_ADAPTERS` that fits most rows."""
    is_shown: bool
    """Whether the rows show it."""
    doubt: str | None
    """A remark if there are numbers and the rows do not show it."""


def settle(name: str, rows: Sequence[Row]) -> Settled:
    """Decide by more rows of a file what numbers of right options count from; `name` is the adapter of the first."""
    numbers = list(_numbers(rows))
    if not numbers:
        return Settled(name, False, None)
    if any(number.is_decisive for number in numbers):
        counts = {name: sum(adapter.fits(row, {}) for row in rows) for name, adapter in CHOICE_ADAPTERS.items()}
        return Settled(max(counts, key=lambda name: counts[name]), True, None)
    first = numbers[0]
    base = number_base(first.options, first.cell, first.column, None)
    doubt = (
        f"the numbers in {shorten(first.column)} may count the options from 0 or from 1, since none of the first "
        f"{len(numbers):,} is 0 or the number of options; they are read as counting from {base}: if they do not, state "
        f"`adapter: choices_from_{1 - base}`"
    )
    return Settled(name, False, doubt)
