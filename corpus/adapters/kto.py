"""Preference data with a label beside a conversation or a prompt and its answer: kept if the label is good.

Labels are booleans, 1 and 0, or words such as "true", "yes", "good", "desirable". A row with another label is refused.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from corpus.adapters.base import Adapted, Adapter, list_columns
from corpus.adapters.chat import CHAT, parse_conversation
from corpus.adapters.choices import CHOICES
from corpus.adapters.columns import columns
from corpus.adapters.conversation import answer_turns
from corpus.adapters.pairs import PAIRS
from corpus.adapters.preferences import is_good
from corpus.adapters.prompt_completion import PROMPT_COMPLETION
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_LABELS = (
    "label",
    "ktotag",
    "ktolabel",
    "isdesirable",
    "desirable",
    "isgood",
    "iscorrect",
    "ischosen",
    "ispreferred",
    "isaccepted",
    "accepted",
    "preferred",
    "thumbsup",
)
"""Columns with a label, most likely first."""


@lru_cache(maxsize=4096)
def _label_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    plain = columns(names).plain
    return tuple(plain[name] for name in _LABELS if name in plain)


def _label(row: Row) -> str | None:
    """Return the column of the row's label, or None."""
    names = _label_columns(tuple(row))
    return next((name for name in names if row[name] is not None and row[name] != ""), None)


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    column = _label(row)
    if column is None:
        names = _label_columns(tuple(row))
        found = f"{names[0]} is {shorten(row[names[0]])}" if names else f"there is no label; found {list_columns(row)}"
        raise RowError(Outcome.MISSING_FIELD, f"{found}; expected true or false, whether the answer is good")
    good = is_good(row[column])
    inner = CHAT if CHAT.fits(row, context) else PROMPT_COMPLETION if PROMPT_COMPLETION.fits(row, context) else PAIRS
    if good is None:
        raise RowError(
            Outcome.WRONG_TYPE,
            f"{column} is {shorten(row[column])}; expected true or false, 1 or 0, or a word such as good or bad; "
            f"if it does not say whether the answer is good, state `adapter: {inner.name}`",
        )
    if not good:
        raise RowError(Outcome.REJECTED_LABEL, f"{column} is {shorten(row[column])}: the answer is marked as bad")
    used = frozenset({column})
    if inner is CHAT:
        turns, columns_of_turns = parse_conversation(row)
        drafts, dropped = answer_turns(turns, context, last_only=True)
        return Adapted(drafts, used | columns_of_turns, dropped)
    adapted = inner.adapt(row, context)
    return adapted._replace(used=adapted.used | used)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    column = _label(row)
    if column is None or CHOICES.fits(row, context):
        return False
    if column == "label" and (CHAT.fits(row, context) or {"prompt", "completion"} <= row.keys()):
        return True
    known = is_good(row[column]) is not None
    return known and (CHAT.fits(row, context) or PAIRS.fits(row, context))


KTO = Adapter(name="kto", rank=10, fits=_fits, adapt=_adapt)
