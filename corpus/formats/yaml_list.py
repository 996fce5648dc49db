"""YAML: a list whose items begin with `- ` in the first column, or documents, each a row or an object with rows.

    lines ─┬▶ text of one item ─▶ events of the parser ─▶ row
           └▶ text of one document ─▶ events ─▶ the row that it is, or its rows in one of the layouts of JSON objects

Each item, and each document, is parsed separately, so memory is bounded and only a broken one is lost. Plain values are
text, so `yes`, `1.10` and dates keep their spelling; only an empty value, `~` and `null` are null. Tags, anchors and
aliases are errors: nothing but text, lists and objects is ever constructed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import yaml

from corpus.formats.base import BrokenFileError, Format, Head, Limits, Row, RowError, Rows, shorten
from corpus.formats.json_file import rows_of_object
from corpus.formats.stream import Input, find_line_end, split_lines
from corpus.formats.tally import Tally
from corpus.outcome import Outcome

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset(
    {"", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN"}
    | {sign + infinity for sign in ("", "-", "+") for infinity in (".inf", ".Inf", ".INF")}
)

_MARKS = (b"---", b"...")
"""Lines between documents."""


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a YAML file; positions are the numbers of the lines on which items or documents begin, from 1.

    The iterator raises `BrokenFileError` if the only document is broken, or does not show which of several lists are
    its rows.
    """
    tally = Tally(source.chunks())
    if not _is_document(source.chunks(), limits):
        return Rows("line", _rows(tally, limits), {}, tally=tally)
    tally = Tally(source.whole().chunks())  # the end of a document shows its layout
    documents = _documents(tally, limits)
    first, second = next(documents), next(documents, None)
    if second is not None:
        return Rows("line", _rows_of(chain([first, second], documents), tally, limits), {}, tally=tally)
    items: Sequence[Any] = ()
    context: Mapping[str, Any] = {}
    note = ""
    problem: BrokenFileError | None = None
    try:
        value = _parse(first, limits)
        if isinstance(value, dict) and source.layout.rows is None:
            items, context, note = rows_of_object(value)
        else:  # `corpus.formats.open_rows` finds rows inside
            items = value if isinstance(value, list) else [value]
    except RowError as error:
        problem = BrokenFileError(f"line {first.line:,}", error.detail)
    except BrokenFileError as error:
        problem = error

    def rows() -> Iterator[tuple[int, Row | RowError]]:
        if problem is not None:
            raise problem
        tally.row(first.size)
        for item in items:
            yield first.line, item if isinstance(item, dict) else _no_record(item)

    return Rows("line", rows(), context, note, tally)


def _is_document(chunks: Iterator[bytes], limits: Limits) -> bool:
    """Whether a file's first line with content does not begin an item of a list in the first column."""
    end, chunks = find_line_end(chunks)
    for line, _ in split_lines(chunks, limits.max_row_bytes, end):
        text = b"" if line is None else line.removeprefix(b"\xef\xbb\xbf")
        if text.strip() and text[:1] not in b"#%" and text.rstrip() not in _MARKS:
            return not _begins_item(text)
    return False


def _begins_item(line: bytes) -> bool:
    return line.startswith(b"- ") or line.rstrip() == b"-"


def _documents(tally: Tally, limits: Limits) -> Iterator["_Item"]:
    """Yield the documents of a file, separated by lines `---` or `...`; at least one."""
    item: _Item | None = None
    end, chunks = find_line_end(tally.chunks())
    for number, (line, size) in enumerate(split_lines(chunks, limits.max_row_bytes, end), start=1):
        if number == 1 and line is not None:
            line = line.removeprefix(b"\xef\xbb\xbf")
        is_mark = line is not None and line.rstrip() in _MARKS
        if item is not None and not is_mark:
            item.size += size
            if line is None or item.size > limits.max_row_bytes:
                item.lines.clear()
                item.is_whole = False
            elif item.is_whole:
                item.lines.append(line)
            continue
        if item is not None:
            yield item
            item = None
        if line is None or (not is_mark and line.strip() and line[:1] not in b"#%"):
            item = _Item(number, [] if line is None else [line], size, line is not None)
        else:
            tally.skip(size)
    if item is not None:
        yield item


def _no_record(value: Any) -> RowError:
    return RowError(Outcome.NOT_A_RECORD, f"found {shorten(value)}; expected an object with named fields")


def _rows(tally: Tally, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    yield from _rows_of(_items(tally, limits), tally, limits)


def _rows_of(items: Iterator["_Item"], tally: Tally, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    """Yield the row that each item of a list, or each document, is."""
    for item in items:
        try:
            value = _parse(item, limits)
            row = value[0] if isinstance(value, list) and len(value) == 1 else value
            if not isinstance(row, dict):
                raise _no_record(row)
        except RowError as error:
            tally.lose(item.size, error.reason, b"\n".join(item.lines))
            yield item.line, error
        else:
            tally.row(item.size)
            yield item.line, row


@dataclass(slots=True)
class _Item:
    """The text of one item or document."""

    line: int
    """Number of its first line."""
    lines: list[bytes]
    size: int
    """Bytes in the file, also of lines that are not kept because the item is too large."""
    is_whole: bool = True
    """Whether all of its lines are kept."""


def _items(tally: Tally, limits: Limits) -> Iterator[_Item]:
    item: _Item | None = None
    end, chunks = find_line_end(tally.chunks())
    for number, (line, size) in enumerate(split_lines(chunks, limits.max_row_bytes, end), start=1):
        if number == 1 and line is not None:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line is not None and _begins_item(line):
            if item is not None:
                yield item
            item = _Item(number, [line], size)
        elif item is not None:
            # The line belongs to the item; parsing the item reports it if it is invalid there.
            item.size += size
            if item.size > limits.max_row_bytes:
                item.lines.clear()
                item.is_whole = False
            elif line is not None and line.rstrip() not in _MARKS:
                item.lines.append(line)
        elif line is None or (line.strip() and line[:1] not in b"#%" and line.rstrip() not in _MARKS):
            detail = f"found {shorten(line or b'a line beyond the limit')}; expected an item that begins with '- '"
            raise BrokenFileError(f"line {number:,}", f"{detail} in the first column")
        else:
            tally.skip(size)
    if item is not None:
        yield item


def _parse(item: "_Item", limits: Limits) -> Any:
    """Return the value of an item, a list with it, or of a document."""
    if not item.is_whole or item.size > limits.max_row_bytes:
        raise RowError(Outcome.TOO_LARGE, f"an item of more than {limits.max_row_bytes:,} bytes")
    content = b"\n".join(item.lines) + b"\n"
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the item, {content[error.start : error.start + 1]!r}, is not UTF-8"
        raise RowError(Outcome.INVALID_UNICODE, detail) from None
    try:
        return _value(text, limits)
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in (error.problem or ""):  # newer versions of libyaml have a limit, too
            raise RowError(Outcome.TOO_DEEP, "lists and objects are nested deeper than YAML's parser reads") from None
        line = f"line {error.problem_mark.line + 1} of the item: " if error.problem_mark else ""
        raise RowError(Outcome.INVALID_SYNTAX, f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise RowError(Outcome.INVALID_SYNTAX, str(error).splitlines()[0]) from None


def _value(text: str, limits: Limits) -> Any:
    """Return the value of a text.

    It is built from the parser's events with an explicit stack, because the library's composer recurses at each level.
    """
    stack: list[Any] = []
    keys: list[Any] = []  # for each open object the key whose value follows, for each open list None
    whole: Any = None
    value: Any
    for event in yaml.parse(text, _LOADER):
        if isinstance(event, yaml.ScalarEvent):
            if event.tag is not None or event.anchor is not None:
                raise RowError(Outcome.INVALID_SYNTAX, f"a tag or anchor, {event.tag or event.anchor!r}; expected data")
            value = None if not event.style and event.value in _NULLS else event.value
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if event.tag is not None or event.anchor is not None:
                raise RowError(Outcome.INVALID_SYNTAX, f"a tag or anchor, {event.tag or event.anchor!r}; expected data")
            if len(stack) > limits.max_depth:
                raise RowError(Outcome.TOO_DEEP, f"lists and objects are nested more than {limits.max_depth} deep")
            stack.append({} if isinstance(event, yaml.MappingStartEvent) else [])
            keys.append(None)
            continue
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            value = stack.pop()
            keys.pop()
        elif isinstance(event, yaml.AliasEvent):
            raise RowError(Outcome.INVALID_SYNTAX, f"an alias, *{event.anchor}; expected data")
        else:
            continue
        if not stack:
            whole = value
        elif isinstance(stack[-1], list):
            stack[-1].append(value)
        elif keys[-1] is None:
            keys[-1] = (_key(value, stack[-1]),)
        else:
            stack[-1][keys[-1][0]] = value
            keys[-1] = None
    return whole


def _key(value: Any, seen: dict[str, Any]) -> str:
    if value is None:
        value = "null"
    if not isinstance(value, str):
        raise RowError(Outcome.INVALID_SYNTAX, f"the key {shorten(value)} is not text")
    if value in seen:
        raise RowError(Outcome.DUPLICATE_KEY, f"the key {shorten(value)} occurs twice in one object")
    return value


def _accepts(head: Head) -> bool:
    return re.match(r"""(---\s*\n)?- ["']?[\w ]+["']?:(\s|$)""", head.text.lstrip()) is not None


YAML = Format(name="yaml", suffixes=(".yaml", ".yml"), read=read, accepts=_accepts)
