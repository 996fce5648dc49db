"""Rows with `prompt` and `completion` as texts: one pair, without a closing `<|endoftext|>`."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, Draft, field
from corpus.adapters.pairs import is_bare, join_columns
from corpus.formats.base import Row

_END_OF_TEXT = "<|endoftext|>"
_USED = frozenset({"prompt", "completion"})


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    for name in ("prompt", "completion"):
        field(row, name)
    prompt, completion = row["prompt"], row["completion"]
    # A text that begins so may be turns as JSON.
    if type(prompt) is str and type(completion) is str and prompt[:1] != "[" and completion[:1] != "[" and is_bare(row):
        return Adapted((Draft(prompt, completion.rstrip().removesuffix(_END_OF_TEXT)),), _USED)
    adapted = join_columns(row, context, "prompt", "completion")
    drafts = [draft._replace(response=draft.response.rstrip().removesuffix(_END_OF_TEXT)) for draft in adapted.drafts]
    return adapted._replace(drafts=drafts)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)


PROMPT_COMPLETION = Adapter(name="prompt_completion", rank=70, fits=_fits, adapt=_adapt)
