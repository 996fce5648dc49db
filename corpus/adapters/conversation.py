"""Conversations: from messages of any usual shape to turns, and from turns to pairs.

    a list of messages ─ parse_turns ─▶ Turn, Turn, … ─ answer_turns ─▶ Draft and Dropped, one for each answer

The rule is the same in every adapter. Each turn of the assistant, and each tool call, that follows a turn of somebody
else is an answer. Its instruction is everything before it, by the rule of `corpus.turns`. Thinking and end markers are
removed from earlier turns as cleaning removes them from responses. A turn that the data marks as not to be trained on
is context only.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import (
    MARKUP_KEY,
    MAX_ROW_CHARS,
    Draft,
    Dropped,
    as_json,
    as_text,
    check_size,
    from_json,
    is_filled,
    passage_text,
    plain,
)
from corpus.formats.base import RowError, shorten
from corpus.markup import Markup
from corpus.outcome import Outcome
from corpus.turns import Instruction


class Turn(NamedTuple):
    """One turn of a conversation."""

    role: str
    """system, user, assistant, call or tool."""
    text: str
    excluded: str = ""
    """The mark by which the data excludes an answer from training, such as "weight is 0"."""


ANSWERS = ("assistant", "call")

_SPELLINGS = {
    "system": "system sys developer systemprompt systemmessage 系统",
    "user": "user usr human prompter customer client person you asker prompt question query instruction 用户",
    "assistant": "assistant ai gpt bot model llm chatbot agent aiassistant languagemodel response answer bard bing moss"
    " 助手",
    "call": "functioncall functioncalls toolcall toolcalls tooluse",
    "tool": "tool tools function observation ipython environment toolresponse functionresponse toolresult"
    " functionresult toolresults toolresponses tooloutput functioncalloutput codeinterpreter api apiresponse execution"
    " executionresult executionresults",
}
_MODEL = re.compile(
    r"(?:chatgpt|gpt|claude|gemini|llama|qwen|mistral|deepseek|grok|vicuna)(?:\d\w*|turbo|instruct|chat)*"
)
"""Plain name of a model as a role."""
_ROLES = {spelling: role for role, spellings in _SPELLINGS.items() for spelling in spellings.split()}
_KEYED = _ROLES | {
    "instruction": "user",
    "prompt": "user",
    "question": "user",
    "query": "user",
    "input": "user",
    "inputtext": "user",
    "q": "user",
    "output": "assistant",
    "response": "assistant",
    "answer": "assistant",
    "completion": "assistant",
    "a": "assistant",
    "commands": "call",
}
"""Roles by the key of a text, in a message without a role."""
_KEYS = frozenset(_KEYED)
_ORDER = ("system", "user", "call", "tool", "assistant")
"""Order of the texts of such a message, whatever the order of its keys."""
_ROLE_KEYS = ("role", "from", "speaker", "author", "sender", "type", "name")
_TEXT_KEYS = ("content", "value", "text", "message", "utterance", "parts", "body", "data", "refusal")
_TEXT_TYPES = ("text", "input_text", "output_text", "refusal")
_THINKING_TYPES = ("thinking", "redacted_thinking", "reasoning", "summary_text")
_CALL_TYPES = ("tool_use", "tool_call", "tool-call", "function_call", "server_tool_use", "toolUse", "functionCall")
_RESULT_TYPES = (
    *("tool_result", "tool_response", "tool-result", "function_call_output", "web_search_tool_result", "toolResult"),
    *("functionResponse", "function_response"),
)
_CALL_KEYS = frozenset({"toolcall", "toolcalls", "toolscalls", "functioncall", "functioncalls"})
"""Plain keys of a message's calls."""
_RESULT_KEYS = ("output", "result", "results", "response", "observation", "tool_result")
"""Keys of the text of a tool's message, beside `_TEXT_KEYS`."""
_ABOUT_CALL = frozenset({"role", "from", "id", "tool_call_id", "call_id", "weight", "name", "status"})
"""Keys of a message about a call that are no part of it."""
_THINKING_CHANNELS = frozenset({"analysis", "thinking", "reasoning"})
_MESSAGE_CONTEXT = frozenset({"context", "contexts", "passage", "passages", "document", "documents"})
"""Plain keys of a message with texts that it is about."""
_MEDIA = re.compile(r"image|picture|photo|audio|sound|speech|video|file|document|media")
_MEDIA_KEYS = re.compile(r"_?(?:image|img|picture|photo|audio|sound|video)s?(?:_?(?:url|path|file|bytes|data))?s?")
_MARKED = re.compile(r"\s*([A-Za-z][A-Za-z ]{0,20}):\s*")
_TAGGED = re.compile(r"\s*<\|[^|<>]+\|>:?\s*(.*?)\s*(?:<eo[a-z]>)?\s*", re.DOTALL)
"""A text with the tag of its speaker and an end marker, as in MOSS."""

_WEIGHT = re.compile(
    r"(?:is|do|to|has|in|for|on|use|used|apply|calc|calculate|compute|require|requires|should|with|can|enable)*"
    r"(?:train(?:ing|able|ed|onturns?|onthis|on|masks?|weights?)?|learn(?:ing|able|ed)?|loss(?:masks?|weights?|es)?"
    r"|supervised?|supervision|(?:sample|turn|token|message)?weights?)"
)
_MASK = re.compile(
    r"(?:is)?(?:(?:loss|label)?masked(?:out)?|masks?(?:out|loss)?|ignored?(?:loss)?|excluded?(?:from(?:training|loss))?"
    r"|skip(?:ped|loss|training)?|(?:no|not|dont|donot|never|without)(?:train|training|loss|learn)"
    r"|untrainable|frozen|contextonly)"
)
"""Plain keys by which a message states whether it is trained on: a weight of 0 excludes it, a mask of 1 does."""
_TRUTH = {
    **dict.fromkeys(("true", "yes", "y", "on", "t"), True),
    **dict.fromkeys(("false", "no", "n", "off", "f", ""), False),
}


@lru_cache(maxsize=1024)
def role_of(name: str) -> str | None:
    """Return the role that a name spells, or None."""
    found = plain(name)
    if _MODEL.fullmatch(found):
        return "assistant"
    return _ROLES.get(found) or _ROLES.get(found.rstrip("0123456789"))


@lru_cache(maxsize=1024)
def kind_of_mark(name: str) -> str | None:
    """Return "weight" or "mask" for the name of a mark by which training on a text is stated, else None."""
    found = plain(name)
    return "weight" if _WEIGHT.fullmatch(found) else "mask" if _MASK.fullmatch(found) else None


@lru_cache(maxsize=4096)
def unread_keys(keys: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Sort the keys of a turn with a role and a text.

    Returns
    -------
    str
        The key of its text; "" for what is no such turn.
    tuple of str
        The keys that are neither its role, its text nor anything else that decides a pair.
    """
    by_name = {key.lower(): key for key in reversed(keys)}
    role = next((by_name[name] for name in _ROLE_KEYS if name in by_name and name not in ("type", "name")), None)
    text = next((by_name[name] for name in _TEXT_KEYS if name in by_name), None)
    if role is None or text is None:
        return "", ()
    known = {role, text, "channel", "tools", "functions", "type"}
    plain_known = _CALL_KEYS | _MESSAGE_CONTEXT
    return text, tuple(
        key
        for key in keys
        if not (key in known or plain(key) in plain_known or kind_of_mark(key) or _MEDIA_KEYS.fullmatch(key))
    )


# Messages


def is_turns(value: Any) -> bool:
    """Whether a value is a list of messages with roles, possibly as JSON text."""
    if isinstance(value, str):
        if not value.startswith("["):
            return False
        value = from_json(value)
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return isinstance(value, list) and any(isinstance(item, dict) and _role_key(item) for item in value)


def parse_turns(value: Any, where: str) -> list[Turn]:
    """Parse a conversation.

    Parameters
    ----------
    value
        A list of messages (objects with role and text, objects with texts keyed by role, pairs of question and answer,
        or texts of the user and the assistant in turn), or that list as JSON text; an object of such messages, or of
        two lists of roles and texts.
    where
        Place of the value in the row, for messages.

    Raises
    ------
    RowError
        A message is something else, has an unknown role, or carries media.
    """
    items = _items(value, where)
    if items and type(items[0]) is str and (marked := _marked_turns(items)):
        return marked
    turns: list[Turn] = []
    for index, item in enumerate(items):
        if type(item) is dict and len(item) == 2:  # the usual messages
            name, text = item.get("role"), item.get("content")
            if name is None and text is None:
                name, text = item.get("from"), item.get("value")
            if type(name) is str and type(text) is str and (role := role_of(name)):
                turns.append(Turn(role, text))
                continue
        place = f"{where}.{index}"
        if isinstance(item, dict):
            turns += _parse(item, place)
        elif isinstance(item, str):
            turns.append(Turn("assistant" if index % 2 else "user", item))
        elif isinstance(item, list | tuple):
            turns += _parse_list(item, place)
        elif item is not None:
            raise RowError(Outcome.WRONG_TYPE, f"{place} is {shorten(item)}; expected an object with role and content")
    return turns


def _marked_turns(items: Sequence[Any]) -> list[Turn]:
    """Return the turns of texts that all begin with a role, as in "User: Hi."; an empty list for other texts."""
    turns = []
    for item in items:
        match = _MARKED.match(item) if isinstance(item, str) else None
        role = role_of(match[1]) if match else None
        if match is None or role is None:
            return []
        turns.append(Turn(role, item[match.end() :]))
    return turns


def _items(value: Any, where: str) -> Sequence[Any]:
    if isinstance(value, str):
        value = from_json(value)
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        role, text = _role_key(value), _text_key(value)
        if role and text and isinstance(value[role], list) and isinstance(value[text], list):
            return [dict(zip(value, items, strict=False)) for items in zip(*lists, strict=False)]
        if len(lists) == 1 and is_turns(lists[0]):
            return lists[0]
        if value and all(isinstance(item, dict) for item in value.values()):
            return list(value.values())
        if len(lists) == len(value) > 1 and len({len(item) for item in lists}) == 1 and set(map(plain, value)) <= _KEYS:
            return [dict(zip(value, items, strict=True)) for items in zip(*lists, strict=True)]
        return [value]
    raise RowError(Outcome.WRONG_TYPE, f"{where} is {shorten(value)}; expected a list of turns")


def _parse_list(item: Sequence[Any], where: str) -> list[Turn]:
    """Parse [question, answer], [role, text] or a list of messages."""
    if len(item) == 2 and all(part is None or isinstance(part, str) for part in item):
        if isinstance(item[0], str) and (role := role_of(item[0])):
            return [Turn(role, item[1] or "")]
        return [Turn(role, text) for role, text in zip(("user", "assistant"), item, strict=True) if text is not None]
    return parse_turns(item, where)


def _role_key(item: Mapping[str, Any]) -> str | None:
    for name in _ROLE_KEYS:
        for key in (name, name.capitalize()):
            value = item.get(key)
            # A `type` or `name` need not be a role.
            if value is not None and (name not in ("type", "name") or (isinstance(value, str) and role_of(value))):
                return key
    return None


def _text_key(item: Mapping[str, Any]) -> str | None:
    keys = [key for name in _TEXT_KEYS for key in (name, name.capitalize()) if key in item]
    return next((key for key in keys if item[key] is not None), keys[0] if keys else None)


def _parse(item: Mapping[str, Any], where: str) -> list[Turn]:
    """Parse one message: its text, its tool calls and results, and the marks on it."""
    role_key = _role_key(item)
    if role_key is None:
        return _parse_keyed(item, where)
    name = item[role_key]
    if isinstance(name, dict):
        name = name.get("role")
    role = role_of(name) if isinstance(name, str) else None
    if role is None:
        known = "system, user, assistant, tool or a usual other name; `chat:` with `roles:` states what others mean"
        raise RowError(Outcome.WRONG_TYPE, f"{where}.{role_key} is {shorten(name)}; expected {known}")
    _refuse_media(item, where)
    channel = item.get("channel")
    if role == "assistant" and isinstance(channel, str) and channel.lower() in _THINKING_CHANNELS:
        return []
    excluded = _excluded(item, where) if role in ANSWERS else ""
    text_key = _text_key(item)
    content = None if text_key is None else item[text_key]
    if content is None and role in ("call", "tool"):
        content = _without_text(item, role)
    calls = _calls(item)
    turns = [Turn(*turn, excluded) for turn in _content(content, role, f"{where}.{text_key or 'content'}")]
    if calls is not None:
        turns = [turn for turn in turns if turn.text and not turn.text.isspace()]
        turns.append(Turn("call", calls, excluded))
    if role not in ("system", "user"):
        return turns
    tools = [Turn("system", as_json(item[key])) for key in ("tools", "functions") if is_filled(item.get(key))]
    if role == "system":
        return turns + tools
    passages = [
        Turn("system", passage_text(item[key], f"{where}.{key}"))
        for key in item
        if key != text_key and plain(key) in _MESSAGE_CONTEXT and is_filled(item[key])
    ]
    return [*tools, *passages, *turns]


def _without_text(item: Mapping[str, Any], role: str) -> Any:
    """Return the content of a call or of its result that has no text: its result, or what else the message has."""
    if role == "tool":
        for key in _RESULT_KEYS:
            if is_filled(item.get(key)):
                return item[key]
    others = {key: value for key, value in item.items() if key not in (*_ABOUT_CALL, "type") and value is not None}
    if role == "call" and is_filled(item.get("name")):
        others = {"name": item["name"], **others}
    return as_json(others) if others else None


def _parse_keyed(item: Mapping[str, Any], where: str) -> list[Turn]:
    """Parse a message without role, whose keys are roles: {"user": "…", "assistant": "…"}."""
    _refuse_media(item, where)
    turns = []
    keyed = [(_KEYED.get(plain(key)), key) for key in item]
    for role, key in sorted(
        ((role, key) for role, key in keyed if role is not None), key=lambda pair: _ORDER.index(pair[0])
    ):
        value = item[key]
        if isinstance(value, dict) and (text_key := _text_key(value)):
            value = value[text_key]
        if not isinstance(value, str | list):
            continue
        excluded = _excluded(item, where) if role in ANSWERS else ""
        for found, text in _content(value, role, f"{where}.{key}"):
            if tagged := _TAGGED.fullmatch(text):
                text = tagged[1]
            if tagged is None or text not in ("", "None"):
                turns.append(Turn(found, text, excluded))
    if not turns:
        found = ", ".join(shorten(key, 40) for key in list(item)[:10]) or "nothing"
        raise RowError(
            Outcome.WRONG_TYPE, f"{where} has {found}; expected role and content, from and value, or user and assistant"
        )
    return turns


def _calls(item: Mapping[str, Any]) -> str | None:
    """Return the tool calls of a message as JSON text, or None."""
    for key, value in item.items():
        if plain(key) in _CALL_KEYS and is_filled(value):
            return as_json(value)
    return None


def _content(content: Any, role: str, where: str) -> list[tuple[str, str]]:
    """Return the texts of a message, each with its role: its content is a text, or a list of parts."""
    if isinstance(content, str):
        return [(role, content)]
    if content is None:
        if role == "user":
            raise RowError(Outcome.MISSING_FIELD, f"{where} is null; expected text")
        return [] if role == "system" else [(role, "")]
    if isinstance(content, dict):
        if "type" not in content and isinstance(content.get("parts"), list):
            content = content["parts"]
        elif role == "tool" and content.get("type") not in _TEXT_TYPES:
            return [(role, as_json(content))]
        else:
            content = [content]
    if not isinstance(content, list):
        return [(role, as_text(content, where))]
    if role == "tool" and not all(isinstance(part, str) or _is_typed(part) for part in content):
        return [(role, as_json(content))]
    texts: list[str] = []
    calls: list[Any] = []
    results: list[tuple[str, str]] = []
    for index, part in enumerate(content):
        place = f"{where}.{index}"
        kind = _kind(part)
        if kind in _THINKING_TYPES:
            continue
        if kind in _CALL_TYPES:
            calls.append(part)
        elif kind in _RESULT_TYPES:
            results += _content(_result(part), "tool", f"{place}.content")
        else:
            texts.append(_part_text(part, place))
    found = [(role, "".join(texts))] if texts or not (calls or results) else []
    return [*results, *found, *([("call", as_json(calls))] if calls else [])]


def _kind(part: Any) -> Any:
    """Return the type of a part, which may be its only key instead of its `type`."""
    if not isinstance(part, dict):
        return None
    if "type" not in part and len(part) == 1 and (key := next(iter(part))) in (*_CALL_TYPES, *_RESULT_TYPES):
        return key
    return part.get("type")


def _result(part: dict[str, Any]) -> Any:
    """Return the content of a part that is a tool's result."""
    if len(part) == 1 and isinstance(inner := next(iter(part.values())), dict):
        part = inner
    return next((part[key] for key in ("content", *_RESULT_KEYS) if is_filled(part.get(key))), None)


def _is_typed(part: Any) -> bool:
    return isinstance(part, dict) and "text" in part and (len(part) == 1 or isinstance(part.get("type"), str))


def _part_text(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        kind = part.get("type")
        if kind is None and any(_MEDIA_KEYS.fullmatch(key) and part[key] is not None for key in part):
            kind = next(key for key in part if _MEDIA_KEYS.fullmatch(key) and part[key] is not None)
        if isinstance(kind, str) and kind not in _TEXT_TYPES and _MEDIA.search(kind.lower()):
            raise RowError(Outcome.MEDIA, f"{where} is a part of type {shorten(kind)}; expected text parts only")
        for key in ("text", "value", "content", "refusal"):
            text = part.get(key)
            if isinstance(text, dict):
                text = text.get("value")
            if isinstance(text, str):
                return text
    raise RowError(Outcome.WRONG_TYPE, f"{where} is {shorten(part)}; expected a part of type text")


def _refuse_media(item: Mapping[str, Any], where: str) -> None:
    for key in item:
        if _MEDIA_KEYS.fullmatch(key) and is_filled(item[key]):
            raise RowError(Outcome.MEDIA, f"{where}.{key} is {shorten(item[key])}; expected text only")


def truth_of(value: Any) -> bool | None:
    """Return whether a mark is true or above 0, None if it is neither a number nor true or false."""
    if isinstance(value, str):
        text = value.strip().lower()
        try:
            return _TRUTH[text] if text in _TRUTH else float(text) > 0
        except ValueError:
            return None
    return value > 0 if isinstance(value, bool | int | float) else None


def _excluded(item: Mapping[str, Any], where: str) -> str:
    """Return the mark that excludes a message from training, or an empty text."""
    for key, value in item.items():
        kind = None if value is None else kind_of_mark(key)
        if kind is None:
            if key == "train_detail" and is_filled(value):
                raise RowError(Outcome.WRONG_TYPE, f"{where}.{key} marks parts of a text; expected a mark on all of it")
            continue
        truth = truth_of(value)
        if truth is None:
            raise RowError(
                Outcome.WRONG_TYPE, f"{where}.{key} is {shorten(value)}; expected a number, or true or false"
            )
        if truth == (kind == "mask"):
            return f"{where}.{key} is {shorten(value)}"
    return ""


# Pairs


def answer_turns(
    turns: Sequence[Turn], context: Mapping[str, Any], *, first: int = 0, last_only: bool = False
) -> tuple[list[Draft], list[Dropped]]:
    """Make a pair of each answer of a conversation by the rule in the module's docstring.

    Parameters
    ----------
    turns
        The conversation, in order.
    context
        The row's context, for its markup.
    first
        Index of the first turn that may be an answer; earlier ones are context only.
    last_only
        Make the pair of the last answer only.

    Returns
    -------
    list of Draft, list of Dropped
        The answers that are trained on, and those that the data excludes.

    Raises
    ------
    RowError
        There is no answer, or the pairs together are too large.
    """
    begin = next((index for index, turn in enumerate(turns) if turn.role not in ANSWERS), len(turns))
    answers = [index for index, turn in enumerate(turns) if turn.role in ANSWERS and index > begin and index >= first]
    if not answers:
        roles = ", ".join(dict.fromkeys(turn.role for turn in turns))
        count = "1 turn" if len(turns) == 1 else f"{len(turns)} turns"
        detail = f"a conversation of {count} ({roles}) without an answer of an assistant to anything"
        raise RowError(Outcome.NO_PAIR, f"{detail}; `chat:` with `roles:` states what other roles mean")
    if last_only:
        answers = answers[-1:]
    markup: Markup | None = context.get(MARKUP_KEY)
    drafts: list[Draft] = []
    dropped: list[Dropped] = []
    instruction = Instruction()
    chars = total = done = 0
    for part, index in enumerate(answers):
        for role, text, _ in turns[done:index]:
            if markup is not None:
                text = markup.strip(text, answer=role == "assistant")
            chars += len(text)
            instruction.add(role, text)
        done = index
        turn = turns[index]
        if turn.excluded:
            dropped.append(Dropped(part, Outcome.NOT_TRAINED, f"{turn.excluded}: the answer is context only"))
            continue
        total += chars
        if total > MAX_ROW_CHARS:
            check_size(total)
        drafts.append(Draft(instruction.text(), turn.text))
    return drafts, dropped
