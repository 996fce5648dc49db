"""Preference data with a boolean `label` beside a conversation or prompt: the last answer, if the label is true."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, field
from corpus.adapters.chat import CHAT, last_answer, parse_conversation
from corpus.adapters.prompt_completion import PROMPT_COMPLETION
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    label = field(row, "label")
    if not _is_label(label):
        raise RowError(Outcome.WRONG_TYPE, f"label is {shorten(label)}; expected true or false")
    if str(label).lower() == "false":
        raise RowError(Outcome.REJECTED_LABEL, "label is false: the response is marked as bad")
    if CHAT.fits(row, context):
        turns, used = parse_conversation(row)
        return Adapted((last_answer(turns),), used | {"label"})
    adapted = PROMPT_COMPLETION.adapt(row, context)
    return Adapted(adapted.drafts, adapted.used | {"label"})


def _is_label(label: Any) -> bool:
    return isinstance(label, bool) or (isinstance(label, str) and label.lower() in ("true", "false"))


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _is_label(row.get("label")) and (CHAT.fits(row, context) or PROMPT_COMPLETION.fits(row, context))


KTO = Adapter(name="kto", rank=10, fits=_fits, adapt=_adapt)
