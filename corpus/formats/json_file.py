"""JSON values with rows: arrays, objects one after the other, or one object with its rows in one of some layouts.

    bytes ─▶ window of text (`_Text`) ─▶ one element after the other

Only the current element is in memory. Only a broken element is lost: its end is
found by its brackets, or else the next element by `}, {`.

The layout of an object is found by reading it once (`_Outline`): a list of rows
in one field, rows keyed by id, or columns. Fields beside the list are context for
adapters. The rows are read the second time. A file with several lists that may be
the rows is refused until the manifest's `rows:` names one.
"""

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from corpus.formats.base import LIST_KEY, BrokenFileError, Format, Head, Limits, Row, RowError, Rows, shorten
from corpus.formats.nesting import EACH, expand, steps_of
from corpus.formats.stream import Input
from corpus.formats.strict_json import DECODER, as_row_error, check, check_depth, check_unicode, name_of_turns
from corpus.formats.tally import Tally
from corpus.outcome import Outcome

LIST_NAMES = ("Instances", "data", "rows", "examples", "instances", "items", "records", "samples", "train", "questions")
"""Fields that hold the rows, most likely first; without them, the only field that is a list of objects does."""

_LISTS_OF_A_ROW = frozenset({"messages", "conversation", "conversations", "chosen", "rejected", "tools", "functions"})
"""Fields whose list of objects is part of one row: turns of a conversation, or tools."""

_NOT_BY_ID = frozenset({"messages", "conversation", "conversations", "chat", "dialogue", "dialog", "turns", "mapping"})
"""Fields whose object of objects is part of one row."""

_SPLIT = re.compile(r"(train|training|valid|validation|val|dev|test|eval|evaluation|holdout|heldout)([_-].*|\d*)", re.I)
"""Names of the parts of a data set."""

_TURN_FIELDS = frozenset({"role", "content", "from", "value", "name", "tool_calls", "tool_call_id", "weight", "id"})
"""Fields of an object that is a turn and nothing else."""

_BLANK = re.compile(r"[ \t\r\n\ufeff\x1e]*")
_BLANK_OR_COMMA = re.compile(r"[ \t\r\n\ufeff\x1e,]*")
_BRACKET = re.compile(r'["\[\]{}]')
_BRACKET_OR_COMMA = re.compile(r'["\[\]{},]')
_IN_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_IN_LINE_OF_STRING = re.compile(r'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+', re.DOTALL)
_NEXT_ELEMENT = re.compile(r"[}\]]\s*,?\s*(?=\{)")
_CLOSING = {"[": "]", "{": "}"}
_LONGEST_TOKEN = 16
"""An error this close to the end of the window may be due to a token that continues behind it."""
_MAX_OPEN = 1_000_000
"""Largest number of open brackets up to which the end of a broken element is searched for."""
_MAX_CONTEXT_FIELDS = 64
"""Fields of an object beside its rows that adapters may see."""
_MAX_COLUMNS_ROWS = 4
"""Bytes of columns that are read at once, as a multiple of `Limits.max_row_bytes`."""


class _Text:
    """A window on the text of a stream; `grow` drops what is before `pos`."""

    def __init__(self, chunks: Iterator[bytes], tally: Tally | None = None):
        self._chunks = chunks
        # Bytes that are not UTF-8 become lone surrogates, so that they invalidate only the element that has them.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.tally = tally
        self._offset = self._offset_pos = 0  # bytes before the position `_offset_pos` of the window
        self._is_ascii = True
        self.text = ""
        self.pos = 0
        self.is_utf8 = True
        self.grow()

    def grow(self) -> bool:
        """Drop the text before `pos` and at least double the rest; return False at the stream's end."""
        self.offset()
        pieces = [self.text[self.pos :]]
        wanted = max(len(pieces[0]), 1)
        grown = 0
        while grown < wanted:
            chunk = next(self._chunks, None)
            # At the end, an incomplete character is left in the decoder.
            piece = self._decoder.decode(b"", final=True) if chunk is None else self._decoder.decode(chunk)
            pieces.append(piece)
            grown += len(piece)
            if chunk is None:
                break
        self.text, self.pos, self._offset_pos = "".join(pieces), 0, 0
        self._is_ascii = self.text.isascii()
        self.is_utf8 = self._is_ascii or _is_utf8(self.text)
        return grown > 0

    def peek(self, passed: re.Pattern[str] = _BLANK) -> str:
        """Advance `pos` to the next character that is not blank and return it; "" at the end."""
        while True:
            match = passed.match(self.text, self.pos)
            self.pos = match.end() if match else self.pos
            if self.pos < len(self.text):
                return self.text[self.pos]
            if not self.grow():
                return ""

    def offset(self) -> int:
        """Return the number of bytes before `pos`, which has not moved back since the last call."""
        if self._is_ascii:
            self._offset += self.pos - self._offset_pos
        else:
            self._offset += len(self.text[self._offset_pos : self.pos].encode("utf-8", "surrogateescape"))
        self._offset_pos = self.pos
        return self._offset

    def place(self) -> str:
        """Return the position of `pos` in the file, for messages."""
        return f"byte {self.offset():,}"

    def skip(self) -> None:
        """Book what is before `pos` as structure."""
        if self.tally is not None:
            self.tally.skip(self.offset() - self.tally.booked)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a JSON file; positions are the elements' numbers from 1.

    An object in none of the layouts is one row. The iterator raises `BrokenFileError` for a file that holds neither
    arrays nor objects, or whose layout does not show which of several lists are the rows.
    """
    tally = Tally(source.chunks())
    steps = steps_of(source.layout.rows) if source.layout.rows else ()
    mark = _Text(source.chunks()).peek()
    outline = _Outline()
    error: BrokenFileError | None = None
    if mark == "{":
        try:
            outline = _outline(_Text(source.chunks()), limits)
        except BrokenFileError as broken:
            error = broken
    context: dict[str, Any] = {}
    note = ""
    if outline.is_alone and not steps and error is None:
        try:
            note = outline.choose()
        except BrokenFileError as broken:
            error = broken
        if outline.rows_key is not None:
            context = {**outline.fields, LIST_KEY: outline.rows_key}

    def rows() -> Iterator[tuple[int, Row | RowError]]:
        text = _Text(tally.chunks(), tally)
        if error is not None:
            raise error
        if text.peek() == "{" and outline.is_alone:
            found = _stated(text, steps, outline, limits) if steps else _of_object(text, outline, limits)
            yield from enumerate(found, start=1)
        elif steps:
            inside = steps[1:] if steps[0] == EACH else steps
            found = (row for item in _sequence(text, limits) for row in _expanded(item, inside, {}))
            yield from enumerate(found, start=1)
        else:
            yield from enumerate(_sequence(text, limits), start=1)
        text.peek()
        text.skip()

    return Rows("item", rows(), context, note, tally)


def _expanded(item: Row | RowError, steps: Sequence[str], parents: Mapping[str, Any]) -> Iterator[Row | RowError]:
    if isinstance(item, RowError):
        yield item
    else:
        yield from expand(item, steps, parents)


def _sequence(text: _Text, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the elements of arrays one after the other, or objects one after the other."""
    kind = ""
    while mark := text.peek():
        if mark == "," and kind:
            text.pos += 1
        elif mark == "[" and kind != "object":
            if kind and text.tally is not None:
                text.tally.note("arrays one after the other")
            kind = "array"
            text.pos += 1
            yield from _array(text, limits)
        elif mark == "{" and kind != "array":
            kind = "object"
            yield _row(text, limits)
        elif kind:
            raise BrokenFileError(text.place(), f"found {mark!r} after the end of the {kind}; expected the file's end")
        else:
            hint = "; comments are not JSON: remove them" if mark in "/#" else ""
            raise BrokenFileError(text.place(), f"found {mark!r}; expected a JSON array or object{hint}")
    if not kind:
        raise BrokenFileError(text.place(), "found nothing; expected a JSON array or object")


def _array(text: _Text, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the elements of an array; one that holds the turns of one conversation is one row."""
    items = (row for _, row in _items(text, limits))
    first = next(items, None)
    if first is None:
        return
    name = name_of_turns([first])
    if name is None or not isinstance(first, dict) or not first.keys() <= _TURN_FIELDS:
        yield first
        yield from items
        return
    turns = [first]
    begin = text.offset()
    for turn in items:
        if isinstance(turn, RowError):
            yield turn
            continue
        turns.append(turn)
        if text.offset() - begin > limits.max_row_bytes:
            detail = f"the turns of one conversation are more than {limits.max_row_bytes:,} bytes"
            raise BrokenFileError(text.place(), detail)
    yield {name: turns}


def _items(text: _Text, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    """Yield the elements of the list whose opening bracket is before `pos`; `pos` ends behind its closing bracket."""
    number = 0
    while mark := text.peek(_BLANK_OR_COMMA):
        if mark == "]":
            text.pos += 1
            return
        number += 1
        yield number, _row(text, limits)
    raise BrokenFileError(text.place(), "the file ends inside the list of rows")


def _row(text: _Text, limits: Limits) -> Row | RowError:
    """Return the element at `pos`, book its bytes, and advance `pos` behind it."""
    text.skip()
    content = ""
    try:
        value, begin, end = _value(text, limits)
        if not text.is_utf8:
            content = text.text[begin:end]
            check_unicode(value)
        row = check(value, text.text, begin, end, limits)
    except RowError as error:
        if text.tally is not None:
            size = text.offset() - text.tally.booked
            text.tally.lose(size, error.reason, content.encode("utf-8", "surrogateescape"))
        return error
    if text.tally is not None:
        text.tally.row(text.offset() - text.tally.booked)
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
            if end == len(text.text):
                if text.grow():
                    continue  # a number may continue
                begin, end = 0, end - begin  # the window begins with the value now
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


# One object


@dataclass(slots=True)
class _Outline:
    """The fields of a JSON object, and the layout of its rows."""

    is_alone: bool = False
    """Whether the object is the whole file."""
    lists: dict[str, int] = field(default_factory=dict)
    """Fields that are lists of objects, and the number of items of each."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The first other fields; a `RowError` in place of one that cannot be read."""
    names: list[str] = field(default_factory=list)
    """Names of the first fields."""
    count: int = 0
    """Number of fields."""
    lengths: set[int] = field(default_factory=set)
    """Lengths of the fields that are lists."""
    all_lists: bool = True
    all_objects: bool = True
    all_numbered: bool = True
    """Whether all fields are objects whose keys are numbers, as pandas writes columns."""
    shared: frozenset[str] | None = None
    """Keys that all fields have, if all are objects."""
    layout: str = "row"
    """"row", "list", "columns", "by id" or "table"."""
    by_id: dict[str, int] = field(default_factory=dict)
    """Fields that are objects of objects that share keys, and the number of these."""
    rows_key: str | None = None
    """Field with the list of rows in the layout "list", or with the object of rows in the layout "by id"."""

    def add(self, name: str, value: Any) -> None:
        """Take a field that is no list of objects into account."""
        self.count += 1
        if len(self.names) < _MAX_CONTEXT_FIELDS:
            self.names.append(name)
        if isinstance(value, list):
            self.lengths.add(len(value))
        else:
            self.all_lists = False
        if isinstance(value, dict):
            if len(value) > 1 and all(isinstance(item, dict) for item in value.values()):
                first, *others = value.values()
                if first.keys() and set(first).intersection(*others):
                    self.by_id[name] = len(value)
            self.shared = frozenset(value) if self.shared is None else self.shared & value.keys()
            self.all_numbered = self.all_numbered and bool(value) and all(key.isdecimal() for key in value)
        else:
            self.all_objects = False

    def choose(self) -> str:
        """Set `layout` and `rows_key`; return a remark for the ledger.

        Raises
        ------
        BrokenFileError
            It is not clear which of several lists are the rows.
        """
        named = next((name for name in LIST_NAMES if name in self.lists), None)
        parts = {name: f" ({count:,})" for name, count in self.lists.items() if _SPLIT.fullmatch(name)}
        fields = (name for name, value in self.fields.items() if isinstance(value, list | dict))
        parts |= dict.fromkeys(filter(_SPLIT.fullmatch, fields), "")
        if len(parts) > 1:
            found = ", ".join(f"{name!r}{count}" for name, count in parts.items())
            first = next(iter(parts))
            first += ".*" if isinstance(self.fields.get(first), dict) else ""
            detail = f"an object with the parts {found} of a data set; state one of them, as `rows: {first}`"
            raise BrokenFileError("the start", detail)
        if {"columns", "data"} <= self.fields.keys() and _is_table(self.fields):
            self.layout = "table"
            return "rows are the lists of 'data', named by 'columns'"
        is_columns = self.all_lists and self.count + len(self.lists) > 1 and self.count and named is None
        if is_columns and not (_LISTS_OF_A_ROW & self.lists.keys()):
            lengths = self.lengths | set(self.lists.values())
            if len(lengths) == 1:
                self.layout = "columns"
                return "rows are made of columns, which are lists"
            if not self.lists:
                detail = "an object of lists of unequal lengths; expected rows, or columns of one length"
                raise BrokenFileError("the start", detail)
        if self.lists:
            if named is None and len(self.lists) > 1:
                found = ", ".join(f"{shorten(name)} ({count:,})" for name, count in list(self.lists.items())[:12])
                detail = f"an object with several lists of objects: {found}; state one as `rows: NAME`, or all as"
                raise BrokenFileError("the start", f'{detail} `rows: "*"`')
            self.layout, self.rows_key = "list", named or next(iter(self.lists))
            others = ", ".join(f"{shorten(name)} ({n})" for name, n in self.lists.items() if name != self.rows_key)
            return f"rows are the items of {shorten(self.rows_key)}" + (f"; not read: {others}" if others else "")
        inside = [name for name in self.by_id if name not in _NOT_BY_ID and (name in LIST_NAMES or self.count == 1)]
        if len(inside) == 1 and not (self.all_objects and self.count > 1):
            self.layout, self.rows_key = "by id", inside[0]
            return f"rows are the values of {shorten(self.rows_key)}; `id` is the key"
        if self.all_objects and self.count > 1 and self.shared:
            self.layout = "columns" if self.all_numbered else "by id"
            return "rows are made of columns" if self.all_numbered else "rows are the object's values; `id` is the key"
        return ""


def _is_table(fields: Mapping[str, Any]) -> bool:
    columns, data = fields["columns"], fields["data"]
    return (
        isinstance(columns, list)
        and isinstance(data, list)
        and all(isinstance(name, str) for name in columns)
        and all(isinstance(cells, list) and len(cells) == len(columns) for cells in data)
    )


def _outline(text: _Text, limits: Limits) -> _Outline:
    outline = _Outline()
    text.peek()
    try:
        for key in _members(text):
            if key in outline.lists or key in outline.fields:
                raise RowError(Outcome.DUPLICATE_KEY, f"the field {shorten(key)} occurs twice")
            if key not in _LISTS_OF_A_ROW and _at_list_of_objects(text):
                outline.lists[key] = 0
                outline.all_objects = False
                for number, _ in _items(text, limits):
                    outline.lists[key] = number
                continue
            try:
                value, begin, end = _value(text, limits)
                check_depth(value, limits.max_depth)
                check_unicode(value)
                outline.add(key, value)
                if key in _LISTS_OF_A_ROW and isinstance(value, list) and value and isinstance(value[0], dict):
                    outline.all_lists = False  # of a row
                if end - begin <= limits.max_field_bytes and len(outline.fields) < _MAX_CONTEXT_FIELDS:
                    outline.fields[key] = value
            except RowError as error:
                outline.add(key, None)
                if len(outline.fields) < _MAX_CONTEXT_FIELDS:
                    outline.fields[key] = error
        outline.is_alone = text.peek() not in ("{", ",")
    except RowError as error:
        raise BrokenFileError(text.place(), error.detail) from None
    except BrokenFileError:
        # The rows before the break are readable; reading them raises this error again.
        if not outline.lists and not (outline.all_objects and outline.count > 1 and outline.shared):
            raise
        outline.is_alone = True
    return outline


def rows_of_object(value: Row) -> tuple[Sequence[Any], Mapping[str, Any], str]:
    """Return the rows of an object that is all of a file and in memory, their context, and a remark for the ledger.

    The layouts are those of JSON files; an object in none of them is one row.

    Raises
    ------
    BrokenFileError
        It is not clear which of several lists are the rows.
    """
    outline = _Outline(is_alone=True)
    for key, field_value in value.items():
        if (
            key not in _LISTS_OF_A_ROW
            and isinstance(field_value, list)
            and field_value
            and isinstance(field_value[0], dict)
        ):
            outline.lists[key] = len(field_value)
            outline.all_objects = False
            continue
        outline.add(key, field_value)
        if key in _LISTS_OF_A_ROW and isinstance(field_value, list):
            outline.all_lists = False  # of a row
        if len(outline.fields) < _MAX_CONTEXT_FIELDS:
            outline.fields[key] = field_value
    note = outline.choose()
    if outline.layout == "list" and outline.rows_key is not None:
        return value[outline.rows_key], {**outline.fields, LIST_KEY: outline.rows_key}, note
    if outline.layout == "by id":
        inside = value if outline.rows_key is None else value[outline.rows_key]
        context = {} if outline.rows_key is None else {**outline.fields, LIST_KEY: outline.rows_key}
        return [{"id": key, **row} if isinstance(row, dict) else row for key, row in inside.items()], context, note
    if outline.layout == "columns" and all(isinstance(column, list) for column in value.values()):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)], {}, note
    return [value], {}, ""


def _of_object(text: _Text, outline: _Outline, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the rows of the object at `pos`, in the layout that its outline has."""
    if outline.layout == "row":
        yield _row(text, limits)
    elif outline.layout == "list":
        for key in _members(text):
            if key == outline.rows_key and _at_list_of_objects(text):
                yield from (row for _, row in _items(text, limits))
            else:
                _pass_over(text, limits)
    elif outline.layout == "by id" and outline.rows_key is not None:
        for key in _members(text):
            if key == outline.rows_key:
                yield from _by_id(text, limits)
            else:
                _pass_over(text, limits)
    elif outline.layout == "by id":
        yield from _by_id(text, limits)
    else:
        yield from _of_columns(text, outline.layout, limits)
    if mark := text.peek():
        raise BrokenFileError(text.place(), f"found {mark!r} after the end of the object; expected the file's end")


def _by_id(text: _Text, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the values of the object at `pos`, with their keys as `id`."""
    for key in _members(text):
        row = _row(text, limits)
        yield row if isinstance(row, RowError) else {"id": key, **row}


def _of_columns(text: _Text, layout: str, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the rows of columns; all columns are read before the first row."""
    columns: dict[str, Any] = {}
    begin = text.offset()
    for key in _members(text):
        try:
            columns[key], _, _ = _value(text, limits)
        except RowError as error:
            raise BrokenFileError(text.place(), f"the column {shorten(key)}: {error.detail}") from None
        if text.offset() - begin > _MAX_COLUMNS_ROWS * limits.max_row_bytes:
            limit = f"{_MAX_COLUMNS_ROWS * limits.max_row_bytes:,} bytes"
            raise BrokenFileError(text.place(), f"columns of more than {limit}; convert the file to JSON Lines")
    if text.tally is not None:
        text.tally.row(text.offset() - text.tally.booked)
    if layout == "table":
        names, rows = columns["columns"], columns["data"]
    else:
        names = list(columns)
        lists = [list(value.values()) if isinstance(value, dict) else value for value in columns.values()]
        if len({tuple(value) for value in columns.values() if isinstance(value, dict)}) > 1:
            raise BrokenFileError("the start", "columns of objects with different keys; expected one index for all")
        rows = zip(*lists, strict=True)
    for cells in rows:
        row = dict(zip(names, cells, strict=True))
        try:
            check_depth(row, limits.max_depth)
            check_unicode(row)
        except RowError as error:
            yield error
        else:
            yield row


def _stated(text: _Text, steps: Sequence[str], outline: _Outline, limits: Limits) -> Iterator[Row | RowError]:
    """Yield the rows at the path `steps` inside the object at `pos`."""
    parents = {
        name: value for name, value in outline.fields.items() if name != steps[0] and not isinstance(value, RowError)
    }
    yield from _at_path(text, steps, {} if steps[0] == EACH else parents, limits)


def _at_path(text: _Text, steps: Sequence[str], parents: Mapping[str, Any], limits: Limits) -> Iterator[Row | RowError]:
    """Yield the rows at the path `steps` inside the value at `pos`, of which one element at a time is in memory."""
    mark = text.peek()
    each = not steps or steps[0] == EACH
    if mark == "[" and each:
        text.pos += 1
        for _, row in _items(text, limits):
            yield from _expanded(row, steps[1:], parents)
    elif mark == "{" and steps and steps[0] == EACH:
        for key in _members(text):
            if text.peek() == "[":
                yield from _at_path(text, steps[1:], {**parents, "id": key}, limits)
            else:
                yield from _expanded(_row(text, limits), steps[1:], {**parents, "id": key})
    elif mark == "{" and steps:
        found = []
        for key in _members(text):
            found.append(key)
            if key == steps[0]:
                yield from _at_path(text, steps[1:], parents, limits)
            else:
                _pass_over(text, limits)
        if steps[0] not in found:
            names = ", ".join(map(repr, found[:12]))
            raise BrokenFileError("the start", f"`rows:` names {steps[0]!r}, which is not there; found {names}")
    else:
        yield from _expanded(_row(text, limits), steps, parents)


def _pass_over(text: _Text, limits: Limits) -> None:
    """Advance `pos` behind the value there, which is no row."""
    if _at_list_of_objects(text):
        tally, text.tally = text.tally, None
        try:
            for _ in _items(text, limits):
                pass
        finally:
            text.tally = tally
    else:
        with suppress(RowError):  # the outline has it
            _value(text, limits)
    text.skip()


def _members(text: _Text) -> Iterator[str]:
    """Yield the keys of the object that begins at `pos`; the caller advances `pos` behind each value."""
    text.pos += 1
    while mark := text.peek():
        if mark == "}":
            text.pos += 1
            return
        if mark == ",":
            text.pos += 1
            continue
        if mark != '"':
            raise BrokenFileError(text.place(), f"found {mark!r}; expected the name of a field")
        try:
            key, _, _ = _value(text, Limits())
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
    """Return "jsonl" if each line is a value, "json" for one value over all lines or values over several lines each.

    None for text that does not begin like JSON, and for files whose suffix says CSV, TSV or YAML, which may begin so.
    """
    first = head.lines[0].strip(" \t\r\x1e\ufeff")
    if not first or first[0] not in "[{" or head.suffix_format in ("csv", "tsv", "yaml", "text"):
        return None
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return _layout_of_broken_line(head, first)
    is_list_of_rows = isinstance(value, list) and any(
        isinstance(item, dict) or name_of_turns(item) is not None for item in value
    )
    if is_list_of_rows and name_of_turns(value) is None:
        return "json"
    if len(head.lines) > 1:
        return "jsonl"
    if isinstance(value, list):
        return "jsonl" if head.suffix_format == "jsonl" else "json"
    has_rows = any(isinstance(value.get(name), list) for name in ("Instances", "data", "rows", "examples"))
    return "json" if head.suffix_format == "json" or (head.suffix_format is None and has_rows) else "jsonl"


def _layout_of_broken_line(head: Head, first: str) -> str:
    """Return the layout of a file whose first line is no value: it begins one, holds several, or is a broken row."""
    if first[0] == "[" or first == "{":
        return "json"
    text = head.text.lstrip(" \t\r\n\x1e\ufeff")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        if any(_is_object(line) for line in head.lines[1:9]):
            return "jsonl"
        if head.suffix_format in ("jsonl", "json"):
            return head.suffix_format
        return "jsonl" if len(head.lines) > 1 and head.lines[1].startswith("{") else "json"
    if "\n" in text[:end].strip() or text[end:].lstrip(" \t,").startswith("{"):
        return "json"
    return "jsonl"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line.strip(" \t\r,")), dict)
    except (ValueError, RecursionError):
        return False


JSON = Format(name="json", suffixes=(".json",), read=read, claims=lambda head: layout(head) == "json")
