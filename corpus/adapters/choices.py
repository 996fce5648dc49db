"""Multiple choice: passage, question and lettered options, answered by the text of the right option.

If several options are right, the answer has one a line. `corpus.adapters.options` says which are.
"""

import re
from collections.abc import Mapping
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


def _fits(row: Row, context: Mapping[str, Any], *, base: int | None) -> bool:
    """Whether a row is multiple choice, and its answer, if a number, is one that counts from `base`."""
    try:
        found = _find(row)
    except RowError:  # options that are not texts: `adapt` rejects the row
        return base is None
    if found is None:
        return False
    _, _, gold, options = found
    value = None if gold is None else row[gold]
    text = str(value).strip().removesuffix(".0")
    if isinstance(value, bool | list | dict) or not text.isdecimal():
        return base is None
    number = int(text)
    assert gold is not None
    if str(number) in options.labels and not options.names:  # the options state their numbers
        return base is None

    def is_valid(base: int | None) -> bool:
        if base == 1 and re.search(r"gold$|idx|index", plain(gold)):
            return False
        return 0 <= number - number_base(options, value, gold, base) < len(options.texts)

    if base is not None or is_valid(None):
        return is_valid(base)
    return (str(number) in options.labels and isinstance(value, str)) or not (is_valid(0) or is_valid(1))


CHOICES, CHOICES_FROM_0, CHOICES_FROM_1 = (
    Adapter(name=name, rank=rank, fits=partial(_fits, base=base), adapt=partial(_adapt, base=base))
    for name, rank, base in (("choices", 60, None), ("choices_from_0", 61, 0), ("choices_from_1", 62, 1))
)
