"""What adapters share: their types, the text of a cell, and messages about columns.

    adapt(row, context) ─▶ Adapted(drafts, used, dropped), or RowError for a row without any

`used` names the row's columns that decided the result: their text is in a pair, or they excluded or chose an answer (a
label, a weight, a score, the rejected answer). All other columns that are not null were read by no one; `corpus.pairs`
keeps them as `meta`. An adapter names only columns that it really reads, so a column in `used` needs no warning.
Columns are those of the row's top level. `used` may name a column that the row lacks or whose value is null.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from corpus.formats.base import Row, RowError, shorten
from corpus.formats.strict_json import check_unicode
from corpus.outcome import Outcome

MAX_ROW_CHARS = 64 << 20
"""Largest number of characters that the instructions of one row may have together."""


MARKUP_KEY = "$markup"
"""Key of the context for the `corpus.markup.Markup` to remove from earlier turns; absent for none."""


class Draft(NamedTuple):
    """One pair as an adapter returns it."""

    instruction: str
    response: str


class Dropped(NamedTuple):
    """One answer of a row that the data excludes from training."""

    part: int
    """Number of the answer among all answers of the row, from 0."""
    outcome: Outcome
    detail: str


class Adapted(NamedTuple):
    """The pairs of a row, and the columns that decided them."""

    drafts: Sequence[Draft]
    used: frozenset[str]
    """Names of the columns that decided the pairs, as in the module's docstring."""
    dropped: Sequence[Dropped] = ()
    """Answers without a pair, by part. `drafts` are the other answers, in order."""


Adapt = Callable[[Row, Mapping[str, Any]], Adapted]
"""A pure function from a row and its context, the fields beside the list of rows in a JSON object, to pairs.

The context has `corpus.formats.base.LIST_KEY` and `MARKUP_KEY` too.

It raises `RowError` when the row yields no pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A way to make pairs of rows that have certain columns."""

    name: str
    rank: int
    """Place in the order of detection; more specific adapters have smaller ranks."""
    fits: Callable[[Row, Mapping[str, Any]], bool]
    """Whether a row with its context has the columns that `adapt` needs."""
    adapt: Adapt


def from_function(function: Callable[[Row], Iterable[tuple[str, str]]], name: str) -> Adapt:
    """Make an adapter of a function from a row to (instruction, response) pairs, written outside of this package.

    An exception that the function raises rejects the row. All columns count as used: none is kept as `meta`.
    """

    def adapt(row: Row, context: Mapping[str, Any]) -> Adapted:
        try:
            drafts = [Draft(as_text(a, "the instruction"), as_text(b, "the response")) for a, b in function(row)]
        except RowError:
            raise
        except Exception as error:
            detail = f"{name} raised {type(error).__name__}: {shorten(str(error))}"
            raise RowError(Outcome.WRONG_TYPE, detail) from None
        if not drafts:
            raise RowError(Outcome.NO_PAIR, f"{name} returned no pair")
        check_unicode(drafts)
        return Adapted(drafts, frozenset(row))

    return adapt


def as_text(value: Any, column: str) -> str:
    """Return the text of a cell: whole numbers without ".0", booleans in lower case.

    Raises
    ------
    RowError
        The cell is null, a list, an object or not finite.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RowError(Outcome.MISSING_FIELD, f"{column} is null; expected text")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowError(Outcome.WRONG_TYPE, f"{column} is {value}; expected text or a number")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list | dict | bytes | tuple):
        kind = "an object" if isinstance(value, dict) else "binary" if isinstance(value, bytes) else "a list"
        raise RowError(Outcome.WRONG_TYPE, f"{column} is {kind}; expected text or a number")
    return str(value)


_TEXT_KEYS = ("text", "texts", "input_text", "content", "value", "answer", "response", "output", "generated_text")


def as_texts(value: Any, column: str) -> list[str]:
    """Return the distinct texts of a cell that is one text, a list of texts, or an object with such a `text`.

    Of an object its `text`, or a key that means the same, counts; of a list of objects that of each.
    """
    if isinstance(value, dict) and (key := next((key for key in _TEXT_KEYS if value.get(key) is not None), None)):
        return as_texts(value[key], f"{column}.{key}")
    if isinstance(value, dict) and "text" in value:
        return as_texts(value["text"], f"{column}.text")
    if not isinstance(value, list):
        return [as_text(value, column)]
    texts = []
    for index, item in enumerate(value):
        place = f"{column}.{index}"
        texts += as_texts(item, place) if isinstance(item, dict) else [as_text(item, place)]
    if not texts:
        raise RowError(Outcome.NO_PAIR, f"{column} is an empty list")
    return list(dict.fromkeys(texts))


def from_json(text: str) -> Any:
    """Return the list or object that a text is as JSON or as a Python literal; the text itself if it is neither."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
    if "\\u" in text:
        check_unicode(value)
    return value


def as_rows(value: Any) -> Any:
    """Return a list of objects for an object of lists of equal length, as Arrow tools write one; else the value."""
    if not isinstance(value, dict) or not value or not all(isinstance(item, list) for item in value.values()):
        return value
    if len({len(item) for item in value.values()}) > 1:
        return value
    return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]


def as_json(value: Any) -> str:
    """Return a text as it is and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


_PASSAGE_KEYS = (
    *("text", "content", "contents", "value", "passage", "paragraph", "paragraph_text", "contexts", "body", "snippet"),
)


def passage_text(value: Any, column: str) -> str:
    """Return the text of a passage or system text: a text, a list of texts, or objects with titles and texts.

    A list of lists is a table, of which each row is a line; or sections, each a title and sentences.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if len(value) > 1 and all(isinstance(row, list) and row and not any(map(_is_nested, row)) for row in value):
            return "\n".join(" | ".join("" if cell is None else as_json(cell) for cell in row) for row in value)
        if value and all(_is_section(item) for item in value):
            return "\n\n".join(f"{title}\n{''.join(sentences)}" for title, sentences in value)
        return "\n\n".join(
            passage_text(item, f"{column}.{index}") for index, item in enumerate(value) if is_filled(item)
        )
    if isinstance(value, dict):
        title = value.get("title")
        if isinstance(title, list):  # of lists, as in HotpotQA
            bodies = next((item for key, item in value.items() if key != "title" and isinstance(item, list)), [])
            return "\n\n".join(
                f"{one}\n{''.join(map(as_json, body)) if isinstance(body, list) else body}"
                for one, body in zip(title, bodies, strict=False)
            )
        for key in (*_PASSAGE_KEYS, "parts"):
            if is_filled(value.get(key)):
                text = passage_text(value[key], f"{column}.{key}")
                speaker = next((value[name] for name in ("speaker", "role", "from") if name in value), None)
                if isinstance(speaker, str) and speaker and speaker != "system":
                    return f"{speaker}: {text}"
                return f"{title}\n{text}" if isinstance(title, str) and title else text
        return as_json(value)
    return as_text(value, column)


def _is_section(value: Any) -> bool:
    """Whether a value is a title and a list of sentences, as in HotpotQA."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
        return False
    return isinstance(value[1], list) and all(isinstance(sentence, str) for sentence in value[1])


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict)


def is_filled(value: Any) -> bool:
    """Whether a value, possibly as JSON text, is not blank, not empty and not made of nulls only."""
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null", "None")
    if isinstance(value, dict):
        return any(is_filled(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(is_filled(item) for item in value)
    return value is not None


def plain_names(columns: Sequence[str]) -> dict[str, str]:
    """Map plain names, letters and digits without case, to columns; of columns with one plain name, to the first."""
    return {plain(column): column for column in reversed(columns)}


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """Return the letters and digits of a name, without case."""
    return re.sub(r"[\W_]+", "", name).casefold()


def field(row: Row, name: str, column: str | None = None) -> Any:
    """Return the field `name`; raise `RowError`, which calls it `column`, if there is none."""
    if name not in row:
        raise RowError(Outcome.MISSING_FIELD, f"there is no {column or name}; found {list_columns(row)}")
    return row[name]


def list_columns(row: Row) -> str:
    """Return the row's column names as part of a message."""
    return "no columns" if not row else "the columns " + ", ".join(shorten(name, 40) for name in list(row)[:20])


def join(*parts: str | None) -> str:
    """Join texts by blank lines, without those that are null or blank."""
    return "\n\n".join(part for part in parts if part and not part.isspace())


def check_size(chars: int) -> None:
    """Raise `RowError` for a row whose pairs repeat their context so often that they would not fit in memory."""
    if chars > MAX_ROW_CHARS:
        raise RowError(
            Outcome.TOO_LARGE, f"a row whose pairs have {chars:,} characters together; the limit is {MAX_ROW_CHARS:,}"
        )
