"""Conversations in `messages` or `conversations`: a pair for each assistant turn.

A pair's instruction is the whole conversation before the turn. The system text and the declared tools come first. If
the user's turn is the only other one, its bare text follows; else every turn with its role ("User:", "Assistant:",
"Tool call:", "Tool result:"), separated by blank lines. A tool call is a response too; a tool's result is not.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, check_size, field, join, list_columns
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

CONVERSATION_NAMES = ("messages", "conversations", "conversation")
"""Columns that can hold a conversation, most likely first."""


class Turn(NamedTuple):
    """One turn of a conversation."""

    role: str
    """system, user, assistant, call or tool."""
    text: str


_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "functioncall": "call",
    "toolcall": "call",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "toolresponse": "tool",
    "functionresponse": "tool",
}
_LABELS = {"user": "User", "assistant": "Assistant", "call": "Tool call", "tool": "Tool result"}
_ANSWERS = ("assistant", "call")


def parse_turn(item: Any, where: str) -> list[Turn]:
    """Parse one message, with `role` and `content` or `from` and `value`: its text and its tool calls."""
    if not isinstance(item, dict):
        raise RowError(Outcome.WRONG_TYPE, f"{where} is {shorten(item)}; expected an object with role and content")
    role_key = "role" if "role" in item else "from"
    name = field(item, role_key, f"{where}.role or {where}.from")
    role = _ROLES.get(re.sub(r"[-_\s]", "", name).casefold()) if isinstance(name, str) else None
    if role is None:
        known = "system, user, assistant, tool or one of their usual other names"
        raise RowError(Outcome.WRONG_TYPE, f"{where}.{role_key} is {shorten(name)}; expected {known}")
    text_key = "content" if "content" in item else "value"
    content = item.get(text_key)
    calls = item.get("tool_calls")
    turns = []
    if content is not None or not calls:
        turns.append(Turn(role, _content(content, f"{where}.{text_key}")))
    if calls:
        turns.append(Turn("call", json.dumps(calls, ensure_ascii=False, default=str)))
    return turns


def parse_turns(items: Sequence[Any], where: str) -> list[Turn]:
    """Parse a list of messages."""
    return [turn for index, item in enumerate(items) for turn in parse_turn(item, f"{where}.{index}")]


def _content(content: Any, where: str) -> str:
    """Return the text of a message, which is a text or a list of text parts."""
    if not isinstance(content, list):
        return as_text(content, where)
    texts = []
    for index, part in enumerate(content):
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, str):
            texts.append(part)
        else:
            raise RowError(Outcome.WRONG_TYPE, f"{where}.{index} is {shorten(part)}; expected a part of type text")
    return "".join(texts)


def parse_conversation(row: Row) -> tuple[list[Turn], frozenset[str]]:
    """Return all turns of a row, system text and tools first, and the columns they come from."""
    name = next((name for name in CONVERSATION_NAMES if name in row), None)
    if name is None:
        raise RowError(Outcome.MISSING_FIELD, f"there is no messages or conversations; found {list_columns(row)}")
    items = row[name]
    if not isinstance(items, list):
        raise RowError(Outcome.WRONG_TYPE, f"{name} is {shorten(items)}; expected a list of turns")
    turns = parse_turns(items, name)
    used = {name}
    head = []
    for column in ("system", "tools"):
        if row.get(column):
            value = row[column]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            head.append(Turn("system", text))
            used.add(column)
    return head + turns, frozenset(used)


def last_answer(turns: Sequence[Turn]) -> Draft:
    """Return the pair of a conversation's last answer."""
    answers = _answers(turns)
    return Draft(_instruction(turns[: answers[-1]]), turns[answers[-1]].text)


def _answers(turns: Sequence[Turn]) -> list[int]:
    """Return the indices of the turns that answer a user or a tool; raise `RowError` if there are none."""
    first = next((index for index, turn in enumerate(turns) if turn.role in ("user", "tool")), len(turns))
    answers = [index for index, turn in enumerate(turns) if turn.role in _ANSWERS and index > first]
    if not answers:
        raise RowError(Outcome.NO_PAIR, f"a conversation of {len(turns)} turns without a user turn and its answer")
    return answers


def _instruction(history: Sequence[Turn]) -> str:
    system = [turn.text for turn in history if turn.role == "system"]
    others = [turn for turn in history if turn.role != "system"]
    if len(others) == 1 and others[0].role == "user":
        return join(*system, others[0].text)
    return join(*system, *(f"{_LABELS[turn.role]}: {turn.text}" for turn in others))


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    turns, used = parse_conversation(row)
    answers = _answers(turns)
    chars_before = list(accumulate((len(turn.text) for turn in turns), initial=0))
    check_size(sum(chars_before[index] for index in answers))
    return Adapted([Draft(_instruction(turns[:index]), turns[index].text) for index in answers], used)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return any(isinstance(row.get(name), list) for name in CONVERSATION_NAMES)


CHAT = Adapter(name="chat", rank=30, fits=_fits, adapt=_adapt)
