"""Rows with `prompt` and `completion` as texts: one pair, without a closing `<|endoftext|>`."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, field
from corpus.adapters.pairs import is_bare, join_columns
from corpus.formats.base import Row

_END_OF_TEXT = "<|endoftext|>"
_USED = frozenset({"prompt", "completion"})


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    for name in ("prompt", "completion"):
        field(row, name)
    if is_bare(row) and not any(str(row[name]).startswith("[") for name in _USED):  # which may be turns as JSON text
        completion = as_text(row["completion"], "completion").rstrip().removesuffix(_END_OF_TEXT)
        return Adapted((Draft(as_text(row["prompt"], "prompt"), completion),), _USED)
    adapted = join_columns(row, context, "prompt", "completion")
    drafts = [draft._replace(response=draft.response.rstrip().removesuffix(_END_OF_TEXT)) for draft in adapted.drafts]
    return adapted._replace(drafts=drafts)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)


PROMPT_COMPLETION = Adapter(name="prompt_completion", rank=70, fits=_fits, adapt=_adapt)
