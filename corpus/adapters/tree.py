"""Trees of messages (OpenAssistant): a pair for each message of a user and its best answer.

Of several answers to one message, the one of the lowest rank is taken, without ranks the first; of several messages of
a user after one answer, each. The instruction is the path from the root. Deleted messages are left out with what
follows them. Answers of lower ranks are dropped by name.
"""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import MAX_ROW_CHARS, Adapted, Adapter, Draft, Dropped, check_size, list_columns
from corpus.adapters.conversation import ANSWERS, Turn, answer_turns, parse_turns
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome


def _root(row: Row) -> tuple[str | None, Any] | None:
    """Return the column of the root message, None for the row itself, and the message; None for another layout."""
    for name in ("prompt", "root", "tree"):
        if isinstance(row.get(name), dict) and isinstance(row[name].get("replies"), list):
            return name, row[name]
    return (None, row) if isinstance(row.get("replies"), list) and "role" in row and "text" in row else None


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    found = _root(row)
    if found is None:
        raise RowError(Outcome.MISSING_FIELD, f"no message with replies in prompt; found {list_columns(row)}")
    column, root = found
    drafts: list[Draft] = []
    chars = worse = 0
    paths: list[tuple[list[Turn], Any]] = [([], root)]
    while paths:
        path, message = paths.pop()
        turns = [*path, *parse_turns([message], column or "the row")]
        if turns[-1].role in ANSWERS and any(turn.role not in ANSWERS for turn in turns):
            drafts += answer_turns(turns, context, last_only=True)[0]
            chars += sum(len(turn.text) for turn in turns)
            if chars > MAX_ROW_CHARS:
                check_size(chars)
        replies = [
            reply for reply in message.get("replies") or [] if isinstance(reply, dict) and not reply.get("deleted")
        ]
        if turns[-1].role not in ANSWERS:
            worse += max(0, len(replies) - 1)
            replies = sorted(replies, key=_rank)[:1]
        paths += [(turns, reply) for reply in reversed(replies)]
    if not drafts:
        raise RowError(Outcome.NO_PAIR, "a tree of messages without an answer")
    dropped = [
        Dropped(part, Outcome.OUTRANKED, "another answer to the same message has a better rank")
        for part in range(len(drafts), len(drafts) + worse)
    ]
    return Adapted(drafts, frozenset({column}) if column else frozenset({"role", "text", "replies"}), dropped)


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else float("inf")


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _root(row) is not None


TREE = Adapter(name="tree", rank=15, fits=_fits, adapt=_adapt)
