"""Preference data with a label beside a conversation or a prompt and its answer: kept if the label is good.

Labels are booleans, 1 and 0, or words such as "true", "yes", "good", "desirable". A row with another label is refused.
Columns such as `feedback`, which may hold other things, are labels where they hold such a word or a boolean; those such
as `is_bad` mean the reverse.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from corpus.adapters.base import Adapted, Adapter, list_columns
from corpus.adapters.chat import CHAT, parse_answered
from corpus.adapters.choices import CHOICES
from corpus.adapters.columns import columns
from corpus.adapters.conversation import answer_turns
from corpus.adapters.pairs import PAIRS
from corpus.adapters.preferences import is_good
from corpus.adapters.prompt_completion import PROMPT_COMPLETION
from corpus.adapters.ranked import RANKED
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
    "binarylabel",
    "humanlabel",
    "labelbinary",
    "correct",
    "iscorrectanswer",
    "chosen",
    "good",
    "passed",
    "issuccess",
)
"""Columns with a label, most likely first."""
_WORDS = (
    *("feedback", "userfeedback", "humanfeedback", "vote", "uservote", "thumb", "thumbs", "quality", "verdict"),
    *("judgement", "judgment", "preference"),
)
"""Columns that are labels if they hold a word of a known meaning or a boolean."""
_REVERSED = ("rejected", "isrejected", "isbad", "bad", "isincorrect", "iswrong", "isundesirable", "undesirable")
"""Columns that are labels of a bad answer if they hold a boolean, 0 or 1."""


_NONE: tuple[tuple[str, ...], ...] = ((), (), ())


@lru_cache(maxsize=4096)
def _label_columns(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    by_name = columns(names).plain
    labels, words, reversed_labels = (
        tuple(by_name[name] for name in candidates if name in by_name) for candidates in (_LABELS, _WORDS, _REVERSED)
    )
    return labels, words, reversed_labels


def _label(row: Row) -> tuple[str, bool | None] | None:
    """Return the column of the row's label, and whether it marks the answer as good; None without a label."""
    labels, words, reversed_labels = _label_columns(tuple(row))
    for name in labels:
        value = row[name]
        if value is None or value == "" or isinstance(value, dict):  # a label of topics, as in Infinity-Instruct
            continue
        if not (name.lower() == "chosen" and is_good(value) is None):
            return name, is_good(value)
    for name in words:
        value = row[name]
        if isinstance(value, bool | str) and str(value).strip() not in ("0", "1") and is_good(value) is not None:
            return name, is_good(value)
        if value == -1:
            return name, False
    for name in reversed_labels:
        if row[name] in (True, False, "true", "false", "True", "False", "0", "1"):
            return name, not is_good(row[name])
    return None


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    label = _label(row)
    if label is None:
        names, _, _ = _label_columns(tuple(row))
        found = f"{names[0]} is {shorten(row[names[0]])}" if names else f"there is no label; found {list_columns(row)}"
        raise RowError(Outcome.MISSING_FIELD, f"{found}; expected true or false, whether the answer is good")
    column, good = label
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
        turns, first, columns_of_turns = parse_answered(row)
        drafts, dropped = answer_turns(turns, context, first=first, last_only=True)
        return Adapted(drafts, used | columns_of_turns, dropped)
    adapted = inner.adapt(row, context)
    return adapted._replace(used=adapted.used | used)


def may_have_label(names: tuple[str, ...]) -> bool:
    """Whether one of some columns may be a label."""
    return _label_columns(names) != _NONE


def refuse_bad(row: Row) -> None:
    """Raise `RowError` for a row that a boolean or a word marks as bad, in a file of which most rows have no label."""
    if not may_have_label(tuple(row)) or (label := _label(row)) is None or label[1] is not False:
        return
    column = label[0]
    value = row[column]
    if isinstance(value, bool) or (isinstance(value, str) and any(map(str.isalpha, value))):
        raise RowError(Outcome.REJECTED_LABEL, f"{column} is {shorten(value)}: the answer is marked as bad")


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    label = _label(row)
    if label is None or CHOICES.fits(row, context) or RANKED.fits(row, context):
        return False
    column, good = label
    if column == "label" and (CHAT.fits(row, context) or {"prompt", "completion"} <= row.keys()):
        return True
    return good is not None and (CHAT.fits(row, context) or PAIRS.fits(row, context))


KTO = Adapter(name="kto", rank=10, fits=_fits, adapt=_adapt)
