"""One JSON value with a list of rows: an array, or an object in which one field is the list.

    bytes ─▶ window of text (`_Text`) ─▶ one element after the other

Only the current element is in memory. Only a broken element is lost: its end is
found by its brackets, or else the next element by `}, {`.

In an object, fields beside the list are context for adapters. They may be before
and after it, so such a file is read twice: for the fields, then for the rows.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from corpus.formats.base import LIST_KEY, BrokenFileError, Format, Head, Limits, Row, RowError, Rows, shorten
from corpus.formats.stream import Input
from corpus.formats.strict_json import DECODER, as_row_error, check, check_depth, check_unicode
from corpus.outcome import Outcome

LIST_NAMES = ("Instances", "data", "rows", "examples", "instances", "items", "records", "samples", "train", "questions")
"""Fields that hold the rows, most likely first; without them, the first field that is a list of objects does."""

_LISTS_OF_A_ROW = frozenset({"messages", "conversation", "chosen", "rejected", "tools"})
"""Fields whose list of objects is part of one row: turns of a conversation, or tools."""

_BLANK = re.compile(r"[ \t\r\n]*")
_BRACKET = re.compile(r'["\[\]{}]')
_BRACKET_OR_COMMA = re.compile(r'["\[\]{},]')
_IN_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_IN_LINE_OF_STRING = re.compile(r'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+', re.DOTALL)
_NEXT_ELEMENT = re.compile(r"[}\]]\s*,\s*(?=\{)")
_CLOSING = {"[": "]", "{": "}"}
_LONGEST_TOKEN = 16
"""An error this close to the end of the window may be due to a token that continues behind it."""
_MAX_OPEN = 1_000_000
"""Largest number of open brackets up to which the end of a broken element is searched for."""


class _Text:
    """A window on the text of a stream; `grow` drops what is before `pos`."""

    def __init__(self, chunks: Iterator[bytes]):
        self._chunks = chunks
        # Bytes that are not UTF-8 become lone surrogates, so that they invalidate only the element that has them.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._dropped_bytes = 0
        self.text = ""
        self.pos = 0
        self.is_utf8 = True
        self.grow()
        self.text = self.text.removeprefix("\ufeff")

    def grow(self) -> bool:
        """Drop the text before `pos` and at least double the rest; return False at the stream's end."""
        self._dropped_bytes += _bytes(self.text, self.pos)
        pieces = [self.text[self.pos :]]
        wanted = max(len(pieces[0]), 1)
        grown = 0
        while grown < wanted and (chunk := next(self._chunks, None)) is not None:
            pieces.append(self._decoder.decode(chunk))
            grown += len(pieces[-1])
        self.text, self.pos = "".join(pieces), 0
        self.is_utf8 = self.text.isascii() or _is_utf8(self.text)
        return grown > 0

    def peek(self) -> str:
        """Advance `pos` to the next character that is not blank and return it; "" at the end."""
        while True:
            match = _BLANK.match(self.text, self.pos)
            self.pos = match.end() if match else self.pos
            if self.pos < len(self.text):
                return self.text[self.pos]
            if not self.grow():
                return ""

    def place(self) -> str:
        """Return the position of `pos` in the file, for messages."""
        return f"byte {self._dropped_bytes + _bytes(self.text, self.pos):,}"


def _bytes(text: str, end: int) -> int:
    return len(text[:end].encode("utf-8", "surrogateescape"))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a JSON array, or of the list in a JSON object; positions are the elements' numbers from 1.

    An object without a list of objects, other than the turns of one conversation, is one row.

    Raises
    ------
    BrokenFileError
        The file holds neither an array nor an object.
    """
    text = _Text(source.chunks())
    mark = text.peek()
    if mark == "[":
        text.pos += 1
        return Rows("item", _array(text, limits), {})
    if mark != "{":
        found = "nothing" if mark == "" else repr(mark)
        raise BrokenFileError(text.place(), f"found {found}; expected a JSON array or object")
    outline = _outline(text, limits)
    if outline.rows_key is None:
        return Rows("item", _single(_Text(source.chunks()), limits), {})
    others = ", ".join(
        f"{shorten(name)} ({count})" for name, count in outline.lists.items() if name != outline.rows_key
    )
    note = f"rows are the items of {shorten(outline.rows_key)}" + (f"; not read: {others}" if others else "")
    rows = _list_in_object(_Text(source.chunks()), outline.rows_key, limits)
    return Rows("item", rows, {**outline.fields, LIST_KEY: outline.rows_key}, note)


def _array(text: _Text, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    yield from _items(text, limits)
    if text.peek():
        raise BrokenFileError(
            text.place(), f"found {text.text[text.pos]!r} after the end of the array; expected the file's end"
        )


def _single(text: _Text, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    text.peek()
    yield 1, _row(text, limits)


def _items(text: _Text, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    """Yield the elements of the list whose opening bracket is before `pos`; `pos` ends behind its closing bracket."""
    number = 0
    while mark := text.peek():
        if mark == "]":
            text.pos += 1
            return
        if mark == ",":
            text.pos += 1
            continue
        number += 1
        yield number, _row(text, limits)
    raise BrokenFileError(text.place(), "the file ends inside the list of rows")


def _row(text: _Text, limits: Limits) -> Row | RowError:
    """Return the element at `pos`, and advance `pos` behind it."""
    try:
        value, begin, end = _value(text, limits)
        row = check(value, text.text, begin, end, limits)
        if not text.is_utf8:
            check_unicode(row)
    except RowError as error:
        return error
    return row


# One value


def _value(text: _Text, limits: Limits) -> tuple[Any, int, int]:
    """Return the value at `pos`, its begin and its end in `text.text`, and advance `pos` behind it.

    Raises
    ------
    RowError
        The value is broken or too large; `pos` is where the next one may begin.
    BrokenFileError
        The begin of the next value cannot be found, or the file ends inside the value.
    """
    while True:
        begin = text.pos
        error_at = begin
        try:
            value, end = DECODER.raw_decode(text.text, begin)
        except json.JSONDecodeError as error:
            error_at = error.pos
            may_be_cut = error_at >= len(text.text) - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")
            if may_be_cut and len(text.text) - begin > limits.max_row_bytes:
                failure = RowError(Outcome.TOO_LARGE, f"a row of more than {limits.max_row_bytes:,} bytes")
                if not _skip(text, keep=0, line_ends_string=False):
                    raise BrokenFileError(text.place(), f"{failure.detail}; its end is not found") from None
                raise failure from None
            if may_be_cut and text.grow():
                continue
            failure = as_row_error(error, begin)
        except (RecursionError, ValueError, RowError) as error:
            failure = as_row_error(error, begin)
        else:
            if end == len(text.text) and text.grow():
                continue  # a number may continue
            text.pos = end
            if end - begin > limits.max_row_bytes:
                raise RowError(Outcome.TOO_LARGE, f"a row of more than {limits.max_row_bytes:,} bytes")
            return value, begin, end
        _recover(text, error_at - begin, failure, limits)
        raise failure


def _recover(text: _Text, error_at: int, failure: RowError, limits: Limits) -> None:
    """Advance `pos` behind the broken value that begins there, with an error at `pos + error_at`."""
    # A valid string contains no line end. One that does either has a raw line end, or was opened by a stray quote.
    is_raw = "control character" in failure.detail
    for line_ends_string in (not is_raw, is_raw):
        if _skip(text, keep=limits.max_row_bytes, line_ends_string=line_ends_string):
            return
    while not (match := _NEXT_ELEMENT.search(text.text, text.pos + error_at)):
        if len(text.text) - text.pos > limits.max_row_bytes or not text.grow():
            detail = f"an item is broken or cut off here ({failure.detail}), and no further one follows"
            raise BrokenFileError(text.place(), detail) from None
    text.pos = match.end()


def _skip(text: _Text, *, keep: int, line_ends_string: bool) -> bool:
    """Advance `pos` behind the value that begins there, looking at brackets and quotes only.

    Parameters
    ----------
    keep
        Number of characters within which the end is searched for; `pos` is unchanged if it is not found. With 0 the
        search is unbounded, and drops the text it has passed.
    line_ends_string
        Whether a line end closes a string.

    Returns
    -------
    bool
        False when brackets do not match or the end is not found.
    """
    open_brackets: list[str] = []
    in_string = False
    at = text.pos
    while True:
        if in_string:
            match = (_IN_LINE_OF_STRING if line_ends_string else _IN_STRING).match(text.text, at)
            at = match.end() if match else at
            found = at < len(text.text) and text.text[at] != "\\"
        else:
            match = (_BRACKET if open_brackets else _BRACKET_OR_COMMA).search(text.text, at)
            at = match.start() if match else len(text.text)
            found = match is not None
        if not found:
            if keep and len(text.text) - text.pos > keep:
                return False
            if not keep:
                text.pos = at
            at -= text.pos
            if not text.grow():
                return False
            continue
        mark = text.text[at]
        if in_string or mark == '"':
            in_string = not in_string
            at += 1
        elif mark in _CLOSING:
            open_brackets.append(_CLOSING[mark])
            at += 1
            if len(open_brackets) > _MAX_OPEN:
                return False
            continue
        elif not open_brackets:
            # The comma or bracket behind a plain value; an unmatched closing brace is skipped.
            text.pos = at + 1 if mark == "}" else at
            return True
        else:
            if open_brackets.pop() != mark:
                return False
            at += 1
        if not open_brackets and not in_string:
            text.pos = at
            return True


# An object with a list of rows


class _Outline(NamedTuple):
    """The fields of a JSON object."""

    rows_key: str | None
    lists: dict[str, int]
    """Fields that are lists of objects, and the number of items of each."""
    fields: dict[str, Any]
    """The other fields; a `RowError` in place of one that cannot be read."""


def _outline(text: _Text, limits: Limits) -> _Outline:
    lists: dict[str, int] = {}
    fields: dict[str, Any] = {}
    try:
        for key in _members(text, limits):
            if key in lists or key in fields:
                raise RowError(Outcome.DUPLICATE_KEY, f"the field {shorten(key)} occurs twice")
            if key not in _LISTS_OF_A_ROW and _at_list_of_objects(text):
                lists[key] = 0
                for number, _ in _items(text, limits):
                    lists[key] = number
                continue
            try:
                value, begin, end = _value(text, limits)
                check_depth(value, limits.max_depth)
                check_unicode(value)
                if end - begin <= limits.max_field_bytes:
                    fields[key] = value
            except RowError as error:
                fields[key] = error
    except RowError as error:
        raise BrokenFileError(text.place(), error.detail) from None
    except BrokenFileError:
        if not lists:
            raise
        # The rows before the break are readable; reading them raises this error again.
    named = next((name for name in LIST_NAMES if name in lists), None)
    return _Outline(named or next(iter(lists), None), lists, fields)


def _list_in_object(text: _Text, rows_key: str, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    text.peek()
    for key in _members(text, limits):
        if _at_list_of_objects(text):
            if key == rows_key:
                yield from _items(text, limits)
            else:
                for _ in _items(text, limits):
                    pass
        else:
            _row(text, limits)


def _members(text: _Text, limits: Limits) -> Iterator[str]:
    """Yield the keys of the object that begins at `pos`; the caller advances `pos` behind each value."""
    text.pos += 1
    while mark := text.peek():
        if mark == "}":
            text.pos += 1
            if text.peek():
                found = text.text[text.pos]
                raise BrokenFileError(
                    text.place(), f"found {found!r} after the end of the object; expected the file's end"
                )
            return
        if mark == ",":
            text.pos += 1
            continue
        if mark != '"':
            raise BrokenFileError(text.place(), f"found {mark!r}; expected the name of a field")
        try:
            key, _, _ = _value(text, limits)
        except RowError as error:
            raise BrokenFileError(text.place(), f"the name of a field is broken: {error.detail}") from None
        if text.peek() != ":":
            raise BrokenFileError(text.place(), f"no colon behind the name of the field {shorten(key)}")
        text.pos += 1
        text.peek()
        yield key
    raise BrokenFileError(text.place(), "the file ends inside the object")


def _at_list_of_objects(text: _Text) -> bool:
    """Return whether a list of objects begins at `pos`; if so, advance `pos` behind its opening bracket."""
    if text.peek() != "[":
        return False
    match = _BLANK.match(text.text, text.pos + 1)
    while match is not None and match.end() == len(text.text):
        if not text.grow():
            return False
        match = _BLANK.match(text.text, text.pos + 1)
    if match is None or text.text[match.end()] != "{":
        return False
    text.pos += 1
    return True


# Detection


def layout(head: Head) -> str | None:
    """Return "jsonl" if the first line is a complete value and others follow, "json" for one value over all lines.

    None for text that does not begin like JSON, and for files whose suffix says CSV, TSV or YAML, which may begin so.
    """
    first = head.lines[0].strip()
    if first[0] not in "[{" or head.suffix_format in ("csv", "tsv", "yaml"):
        return None
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        # The begin of a value over several lines, or a broken row.
        if first[0] == "[" or first == "{":
            return "json"
        if head.suffix_format in ("jsonl", "json"):
            return head.suffix_format
        return "jsonl" if len(head.lines) > 1 and head.lines[1].startswith("{") else "json"
    if len(head.lines) > 1:
        return "jsonl"
    is_jsonl = head.suffix_format == "jsonl"
    if isinstance(value, list):
        return "json" if not is_jsonl or any(isinstance(item, dict) for item in value) else "jsonl"
    has_rows = any(isinstance(value.get(name), list) for name in ("Instances", "data", "rows", "examples"))
    return "json" if head.suffix_format == "json" or (head.suffix_format is None and has_rows) else "jsonl"


JSON = Format(name="json", suffixes=(".json",), read=read, claims=lambda head: layout(head) == "json")
