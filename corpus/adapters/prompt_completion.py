"""Rows with `prompt` and `completion`: one pair, without a closing `<|endoftext|>`."""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, field
from corpus.formats.base import Row

_END_OF_TEXT = "<|endoftext|>"


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    prompt = as_text(field(row, "prompt"), "prompt")
    completion = as_text(field(row, "completion"), "completion")
    used = frozenset({"prompt", "completion"})
    return Adapted((Draft(prompt, completion.rstrip().removesuffix(_END_OF_TEXT)),), used)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)


PROMPT_COMPLETION = Adapter(name="prompt_completion", rank=70, fits=_fits, adapt=_adapt)
