"""Conversations in `messages`, `conversations` or a column of another usual name: a pair for each answer.

`corpus.adapters.conversation` has the rule, `corpus.adapters.columns` the context that other columns add.
"""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, from_json, is_filled, list_columns, plain_names
from corpus.adapters.choices import CHOICES
from corpus.adapters.columns import columns, gather, with_context
from corpus.adapters.conversation import Turn, answer_turns, is_turns, parse_turns
from corpus.adapters.pairs import PAIRS
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
    "data",
    "items",
)
"""Columns that can hold a conversation, most likely first, as plain names."""

_MASK_NAMES = ("lossmask", "lossmasks", "weights", "trainmask", "masks")
"""Columns with a number or boolean for each turn or each answer; for masks true excludes, else false does."""


def conversation_column(row: Row) -> str | None:
    """Return the first column that holds a conversation, or None."""
    plain = columns(tuple(row)).plain
    for name in CONVERSATION_NAMES:
        if name in plain and _is_conversation(row[plain[name]]):
            return plain[name]
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
    for name in _MASK_NAMES:
        if name in plain and isinstance(row[plain[name]], list):
            turns = _masked(turns, row[plain[name]], plain[name])
            used |= {plain[name]}
    context = gather(row, exclude=used)
    return with_context(context, turns), used | context.used


def _masked(turns: list[Turn], marks: list[Any], column: str) -> list[Turn]:
    answers = [index for index, turn in enumerate(turns) if turn.role in ("assistant", "call")]
    places = range(len(turns)) if len(marks) == len(turns) else answers
    if len(marks) != len(places) or not all(isinstance(mark, bool | int | float) for mark in marks):
        expected = f"a number for each of {len(turns)} turns or {len(answers)} answers"
        raise RowError(Outcome.WRONG_TYPE, f"{column} has {len(marks)} items; expected {expected}")
    marked = list(turns)
    for index, mark in zip(places, marks, strict=True):
        if bool(mark) == column.startswith("mask"):
            marked[index] = turns[index]._replace(excluded=f"{column} is {mark} there")
    return marked


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    turns, used = parse_conversation(row)
    drafts, dropped = answer_turns(turns, context)
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
