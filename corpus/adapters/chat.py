"""Conversations in `messages`, `conversations` or a column of another usual name: a pair for each answer.

`corpus.adapters.conversation` has the rule, `corpus.adapters.columns` the context that other columns add. Where the
conversation ends with a question, and another column has its answer (`response`, `answers`, …), only that one counts.
"""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, as_texts, from_json, is_filled, list_columns, plain_names
from corpus.adapters.choices import CHOICES
from corpus.adapters.columns import columns, gather, with_context
from corpus.adapters.conversation import Turn, answer_turns, is_turns, kind_of_mark, parse_turns, truth_of
from corpus.adapters.pairs import PAIRS, RESPONSE_NAMES
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

CONVERSATION_NAMES = (
    "messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "chat",
    "turns",
    "contents",
    "chatmessages",
    "messagelist",
    "dialogues",
    "dialogs",
    "exchanges",
    "utterances",
    "data",
    "items",
)
"""Columns that can hold a conversation, most likely first, as plain names."""


_LIST_NAMES = ("data", "items")
"""Those that may as well hold rows: their messages must have roles, or be texts."""


def _is_list_of_turns(value: Any) -> bool:
    found = from_json(value) if isinstance(value, str) else value
    return is_turns(found) or (isinstance(found, list) and all(isinstance(item, str) for item in found))


def conversation_column(row: Row) -> str | None:
    """Return the first column that holds a conversation, or None."""
    plain = columns(tuple(row)).plain
    for name in CONVERSATION_NAMES:
        value = row[plain[name]] if name in plain else None
        if _is_conversation(value) and (name not in _LIST_NAMES or _is_list_of_turns(value)):
            return plain[name]
    if not any(name in plain for name in RESPONSE_NAMES):
        return None
    for column in columns(tuple(row)).history:  # earlier turns beside the answer, and no other question
        if _is_conversation(row[column]) and is_turns(row[column]):
            return column
    return None


def _is_conversation(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value)
    if isinstance(value, str):
        return value.startswith(("[", "{")) and isinstance(from_json(value), list | dict)
    return isinstance(value, dict) and any(isinstance(item, list | dict) for item in value.values())


def parse_conversation(row: Row) -> tuple[list[Turn], frozenset[str]]:
    """Return all turns of a row, those of its context first, and the columns they come from."""
    column = conversation_column(row)
    plain = columns(tuple(row)).plain
    if column is None:
        name = next((plain[name] for name in CONVERSATION_NAMES if name in plain), None)
        if name is None or row[name] is None:
            found = list_columns(row) if name is None else f"{name} is null"
            raise RowError(Outcome.MISSING_FIELD, f"there is no conversation in messages or alike; found {found}")
        raise RowError(Outcome.WRONG_TYPE, f"{name} is {shorten(row[name])}; expected a list of turns")
    value = row[column]
    if isinstance(value, list) and any(isinstance(item, str) for item in value) and column == plain.get("messages"):
        raise RowError(Outcome.WRONG_TYPE, f"{column} is {shorten(value)}; expected objects with role and content")
    turns = parse_turns(value, column)
    used = frozenset({column})
    for name in row:
        kind = kind_of_mark(name)
        marks = None if kind is None else from_json(row[name]) if isinstance(row[name], str) else row[name]
        if isinstance(marks, list) and kind is not None:
            turns = _masked(turns, marks, name, kind)
            used |= {name}
    context = gather(row, exclude=used)
    return with_context(context, turns), used | context.used


def parse_answered(row: Row) -> tuple[list[Turn], int, frozenset[str]]:
    """Return all turns of a row and the answer of another column, the index of that answer or 0, and the columns."""
    turns, used = parse_conversation(row)
    plain = columns(tuple(row)).plain
    if not turns or turns[-1].role in ("assistant", "call"):
        return turns, 0, used
    column = next(
        (
            plain[name]
            for name in RESPONSE_NAMES
            if name in plain and plain[name] not in used and is_filled(row[plain[name]])
        ),
        None,
    )
    if column is None:
        return turns, 0, used
    value = row[column]
    if isinstance(value, dict) and "content" in value:
        value = [value]
    answer = parse_turns(value, column) if is_turns(value) else [Turn("assistant", as_texts(value, column)[0])]
    return [*turns, *answer], len(turns), used | {column}


def _masked(turns: list[Turn], marks: list[Any], column: str, kind: str) -> list[Turn]:
    answers = [index for index, turn in enumerate(turns) if turn.role in ("assistant", "call")]
    places = range(len(turns)) if len(marks) == len(turns) else answers
    truths = [truth_of(mark) for mark in marks]
    if len(marks) != len(places) or None in truths:
        expected = f"a number, true or false for each of {len(turns)} turns or {len(answers)} answers"
        raise RowError(Outcome.WRONG_TYPE, f"{column} is {shorten(marks)} with {len(marks)} items; expected {expected}")
    marked = list(turns)
    for index, mark, truth in zip(places, marks, truths, strict=True):
        if truth == (kind == "mask"):
            marked[index] = turns[index]._replace(excluded=f"{column} is {mark} there")
    return marked


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    turns, first, used = parse_answered(row)
    drafts, dropped = answer_turns(turns, context, first=first)
    return Adapted(drafts, used, dropped)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    column = conversation_column(row)
    if column is None:
        return False
    if plain_names([column]).keys() & {"messages", "conversations", "conversation"}:
        return True
    if PAIRS.fits(row, context) or CHOICES.fits(row, context):  # a passage beside its question
        return False
    value = row[column]
    return is_filled(value) and (is_turns(value) or _reads(value))


def _reads(value: Any) -> bool:
    """Whether a column, whose name alone does not say so, has turns with an answer."""
    try:
        answer_turns(parse_turns(value, ""), {})
    except RowError:
        return False
    return True


CHAT = Adapter(name="chat", rank=30, fits=_fits, adapt=_adapt)
