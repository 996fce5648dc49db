"""One JSON value, read strictly: what is ambiguous or not JSON is an error with its reason.

    bytes ─ msgspec ─▶ object, if it is one beyond doubt
        └─ Python's decoder and checks ─▶ object or `RowError`, for everything else

Python's decoder accepts more than this module does, which refuses duplicate keys, lone surrogates and deep nesting. NaN
and infinities are null. A list of turns is the object that has it as its field: `messages` or `conversations`.
"""

import json
import math
import re
from typing import Any

import msgspec

from corpus.formats.base import Limits, Row, RowError, shorten
from corpus.outcome import Outcome

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RowError(Outcome.DUPLICATE_KEY, f"the key {shorten(key)} occurs twice in one object")
            seen.add(key)
    return row


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise RowError(Outcome.INVALID_SYNTAX, f"the number {shorten(text)} is beyond what a float can hold")
    return value


def _constant(text: str) -> None:
    """Return null for NaN, Infinity and -Infinity, with which Python and pandas write a missing number."""


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)

_HINTS = (
    ("'", "single quotes, as Python prints objects; JSON has double quotes"),
    ("/", "a comment, which JSON has not; remove it"),
    ("#", "a comment, which JSON has not; remove it"),
    ("True", "Python's True; JSON has true"),
    ("False", "Python's False; JSON has false"),
    ("None", "Python's None; JSON has null"),
    ("nan", "nan; JSON has null"),
    ("undefined", "JavaScript's undefined; JSON has null"),
)
"""Text at an error to what it is."""
_NAME = re.compile(r"[A-Za-z_$][\w$]*\s*:")


def parse_bytes(raw: bytes, limits: Limits) -> Row:
    """Parse a JSON object from UTF-8 bytes.

    Raises
    ------
    RowError
        The bytes are not one strict JSON object within the limits.
    """
    try:
        value = _FAST_DECODER.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _parse_strictly(raw, limits)
    if type(value) is dict:
        keys = _count_keys(value, limits.max_depth)
        if raw.count(b":") == keys or _has_as_many_keys(raw, keys):
            return value
    return _parse_strictly(raw, limits)


_FAST_DECODER = msgspec.json.Decoder()
"""It refuses what is not JSON, lone surrogates and numbers beyond a float; of duplicate keys it takes the last."""
_BLANK_BEFORE_COLON = re.compile(rb'"[ \t\r\n]+:')
_TOO_DEEP = -1


def _count_keys(value: dict[str, Any] | list[Any], max_depth: int) -> int:
    """Return the number of keys of all objects in a value; `_TOO_DEEP` for one nested deeper than `max_depth`."""
    keys = 0
    items: Any = value
    if type(value) is dict:
        keys, items = len(value), value.values()
    for item in items:
        if type(item) is dict or type(item) is list:
            inner = _count_keys(item, max_depth - 1) if max_depth > 1 else _TOO_DEEP
            if inner == _TOO_DEEP:
                return _TOO_DEEP
            keys += inner
    return keys


def _has_as_many_keys(raw: bytes, keys: int) -> bool:
    """Whether a JSON text has no more than `keys` keys; False if that is uncertain.

    A key is followed by a colon, so a text with one for each key of its parsed objects has no duplicate key. A quote in
    a string is escaped.
    """
    return (
        raw.count(b'":') - raw.count(b'\\":') == keys
        and b'\\\\":' not in raw
        and _BLANK_BEFORE_COLON.search(raw) is None
    )


def _parse_strictly(raw: bytes, limits: Limits) -> Row:
    try:
        text = raw.decode().strip(" \t\r\n")
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the row, {raw[error.start : error.start + 1]!r}, is not UTF-8"
        raise RowError(Outcome.INVALID_UNICODE, detail) from None
    try:
        value, end = DECODER.raw_decode(text)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except (ValueError, RecursionError, RowError) as error:
        raise as_row_error(error, 0) from None
    return check(value, text, 0, len(text), limits)


def as_row_error(error: Exception, begin: int) -> RowError:
    """Convert an error of `DECODER`, which decoded a value that begins at `begin`."""
    if isinstance(error, RowError):
        return error
    if isinstance(error, json.JSONDecodeError):
        detail = f"not valid JSON at character {error.pos - begin:,}: {error.msg[0].lower()}{error.msg[1:]}"
        hint = next((hint for text, hint in _HINTS if error.doc.startswith(text, error.pos)), "")
        if not hint and _NAME.match(error.doc, error.pos):
            hint = "a name without quotes, as in JavaScript; JSON quotes names"
        return RowError(Outcome.INVALID_SYNTAX, f"{detail}; found {hint}" if hint else detail)
    if isinstance(error, RecursionError):
        return RowError(Outcome.TOO_DEEP, "lists and objects are nested deeper than Python can read")
    return RowError(Outcome.INVALID_SYNTAX, f"a number of too many digits: {error}")


def check(value: Any, text: str, begin: int, end: int, limits: Limits) -> Row:
    """Return `value`, decoded from `text[begin:end]`, if it is an object within the limits; else raise `RowError`."""
    if text.count("{", begin, end) + text.count("[", begin, end) > limits.max_depth:
        check_depth(value, limits.max_depth)
    if _SURROGATE_ESCAPE.search(text, begin, end):
        check_unicode(value)
    if not isinstance(value, dict):
        if (name := name_of_turns(value)) is not None:
            return {name: value}
        found = {list: "a list", str: "a string", type(None): "null", bool: "a boolean"}.get(type(value), "a number")
        raise RowError(Outcome.NOT_A_RECORD, f"found {found}; expected an object with named fields")
    return value


def name_of_turns(value: Any) -> str | None:
    """Return the usual field name for a list that is a conversation's turns; None for anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(turn, dict) for turn in value):
        return None
    for name, keys in (("messages", {"role", "content"}), ("conversations", {"from", "value"})):
        if all(keys <= turn.keys() for turn in value):
            return name
    return None


def check_depth(value: Any, max_depth: int) -> None:
    """Raise `RowError` when lists and objects are nested deeper than `max_depth`."""
    level = [value]
    for _ in range(max_depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise RowError(Outcome.TOO_DEEP, f"lists and objects are nested more than {max_depth} deep")


def check_unicode(value: Any) -> None:
    """Raise `RowError` when a text in `value` contains a lone surrogate, which UTF-8 cannot encode."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            raise RowError(Outcome.INVALID_UNICODE, f"the byte 0x{code - 0xDC00:02x} is not UTF-8") from None
        raise RowError(Outcome.INVALID_UNICODE, f"the lone surrogate U+{code:04X} is not a character") from None
