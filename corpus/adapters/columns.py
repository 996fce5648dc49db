"""Columns by meaning: which columns of a row are context of its question, whatever the adapter.

`columns(names)` is computed once for each set of column names. `gather` reads the context of one row from them:

    system ─▶ tools ─▶ passage ─▶ earlier turns ─▶ the question, with its input and options

is the order in which every adapter joins an instruction.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import Adapted, Draft, as_json, from_json, is_filled, passage_text, plain_names
from corpus.adapters.conversation import ANSWERS, Turn, answer_turns, parse_turns
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

SYSTEM_NAMES = (
    "system",
    "systemprompt",
    "systemmessage",
    "systeminstruction",
    "systeminstructions",
    "systemtext",
    "systemcontent",
    "sysprompt",
    "sysmessage",
    "metainstruction",
    "metaprompt",
)
"""Columns with a system text."""

TOOL_NAMES = (
    "tools",
    "functions",
    "function",
    "availabletools",
    "tooldefinitions",
    "toolschemas",
    "functiondefinitions",
    "functiondeclarations",
    "apis",
)
"""Columns with declared tools."""

PASSAGE_NAMES = (
    "context",
    "contexts",
    "passage",
    "passages",
    "paragraph",
    "paragraphs",
    "para",
    "document",
    "documents",
    "article",
    "story",
    "body",
    "background",
    "evidence",
    "evidences",
    "support",
    "knowledge",
    "table",
    "dialogue",
    "dialog",
)
"""Columns with a text that a question is about."""

HISTORY_NAMES = (
    "history",
    "chathistory",
    "conversationhistory",
    "dialoghistory",
    "dialoguehistory",
    "messagehistory",
    "previousturns",
    "previousmessages",
    "priormessages",
    "pastmessages",
    "priorturns",
    "pastturns",
)
"""Columns with earlier turns."""

_MEDIA = re.compile(
    r"(?:image|img|picture|photo|audio|sound|speech|video|pixelvalues)s?(?:url|path|file|bytes|data|name)?s?\d*"
)
_MEDIA_REFERENCE = re.compile(
    r"(?i)<\|?/?(?:image|img|picture|audio|sound|speech|video)[^<>\n]{0,40}>|\[(?:image|img|audio|video)\]"
    r"|\b(?:image|picture|photo(?:graph)?|figure|diagram|chart|screenshot|audio|recording|video|clip)s?\b|图|音频|视频"
)


class Columns(NamedTuple):
    """Columns of a row by meaning."""

    plain: Mapping[str, str]
    """Plain names, letters and digits without case, to columns."""
    system: tuple[str, ...]
    tools: tuple[str, ...]
    passages: tuple[str, ...]
    history: tuple[str, ...]
    media: tuple[str, ...]


@lru_cache(maxsize=4096)
def columns(names: tuple[str, ...]) -> Columns:
    """Sort column names by meaning."""
    plain = plain_names(names)

    def known(candidates: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(plain[name] for name in candidates if name in plain)

    return Columns(
        plain,
        known(SYSTEM_NAMES),
        known(TOOL_NAMES),
        known(PASSAGE_NAMES),
        known(HISTORY_NAMES),
        tuple(column for name, column in plain.items() if _MEDIA.fullmatch(name)),
    )


class Context(NamedTuple):
    """The context of a row's question."""

    head: list[Turn]
    """Texts that come first: of the system, tools and passages."""
    history: list[Turn]
    used: frozenset[str]


_NO_CONTEXT = Context([], [], frozenset())


def gather(row: Row, *, passages: bool = True, exclude: frozenset[str] = frozenset()) -> Context:
    """Read the context of a row.

    Parameters
    ----------
    row
        The row.
    passages
        Whether the head has the passages too.
    exclude
        Columns that have another use.
    """
    found = columns(tuple(row))
    names = (found.system, found.tools, found.passages if passages else (), found.history)
    if not any(names):
        return _NO_CONTEXT
    head: list[Turn] = []
    history: list[Turn] = []
    used: list[str] = []
    texts: set[str] = set()
    for group, columns_of_group in enumerate(names):
        for column in columns_of_group:
            value = row[column]
            if column in exclude or isinstance(value, bool | int | float) or _is_other_function(column, value):
                continue
            used.append(column)
            if not is_filled(value):
                continue
            if group == 3:
                history += history_turns(value, column)
                continue
            text = as_json(value) if group == 1 else passage_text(value, column)
            if text not in texts:
                head.append(Turn("system", text))
                texts.add(text)
    return Context(head, history, frozenset(used))


def _is_other_function(column: str, value: Any) -> bool:
    """Whether a column `function` is something else than the declaration of one, such as code."""
    return column.lower() == "function" and isinstance(value, str) and isinstance(from_json(value), str)


def history_turns(value: Any, column: str) -> list[Turn]:
    """Return the earlier turns of a column: turns in any usual shape, or a text."""
    value = from_json(value) if isinstance(value, str) else value
    return [Turn("system", value)] if isinstance(value, str) else parse_turns(value, column)


def with_context(context: Context, turns: list[Turn], responses: Sequence[str] = ()) -> list[Turn]:
    """Join a row's context and its turns; a system text that both have comes once.

    A history that ends with the row's own question, or with that and an answer of the row, is cut before it.

    Parameters
    ----------
    context
        The context of the row.
    turns
        The row's own turns.
    responses
        Answers of the row that are not among its turns.
    """
    begin = next((index for index, turn in enumerate(turns) if turn.role != "system"), len(turns))
    own = [turn for turn in turns[:begin] if turn not in context.head]
    history = [turn for turn in context.history if turn not in context.head]
    if history and begin < len(turns):
        answers = {*responses, *(turn.text for turn in turns[begin + 1 : begin + 2])}
        asked = len(history) - (history[-1].role in ANSWERS and history[-1].text in answers)
        if asked and history[asked - 1] == turns[begin]:
            history = history[: asked - 1]
    return [*context.head, *own, *history, *turns[begin:]]


def refuse_media(row: Row, adapted: Adapted) -> None:
    """Raise `RowError` for a row with a column of images, sound or video that its text is about.

    The row's own files and paths always count; a URL counts if an instruction mentions media.
    """
    for column in columns(tuple(row)).media:
        value = row[column]
        if column in adapted.used or not is_filled(value) or isinstance(value, bool | int | float):
            continue
        if not _is_remote(value) or any(_MEDIA_REFERENCE.search(draft.instruction) for draft in adapted.drafts):
            raise RowError(
                Outcome.MEDIA,
                f"{column} is {shorten(value)}; expected text only (`map:` makes pairs without the column)",
            )


def _is_remote(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_remote(item) for item in value)
    return isinstance(value, str) and (value.startswith(("http://", "https://")) or " " in value)


def pair(row: Row, context: Mapping[str, Any], instruction: str, responses: list[str], used: frozenset[str]) -> Adapted:
    """Make a pair of each response to an instruction, which follows the context of the row's other columns."""
    found = gather(row, passages=False, exclude=used)
    if not found.used:
        return Adapted([Draft(instruction, response) for response in responses], used)
    turns = with_context(found, [Turn("user", instruction)], responses)
    drafts = []
    for response in responses:
        drafts += answer_turns([*turns, Turn("assistant", response)], context, first=len(turns))[0]
    return Adapted(drafts, used | found.used)
