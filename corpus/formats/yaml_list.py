"""A YAML list whose items begin with `- ` in the first column.

    lines ─▶ text of one item ─▶ events of the parser ─▶ row

Each item is parsed separately, so memory is bounded and only a broken item is
lost. Plain values are text, so `yes`, `1.10` and dates keep their spelling; only
an empty value, `~` and `null` are null. Tags, anchors and aliases are errors:
nothing but text, lists and objects is ever constructed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from corpus.formats.base import BrokenFileError, Format, Head, Limits, Row, RowError, Rows, shorten
from corpus.formats.stream import Input, find_line_end, read_lines
from corpus.formats.tally import Tally
from corpus.outcome import Outcome

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset(
    {"", "~", "null", "Null", "NULL", ".nan", ".NaN", ".NAN"}
    | {sign + infinity for sign in ("", "-", "+") for infinity in (".inf", ".Inf", ".INF")}
)


def read(source: Input, limits: Limits) -> Rows:
    """Rows of a YAML list; positions are the numbers of the lines on which items begin, from 1."""
    tally = Tally(source.chunks())
    return Rows("line", _rows(tally, limits), {}, tally=tally)


def _rows(tally: Tally, limits: Limits) -> Iterator[tuple[int, Row | RowError]]:
    for item in _items(tally, limits):
        content = b"\n".join(item.lines) + b"\n"
        try:
            if item.size > limits.max_row_bytes:
                raise RowError(Outcome.TOO_LARGE, f"an item of more than {limits.max_row_bytes:,} bytes")
            row = _parse(content, limits)
        except RowError as error:
            tally.lose(item.size, error.reason, content)
            yield item.line, error
        else:
            tally.row(item.size)
            yield item.line, row


@dataclass(slots=True)
class _Item:
    """The text of one item."""

    line: int
    """Number of its first line."""
    lines: list[bytes]
    size: int
    """Bytes in the file, also of lines that are not kept because the item is too large."""


def _items(tally: Tally, limits: Limits) -> Iterator[_Item]:
    item: _Item | None = None
    end, chunks = find_line_end(tally.chunks())
    for number, (line, size) in enumerate(read_lines(chunks, limits.max_row_bytes, end), start=1):
        if number == 1 and line is not None:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line is not None and (line.startswith(b"- ") or line.rstrip() == b"-"):
            if item is not None:
                yield item
            item = _Item(number, [line], size)
        elif item is not None:
            # The line belongs to the item; parsing the item reports it if it is invalid there.
            item.size += size
            if item.size > limits.max_row_bytes:
                item.lines.clear()
            elif line is not None and line.rstrip() not in (b"---", b"..."):
                item.lines.append(line)
        elif line is None or (line.strip() and line[:1] not in b"#%" and line.rstrip() not in (b"---", b"...")):
            detail = f"found {shorten(line or b'a line beyond the limit')}; expected an item that begins with '- '"
            raise BrokenFileError(f"line {number:,}", f"{detail} in the first column")
        else:
            tally.skip(size)
    if item is not None:
        yield item


def _parse(item: bytes, limits: Limits) -> Row:
    try:
        text = item.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the item, {item[error.start : error.start + 1]!r}, is not UTF-8"
        raise RowError(Outcome.INVALID_UNICODE, detail) from None
    try:
        value = _value(text, limits)
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in (error.problem or ""):  # newer versions of libyaml have a limit, too
            raise RowError(Outcome.TOO_DEEP, "lists and objects are nested deeper than YAML's parser reads") from None
        line = f"line {error.problem_mark.line + 1} of the item: " if error.problem_mark else ""
        raise RowError(Outcome.INVALID_SYNTAX, f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise RowError(Outcome.INVALID_SYNTAX, str(error).splitlines()[0]) from None
    if not isinstance(value, dict):
        raise RowError(Outcome.NOT_A_RECORD, f"found {shorten(value)}; expected an object with named fields")
    return value


def _value(text: str, limits: Limits) -> Any:
    """Return the only item of the list `text`.

    It is built from the parser's events with an explicit stack, because the library's composer recurses at each level.
    """
    stack: list[Any] = []
    keys: list[Any] = []  # for each open object the key whose value follows, for each open list None
    items: list[Any] = []
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
            items = value
        elif isinstance(stack[-1], list):
            stack[-1].append(value)
        elif keys[-1] is None:
            keys[-1] = (_key(value, stack[-1]),)
        else:
            stack[-1][keys[-1][0]] = value
            keys[-1] = None
    return items[0]


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
