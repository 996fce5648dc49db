"""Column templates of a manifest's `map:`, for rows that no adapter fits."""

import re
from collections.abc import Mapping
from typing import Any

from corpus.adapters.base import Adapt, Adapted, Draft, as_text, as_texts, list_columns
from corpus.formats.base import Row, RowError
from corpus.outcome import Outcome

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


def template_columns(template: str) -> tuple[str, ...]:
    """Return the columns that a template names.

    Raises
    ------
    ValueError
        A brace is neither part of a placeholder nor doubled.
    """
    columns = []
    for match in _PLACEHOLDER.finditer(template):
        if match.group(1) is not None:
            columns.append(match.group(1).removesuffix("?"))
        elif match.group() not in ("{{", "}}"):
            raise ValueError(
                f"the template {template!r} has a single {match.group()!r} at character {match.start()}; "
                "expected {column}, or {{ and }} for literal braces"
            )
    return tuple(columns)


def look_up(row: Row, path: str) -> Any:
    """Return the value of the column `path`, or of `a.b` inside it; raise `RowError` when there is none."""
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise RowError(Outcome.MISSING_FIELD, f"there is no {path}; found {list_columns(row)}")
    return value


def fill(template: str, row: Row) -> str:
    """Replace each `{column}` of a template by the column's text; raise `RowError` when one has none."""

    def text(match: re.Match[str]) -> str:
        column = match.group(1)
        if column is None:
            return match.group()[0]
        if not column.endswith("?"):
            return as_text(look_up(row, column), column)
        try:
            value = look_up(row, column[:-1])
        except RowError:
            return ""
        return "" if value is None else as_text(value, column[:-1])

    return _PLACEHOLDER.sub(text, template)


def mapped(instruction: str, response: str | None) -> Adapt:
    """Make an adapter of two templates; without a response template every response is empty."""
    response = response or ""
    used = frozenset(column.split(".")[0] for column in template_columns(instruction) + template_columns(response))
    single = re.fullmatch(r"\{([^{}?]+)\}", response)

    def adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
        filled = fill(instruction, row)
        if single is None:
            return Adapted((Draft(filled, fill(response, row)),), used)
        column = single.group(1)
        return Adapted([Draft(filled, text) for text in as_texts(look_up(row, column), column)], used)

    return adapt
