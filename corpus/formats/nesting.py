"""Rows inside the rows of a file: the manifest's `rows:`, a path such as `data.*.paragraphs.*.qas`.

Each step of a path is the name of a field, or `*` for every item of a list or every value of an object. What is found
at its end, an object or each item of a list, is a row. It has its own fields, then those of the objects around it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

EACH = "*"


def steps_of(path: str) -> tuple[str, ...]:
    """Return the steps of a path; raise `ValueError` for one that has an empty step."""
    steps = tuple(path.split("."))
    if not all(steps):
        raise ValueError(f"rows: {path!r} has an empty step; expected names and * between dots, as in data.*.questions")
    return steps


def expand(value: Any, steps: Sequence[str], parents: Mapping[str, Any]) -> Iterator[Row | RowError]:
    """Yield the rows at a path inside a value; a `RowError` where the path leads nowhere, or to an empty list.

    Parameters
    ----------
    value
        An object, or a list or object whose values the first step `*` names.
    steps
        The path.
    parents
        Fields of the objects around `value`.
    """
    if not steps:
        if isinstance(value, list):
            yield from expand(value, (EACH,), parents)
        elif isinstance(value, dict):
            yield {**parents, **value}
        else:
            yield RowError(Outcome.NOT_A_RECORD, f"found {shorten(value)} at the end of `rows:`; expected an object")
        return
    step, rest = steps[0], steps[1:]
    if step == EACH:
        yield from _each(value, rest, parents)
    elif not isinstance(value, dict) or step not in value:
        found = ", ".join(map(repr, list(value)[:12])) if isinstance(value, dict) else shorten(value)
        yield RowError(Outcome.MISSING_FIELD, f"`rows:` names {step!r}, which is not there; found {found}")
    else:
        around = {name: field for name, field in value.items() if name != step}
        yield from expand(value[step], rest, {**parents, **around})


def _each(value: Any, rest: Sequence[str], parents: Mapping[str, Any]) -> Iterator[Row | RowError]:
    if not value:
        yield RowError(Outcome.NO_PAIR, "`rows:` leads to an empty list")
    elif isinstance(value, list):
        for item in value:
            yield from expand(item, rest, parents)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from expand(item, rest, {**parents, "id": key})
    else:
        yield RowError(Outcome.NOT_A_RECORD, f"`rows:` has * for {shorten(value)}; expected a list or an object")
