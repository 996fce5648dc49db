"""Preference data: which of several answers is the good one, and the prompt that they answer."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from corpus.adapters.base import Adapted, Dropped, as_text, from_json, is_filled, join, list_columns
from corpus.adapters.chat import conversation_column, parse_conversation
from corpus.adapters.columns import columns, gather, with_context
from corpus.adapters.conversation import ANSWERS, Turn, answer_turns, is_turns, parse_turns
from corpus.adapters.transcript import parse_transcript
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

PROMPT_NAMES = ("prompt", "instruction", "question", "query", "input", "problem", "context", "post", "history")
"""Columns with the prompt of several answers, most likely first."""

_TEXT_NAMES = (
    "text",
    "content",
    "response",
    "answer",
    "output",
    "completion",
    "body",
    "value",
    "message",
    "generation",
)
"""Keys of the text of an answer that is an object."""

_SPELLINGS = {
    True: "true yes y t 1 +1 good desirable desired chosen accepted accept preferred correct right positive pos like"
    " liked upvote up thumbsup helpful pass passed win winner best better kept keep ok 👍",
    False: "false no n f 0 -1 bad undesirable undesired rejected reject dispreferred nonpreferred incorrect wrong"
    " negative neg dislike disliked downvote down thumbsdown unhelpful fail failed lose loser worst worse dropped drop"
    " notok 👎",
}
_IS_GOOD = {spelling: good for good, spellings in _SPELLINGS.items() for spelling in spellings.split()}


def is_good(label: Any) -> bool | None:
    """Return whether a label marks an answer as good, or None for a label of unknown meaning."""
    if isinstance(label, bool):
        return label
    if isinstance(label, int | float):
        return True if label == 1 else False if label in (0, -1) else None
    if not isinstance(label, str):
        return None
    text = label.strip().casefold().replace("_", "").replace(" ", "")
    text = text.removesuffix(".0")
    return _IS_GOOD.get(text if text in ("-1", "+1") else text.replace("-", ""))


def as_number(value: Any) -> float | None:
    """Return a score or rank as a number, of an object the mean of its numbers; None for anything else."""
    if isinstance(value, dict):
        numbers = [number for item in value.values() if (number := as_number(item)) is not None]
        return mean(numbers) if numbers else None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def prompt_turns(row: Row, exclude: frozenset[str] = frozenset()) -> tuple[list[Turn], frozenset[str]]:
    """Return the turns before the answers of a row, with its context, and the columns they come from.

    Raises
    ------
    RowError
        The row has neither a prompt nor a conversation.
    """
    column = conversation_column({name: value for name, value in row.items() if name not in exclude})
    if column is not None:
        return parse_conversation({name: value for name, value in row.items() if name not in exclude})
    plain = columns(tuple(row)).plain
    names = [plain[name] for name in PROMPT_NAMES if name in plain and plain[name] not in exclude]
    prompt_column = next((name for name in names if is_filled(row[name])), None)
    if prompt_column is None:
        raise RowError(Outcome.MISSING_FIELD, f"answers without a prompt or messages; found {list_columns(row)}")
    prompt = row[prompt_column]
    used = frozenset({prompt_column})
    if isinstance(prompt, dict) and any(is_turns(value) for value in prompt.values()):  # {"messages": …, "tools": …}
        inner, _ = parse_conversation(prompt)
        found = gather(row, exclude=used | exclude)
        return with_context(found, inner), used | found.used
    if is_turns(prompt):
        turns = parse_turns(prompt, prompt_column)
    else:
        text = prompt if isinstance(prompt, str) else _text(prompt, prompt_column)
        transcript = parse_transcript(text)
        given = next(
            (plain[name] for name in ("input", "inputs") if name in plain and plain[name] != prompt_column), None
        )
        if given is not None and given not in exclude and is_filled(row[given]):
            text = join(text, as_text(row[given], given))
            used |= {given}
        turns = transcript or [Turn("user", text)]
    found = gather(row, exclude=used | exclude)
    return with_context(found, turns), used | found.used


def answers_of(value: Any, column: str) -> list[Turn]:
    """Return the turns of one answer: a text, an object with a text, a message, or a list of messages."""
    if isinstance(value, str):
        parsed = from_json(value) if value.startswith("[") else value
        if not is_turns(parsed):
            return [Turn("assistant", value)]
        value = parsed
    if isinstance(value, dict) and not is_turns([value]):
        return [Turn("assistant", _text(value, column))]
    if isinstance(value, list | dict):
        return parse_turns(value, column)
    return [Turn("assistant", as_text(value, column))]


def _text(value: Any, column: str) -> str:
    if isinstance(value, dict):
        for key in (*_TEXT_NAMES, "full_text"):
            if is_filled(value.get(key)):
                return _text(value[key], f"{column}.{key}")
    return as_text(value, column)


def best_answer(
    row: Row, context: Mapping[str, Any], answer: Any, column: str, used: frozenset[str], worse: Sequence[str] = ()
) -> Adapted:
    """Return the pair of an answer that is the good one of its row, and the others as dropped.

    Parameters
    ----------
    row, context
        The row and its context.
    answer
        The answer, as for `answers_of`; with the turns before it, or without.
    column
        Its place in the row, for messages.
    used
        Columns with the answers and what decides between them.
    worse
        For each other answer, where it is and why it is worse.
    """
    others = [Dropped(part, Outcome.OUTRANKED, detail) for part, detail in enumerate(worse, start=1)]
    if (exchange := _exchange(row, answer, used)) is not None:
        prompt_column, turns = exchange
        found = gather(row, exclude=used | {prompt_column})
        drafts, dropped = answer_turns(with_context(found, turns), context)
        others = [item._replace(part=item.part + len(drafts) - 1) for item in others]
        return Adapted(drafts, used | found.used | {prompt_column}, [*dropped, *others])
    turns = answers_of(answer, column)
    if len(turns) == 1 and isinstance(answer, str) and (transcript := parse_transcript(answer)):
        turns = transcript
    if any(turn.role == "user" for turn in turns):  # the answer repeats its prompt
        found = gather(row, exclude=used)
        turns, used = with_context(found, turns), used | found.used | _repeated(row, turns)
        first = 0
    else:
        prompt, columns_of_prompt = prompt_turns(row, used)
        prompt = _without_answer(prompt)
        turns, first, used = [*prompt, *turns], len(prompt), used | columns_of_prompt
    drafts, dropped = answer_turns(turns, context, first=first, last_only=True)
    # The good answer is part 0, whatever its place, so that the others do not decide its identity.
    return Adapted(drafts, used, [*dropped, *others])


def _without_answer(turns: list[Turn]) -> list[Turn]:
    """Return a conversation without the assistant's turns at its end, which repeat one of the row's answers."""
    others = [index for index, turn in enumerate(turns) if turn.role not in ANSWERS]
    asked = any(turns[index].role != "system" for index in others)
    return turns[: others[-1] + 1] if asked else turns


def _exchange(row: Row, answer: Any, exclude: frozenset[str]) -> tuple[str, list[Turn]] | None:
    """Return the column of the questions, and the turns, of lists of questions and of as many answers; else None."""
    plain = columns(tuple(row)).plain
    answers = _texts(answer)
    column = next((plain[name] for name in PROMPT_NAMES if name in plain and plain[name] not in exclude), None)
    questions = None if answers is None or column is None else _texts(row[column])
    if answers is None or column is None or questions is None or len(questions) != len(answers):
        return None
    return column, [
        Turn(role, text)
        for pair in zip(questions, answers, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _texts(value: Any) -> list[str] | None:
    """Return a list of texts, also as JSON text; None for anything else."""
    found = from_json(value) if isinstance(value, str) and value.startswith("[") else value
    return found if isinstance(found, list) and found and all(isinstance(item, str) for item in found) else None


def _repeated(row: Row, turns: Sequence[Turn]) -> frozenset[str]:
    """Return the columns that repeat turns of a conversation."""
    texts = {turn.text for turn in turns}
    names = []
    for name, value in row.items():
        if (isinstance(value, str) and value in texts) or (isinstance(value, list) and is_turns(value)):
            try:
                repeated = isinstance(value, str) or {turn.text for turn in parse_turns(value, name)} <= texts
            except RowError:
                continue
            if repeated:
                names.append(name)
    return frozenset(names)


def not_scored(column: str, value: Any, expected: str) -> RowError:
    """Return the error for a score, rank or label that does not say which answer is good."""
    return RowError(
        Outcome.WRONG_TYPE,
        f"{column} is {shorten(value)}; expected {expected}; state `map:`, or an `adapter:` that does not read it",
    )
