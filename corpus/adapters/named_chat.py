"""Conversations whose columns and roles a manifest's `chat:` names.

Turns are renamed to `role` and `content` and go through `corpus.adapters.conversation` as in the adapter `chat`.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from corpus.adapters.base import Adapt, Adapted, as_text, from_json
from corpus.adapters.columns import gather, with_context
from corpus.adapters.conversation import answer_turns, parse_turns, role_of
from corpus.adapters.templates import look_up, used_columns
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

Role = Literal["system", "user", "assistant", "call", "tool"]

_SPELLING = {"call": "tool_call"}


def named_chat(turns: str, role: str, text: str, roles: Mapping[str, Role]) -> Adapt:
    """Make an adapter of the names of a conversation's parts.

    Parameters
    ----------
    turns
        Path of the list of turns in a row.
    role, text
        Paths of role and text in a turn.
    roles
        Value of `role` to the role that it means; the usual spellings need no entry.
    """
    moved = used_columns([f"{{{role}}}", f"{{{text}}}"])

    def message(turn: Any, place: str) -> dict[str, Any]:
        if not isinstance(turn, dict):
            raise RowError(Outcome.WRONG_TYPE, f"{place} is {shorten(turn)}; expected an object with {role} and {text}")
        try:
            name, content = as_text(look_up(turn, role), role).strip(), look_up(turn, text)
        except RowError as error:
            raise RowError(error.reason, f"{place}: {error.detail}") from None
        known = roles.get(name) or role_of(name)
        if known is None:
            close = difflib.get_close_matches(name, list(roles), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            expected = ", ".join([*map(repr, roles), "a usual name such as user or assistant"])
            detail = f"{place}.{role} is {shorten(name)}{hint}; expected {expected}, or an entry in chat.roles"
            raise RowError(Outcome.WRONG_TYPE, detail)
        if content is None and known == "user":
            raise RowError(Outcome.MISSING_FIELD, f"{place}.{text} is null; expected text")
        others = {key: value for key, value in turn.items() if key not in moved}
        return {**others, "role": _SPELLING.get(known, known), "content": content}

    def adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
        used = used_columns([f"{{{turns}}}"])
        found = look_up(row, turns)
        items = from_json(found) if isinstance(found, str) else found
        if isinstance(items, dict):
            items = _listed(items)
        if not isinstance(items, list):
            raise RowError(Outcome.WRONG_TYPE, f"{turns} is {shorten(found)}; expected a list of turns")
        parsed = parse_turns([message(turn, f"{turns}.{index}") for index, turn in enumerate(items)], turns)
        around = gather(row, exclude=used)
        drafts, dropped = answer_turns(with_context(around, parsed), context)
        return Adapted(drafts, used | around.used, dropped)

    return adapt


def _listed(turns: dict[str, Any]) -> Any:
    """Return the turns of an object of turns, or of lists of equal length."""
    values = list(turns.values())
    if values and all(isinstance(value, dict) for value in values):
        return values
    if values and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [dict(zip(turns, items, strict=True)) for items in zip(*values, strict=True)]
    return turns
