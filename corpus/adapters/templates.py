"""Column templates of a manifest's `map:`, for rows that no adapter fits.

    {column}   {object.key}   {list.0}   {list.*.key}   {options[answer]}   {column?}

A `*` selects every item of a list or object; its texts are joined by newlines. `[path]` takes the item that another
field names (of the same item of a `*`, or else of the row): by key or label, by number from 0, or by letter. Lists and
objects may be JSON text.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.adapters.base import Adapt, Adapted, Draft, as_text, as_texts, from_json, list_columns
from corpus.adapters.options import parse_options, right_options
from corpus.formats.base import Row, RowError, shorten
from corpus.outcome import Outcome

_STEPS = re.compile(r"(?:^|\.)([^.\[\]]+)|\[([^\[\]]+)\]")
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


class _By(NamedTuple):
    """A step into a list or object, to the item that another field names."""

    path: str


@lru_cache(maxsize=4096)
def _steps(path: str) -> tuple[str | _By, ...]:
    found = list(_STEPS.finditer(path))
    if "".join(match.group() for match in found) != path:
        return tuple(path.split("."))
    return tuple(_By(match[2]) if match[2] else match[1] for match in found)


def used_columns(templates: Sequence[str]) -> frozenset[str]:
    """Return the names of the columns that paths in some templates may begin with."""
    names: set[str] = set()
    paths = [path for template in templates for path in template_columns(template)]
    while paths:
        first, *others = _steps(path := paths.pop())
        names |= {path, str(first)}
        paths += [step.path for step in others if isinstance(step, _By)]
    return frozenset(names)


def look_up(row: Row, path: str, *, optional: bool = False) -> Any:
    """Return the value of the column `path`, or of a path inside of the row.

    Parameters
    ----------
    row, path
        The row; a column's name, or a path as in the module's docstring.
    optional
        Leave out items of a `*` that lack the rest of the path.

    Raises
    ------
    RowError
        There is no such value.
    """
    if path in row:
        return row[path]
    return _walk(row, _steps(path), row, "", optional)


def _walk(value: Any, steps: Sequence[str | _By], row: Row, place: str, optional: bool) -> Any:
    """Follow `steps` from `value`, which is at `place` in the row."""
    item = value
    for index, step in enumerate(steps):
        if isinstance(value, str):
            value = from_json(value)
        if isinstance(step, _By):
            near = isinstance(item, dict) and _steps(step.path)[0] in item
            key = look_up(item if near else row, step.path)
            value, place = _select(value, key, place, step.path), f"{place}[{step.path}]"
        elif isinstance(value, dict) and step in value:
            value, place = value[step], f"{place}.{step}".lstrip(".")
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value, place = value[int(step)], f"{place}.{step}"
        elif step == "*" and isinstance(value, list | dict) and place:
            return _join(value, steps[index + 1 :], row, place, optional)
        else:
            raise RowError(Outcome.MISSING_FIELD, _missing(value, step, row, place))
    return value


def _join(value: Any, steps: Sequence[str | _By], row: Row, place: str, optional: bool) -> str:
    """Return the texts at the end of `steps` from each item of a list or object, joined by newlines."""
    texts = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        try:
            found = _walk(item, steps, row, f"{place}.{key}", optional)
            texts.append(as_text(found, ".".join([f"{place}.{key}", *map(str, steps)])))
        except RowError as error:
            if not optional or error.reason != Outcome.MISSING_FIELD:
                raise
    if not texts and not optional:
        raise RowError(Outcome.NO_PAIR, f"{place} is empty; expected items")
    return "\n".join(texts)


def _select(value: Any, key: Any, place: str, by: str) -> Any:
    """Return the item of a list or object that `key`, the value of the field `by`, names."""
    if isinstance(key, bool) and isinstance(value, list):
        key = int(key)
    text = as_text(key, by).strip()
    if isinstance(value, dict) and text in value:
        return value[text]
    options = parse_options(value, place)
    if options is not None and text in options.labels:
        return options.texts[options.labels.index(text)]
    if isinstance(value, list) and text.isdecimal() and int(text) < len(value):
        return value[int(text)]
    if options is not None and not text.isdecimal():
        return "\n".join(options.texts[index] for index in right_options(options, text, by, 0))
    if isinstance(value, dict):
        expected = "one of the keys " + ", ".join(shorten(name, 40) for name in list(value)[:20])
    elif isinstance(value, list):
        expected = f"a number from 0 to {len(value) - 1} or a letter" if value else f"items in {place}, which is empty"
    else:
        expected = f"a list or object in {place}, which is {shorten(value)}"
    raise RowError(Outcome.MISSING_FIELD, f"there is no {place}[{by}]: {by} is {shorten(key)}; expected {expected}")


def _missing(value: Any, step: str, row: Row, place: str) -> str:
    """Return the message about a step that leads nowhere."""
    path = f"{place}.{step}".lstrip(".")
    if isinstance(value, dict):
        close = difflib.get_close_matches(step, list(value), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        if not place:
            return f"there is no {path}{hint}; found {list_columns(row)}"
        found = ", ".join(shorten(name, 40) for name in list(value)[:20]) or "none"
        return f"there is no {path}{hint}; {place} has the keys {found}"
    if isinstance(value, list):
        return f"there is no {path}; {place} is a list of {len(value):,} items; expected a number below that, or *"
    return f"there is no {path}; {place} is {shorten(value)}; expected an object or list"


def fill(template: str, row: Row) -> str:
    """Replace each `{column}` of a template by the column's text; raise `RowError` when one has none."""

    def text(match: re.Match[str]) -> str:
        column = match.group(1)
        if column is None:
            return match.group()[0]
        if not column.endswith("?"):
            return as_text(look_up(row, column), column)
        try:
            value = look_up(row, column[:-1], optional=True)
        except RowError:
            return ""
        return "" if value is None else as_text(value, column[:-1])

    return _PLACEHOLDER.sub(text, template)


def mapped(instruction: str, response: str | None) -> Adapt:
    """Make an adapter of two templates; without a response template every response is empty."""
    response = response or ""
    used = used_columns([instruction, response])
    single = re.fullmatch(r"\{([^{}?]+)\}", response)

    def adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
        filled = fill(instruction, row)
        if single is None:
            return Adapted((Draft(filled, fill(response, row)),), used)
        column = single.group(1)
        return Adapted([Draft(filled, text) for text in as_texts(look_up(row, column), column)], used)

    return adapt
