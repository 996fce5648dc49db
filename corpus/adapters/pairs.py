"""Rows whose columns are an instruction and a response under any usual names: a pair for each distinct response.

Of several columns that could be the response, the first in `RESPONSE_NAMES` is taken; so model predictions with a
`response` and a gold `target` yield the `response`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import Adapted, Adapter, Draft, as_text, as_texts, join, list_columns, plain_names
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome

INSTRUCTION_NAMES = (
    "instruction",
    "instructions",
    "definition",
    "prompt",
    "question",
    "query",
    "problem",
    "squestion",
    "originaltext",
    "input",
    "inputs",
    "context",
    "source",
)
"""Columns that can be the instruction, most likely first."""

RESPONSE_NAMES = (
    "response",
    "output",
    "outputs",
    "completion",
    "generatedsolution",
    "solution",
    "answer",
    "answers",
    "target",
    "targets",
    "continuation",
    "canonicalsolution",
    "ans",
    "lsolutions",
)
"""Columns that can be the response, most likely first."""

INPUT_NAMES = ("input", "inputs", "context")
"""Columns joined after an instruction by a blank line (`instruction`, `definition`)."""

PASSAGE_NAMES = ("context", "passage", "body")
"""Columns joined before a question by a blank line (`question`, `query`, `problem`, `squestion`)."""

_INSTRUCTIONS = frozenset({"instruction", "instructions", "definition"})
_QUESTIONS = frozenset({"question", "query", "problem", "squestion"})


class _Columns(NamedTuple):
    main: str
    parts: tuple[str, ...]
    """`main` and the columns joined to it, in the order of the text."""
    response: str
    used: frozenset[str]


@lru_cache(maxsize=4096)
def _columns(names: tuple[str, ...]) -> _Columns | None:
    """Pick the instruction's columns and the response's column."""
    plain = plain_names(names)
    response = next((plain[name] for name in RESPONSE_NAMES if name in plain), None)
    main = next((name for name in INSTRUCTION_NAMES if name in plain), None)
    if response is None or main is None:
        return None
    parts = [plain[main]]
    if main in _INSTRUCTIONS:
        parts += [plain[name] for name in INPUT_NAMES if name in plain][:1]
    elif main in _QUESTIONS:
        parts = [plain[name] for name in PASSAGE_NAMES if name in plain][:1] + parts
    return _Columns(plain[main], tuple(parts), response, frozenset({*parts, response}))


def _adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
    columns = _columns(tuple(row))
    if columns is None:
        raise RowError(
            Outcome.MISSING_FIELD,
            f"no columns that are known as instruction and response; found {list_columns(row)}; "
            "state them in the source's `map:`",
        )
    parts = [row[name] for name in columns.parts]
    if len(parts) == 1:
        instruction = as_text(parts[0], columns.parts[0])
    else:
        # The joined column may be null: in many data sets most rows have no input.
        texts = [
            "" if part is None and name != columns.main else as_text(part, name)
            for part, name in zip(parts, columns.parts, strict=True)
        ]
        instruction = join(*texts)
    response = row[columns.response]
    if isinstance(response, str):
        return Adapted((Draft(instruction, response),), columns.used)
    return Adapted([Draft(instruction, text) for text in as_texts(response, columns.response)], columns.used)


def _fits(row: Row, context: Mapping[str, Any]) -> bool:
    return _columns(tuple(row)) is not None


PAIRS = Adapter(name="pairs", rank=80, fits=_fits, adapt=_adapt)
