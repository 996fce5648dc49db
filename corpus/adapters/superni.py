"""Super-NaturalInstructions task files: `Definition` + `input`, a pair for each distinct output.

A row is an item of the file's list `Instances`; `Definition` is a field beside the list.
"""

from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, as_texts, field, join
from corpus.formats.base import LIST_KEY, Row, RowError


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    definition = context.get("Definition")
    if isinstance(definition, RowError):
        raise RowError(definition.reason, f"the file's Definition cannot be read: {definition.detail}")
    texts = definition if isinstance(definition, list) else [definition]
    head = " ".join(text for text in texts if isinstance(text, str))
    instruction = join(head, as_text(field(row, "input"), "input"))
    outputs = as_texts(field(row, "output"), "output")
    return Adapted([Draft(instruction, output) for output in outputs], frozenset({"input", "output"}))


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return context.get(LIST_KEY) == "Instances" and {"input", "output"} <= row.keys()


SUPERNI = Adapter(name="superni", rank=40, fits=_fits, adapt=_adapt)
