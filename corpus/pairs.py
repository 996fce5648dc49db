"""From one input file to its pairs: the function that the pipeline calls.

    file ─▶ corpus.formats: rows ─▶ adapter: drafts ─▶ Pair, Rejected, …, FileEnd

Bad content never raises. Each input row yields a `Pair` or `Rejected` for each
of its answers, or one `Rejected`; the file yields one `FileEnd`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from operator import attrgetter
from typing import Any

from corpus.adapters import ADAPTERS
from corpus.adapters.base import MARKUP_KEY, Adapt, Adapted, as_text, from_function
from corpus.adapters.kto import may_have_label, refuse_bad
from corpus.adapters.named_chat import named_chat
from corpus.adapters.pairs import whole_pair
from corpus.adapters.templates import fill, look_up, mapped, used_columns
from corpus.columns import ColumnCounter
from corpus.contract import CONDITION_TAGS, order_conditions
from corpus.discover import SourceFile
from corpus.formats import open_rows
from corpus.formats.base import BrokenFileError, Limits, Row, RowError, Rows, TextBlock
from corpus.formats.ranges import ByteRange
from corpus.formats.stream import Input
from corpus.formats.tally import NOT_UTF8_SAMPLE_BYTES, Tally, describe_not_utf8
from corpus.markup import Markup
from corpus.outcome import FileOutcome, Outcome
from corpus.pair_columns import whole_pairs
from corpus.plugins import Plugin
from corpus.record import FileEnd, Pair, PairColumns, Rejected
from corpus.source import FieldMap, SourceSpec, stratum_of
from corpus.storage import StorageError

__all__ = ["ByteRange", "Limits", "joined", "read_columns", "read_pairs"]

_LIMITS = Limits()
_WITHOUT_LABELS = ("pairs", "chat", "prompt_completion")
"""Detected adapters of files whose first rows have no label; a later row may have one."""
_MARKUP = Markup()


def read_pairs(
    spec: SourceSpec,
    file: SourceFile,
    *,
    limits: Limits = _LIMITS,
    markup: Markup = _MARKUP,
    columns: ColumnCounter | None = None,
    head_bytes: int | None = None,
    span: ByteRange | None = None,
) -> Iterator[Pair | Rejected | FileEnd]:
    """Yield the pairs of one file, in the file's order.

    Parameters
    ----------
    spec
        The source, as its manifest states it.
    file
        One of the source's files, from `corpus.discover.discover`.
    limits
        Bounds on rows and files.
    markup
        What to remove from the earlier turns that an instruction repeats.
    columns
        Counts the columns that pairs used, and those that they did not.
    head_bytes
        Read only the file's first bytes, after decompression; Parquet and Arrow files are read whole.
    span
        Read only this range of a JSON Lines file. Its rows have their numbers in the whole file; `FileEnd` counts
        those of the range, and `joined` makes one of those of all ranges.

    Yields
    ------
    Pair or Rejected
        Row numbers start at 0 and have no gaps; blank lines are not rows. Texts are valid UTF-8, not yet cleaned.
    FileEnd
        Once, last.

    Raises
    ------
    StorageError
        A remote store cannot be reached. It is an OSError.
    """
    options: dict[str, Any] = {"limits": limits, "markup": markup, "columns": columns, "span": span}
    return _read(spec, file, head_bytes=head_bytes, blocks=False, **options)


def read_columns(
    spec: SourceSpec,
    file: SourceFile,
    *,
    limits: Limits = _LIMITS,
    markup: Markup = _MARKUP,
    columns: ColumnCounter | None = None,
    span: ByteRange | None = None,
) -> Iterator[PairColumns | Pair | Rejected | FileEnd]:
    """Yield what `read_pairs` yields, but pairs of rows that are only texts as columns, where many follow each other.

    Parameters
    ----------
    spec, file, limits, markup, columns, span
        As for `read_pairs`.

    Yields
    ------
    PairColumns, Pair or Rejected
        As of `read_pairs`.
    FileEnd
        Once, last.
    """
    return _read(spec, file, limits=limits, markup=markup, columns=columns, span=span, blocks=True)


def _read(
    spec: SourceSpec,
    file: SourceFile,
    *,
    limits: Limits,
    markup: Markup,
    columns: ColumnCounter | None,
    head_bytes: int | None = None,
    span: ByteRange | None,
    blocks: bool,
) -> Iterator[Any]:
    if file.skipped is not None:
        yield FileEnd(FileOutcome.SKIPPED_NOT_DATA, 0, "", file.skipped)
        return
    if file.format is None:
        yield FileEnd(FileOutcome.UNREADABLE if file.problem else FileOutcome.EMPTY, 0, "", file.problem or "")
        return
    first = rows = 0 if span is None else span.row
    tally: Tally | None = None
    notes: list[str] = []
    outcome, position, detail = FileOutcome.READ, "", ""
    try:
        content = Input(
            file.url,
            file.compression,
            head_bytes,
            encoding=file.encoding,
            layout=spec.layout,
            member=file.member,
            span=span,
        )
        source = open_rows(content, spec.format_of(file.format), limits)
        tally, notes = source.tally, [note for note in (source.note, file.doubt) if note]
        source = source._replace(context={**source.context, MARKUP_KEY: markup})
        to_pairs = _converter(spec, file, source, limits, columns)
        if blocks and source.blocks is not None and _is_plain(spec, file) and not file.columns:
            for place, item in source.blocks:
                if isinstance(item, TextBlock):
                    yield from _pairs_of_block(spec, file, item, rows, place, to_pairs, columns)
                    rows += item.rows
                else:
                    yield from to_pairs(rows, place, item)
                    rows += 1
        else:
            for place, row in source.rows:
                yield from to_pairs(rows, place, row)
                rows += 1
    except BrokenFileError as broken:
        outcome, position, detail = FileOutcome.TRUNCATED, broken.position, broken.detail
        tally = _finished(tally)
    except StorageError:
        raise
    except OSError as error:
        outcome, detail = FileOutcome.TRUNCATED, f"the file cannot be read: {error.strerror or error}"
        tally = None
    rows -= first
    if rows == 0:
        outcome = FileOutcome.EMPTY if outcome is FileOutcome.READ else FileOutcome.UNREADABLE
    if span is None and tally is not None:
        notes += tally.notes
    end = _end(outcome, rows, position, detail, notes, tally)
    if span is not None and tally is not None and tally.not_utf8:
        sample = tally.not_utf8_sample.decode("latin-1")
        end = replace(end, not_utf8=tally.not_utf8, not_utf8_sample=sample)
    yield end


def joined(ends: Sequence[FileEnd]) -> FileEnd:
    """Return the end of a file from those of all its ranges, each of which was read to its end."""
    notes = [ends[0].detail]
    if rows := sum(end.not_utf8 for end in ends):
        sample = "".join(end.not_utf8_sample for end in ends).encode("latin-1")
        notes.append(describe_not_utf8(rows, sample[:NOT_UTF8_SAMPLE_BYTES]))
    lost: Counter[str] = Counter()
    for end in ends:
        lost.update(end.bytes_lost or {})
    return FileEnd(
        FileOutcome.READ if any(end.rows for end in ends) else FileOutcome.EMPTY,
        sum(end.rows for end in ends),
        detail="; ".join(filter(None, notes)),
        bytes_read=sum(end.bytes_read or 0 for end in ends),
        bytes_rows=sum(end.bytes_rows or 0 for end in ends),
        bytes_structure=sum(end.bytes_structure or 0 for end in ends),
        bytes_lost=dict(lost),
    )


def _finished(tally: Tally | None) -> Tally | None:
    """Book the rest of a broken file; return None if it cannot be read."""
    try:
        if tally is not None:
            tally.finish()
    except StorageError:
        raise
    except OSError:
        return None
    return tally


def _end(
    outcome: FileOutcome, rows: int, position: str, detail: str, notes: Sequence[str], tally: Tally | None
) -> FileEnd:
    remarks = "; ".join(filter(None, [detail, *notes]))
    if tally is None:
        return FileEnd(outcome, rows, position, remarks)
    return FileEnd(
        outcome,
        rows,
        position,
        remarks,
        bytes_read=tally.read,
        bytes_rows=tally.rows,
        bytes_structure=tally.structure,
        bytes_lost=dict(tally.lost),
    )


_ToPairs = Callable[[int, int, Row | RowError], Sequence[Pair | Rejected]]


def _is_plain(spec: SourceSpec, file: SourceFile) -> bool:
    """Whether a file's pairs are in columns of their usual names, and the manifest says nothing about its rows."""
    is_stated = spec.map is not None or spec.chat is not None or spec.adapter is not None
    return not is_stated and not spec.task.startswith("column:") and file.adapter == "pairs"


def _pairs_of_block(
    spec: SourceSpec,
    file: SourceFile,
    block: TextBlock,
    number: int,
    position: int,
    to_pairs: _ToPairs,
    columns: ColumnCounter | None,
) -> Iterator[PairColumns | Pair | Rejected]:
    """Yield the pairs of a block whose first row has a number and a position: those that are certain as columns."""
    found = whole_pairs(block)
    for begin, end, is_certain in [(0, block.rows, False)] if found is None else found.runs():
        if found is not None and is_certain:
            if columns is not None:
                columns.add_whole(block.names, end - begin)
            yield PairColumns(
                number + begin,
                stratum_of(spec, file.path),
                found.instructions.slice(begin, end - begin),
                found.responses.slice(begin, end - begin),
                order_conditions(spec.condition),
            )
            continue
        for index, row in enumerate(block.slice(begin, end).to_rows(), start=begin):
            yield from to_pairs(number + index, position + index, row)


def _adapt_of(spec: SourceSpec, file: SourceFile) -> Adapt:
    if spec.map is not None:
        return mapped(spec.map.instruction, spec.map.response)
    if spec.chat is not None:
        return named_chat(spec.chat.turns, spec.chat.role, spec.chat.text, spec.chat.roles)
    if isinstance(spec.adapter, Plugin):
        return from_function(spec.adapter.load(), spec.adapter.reference)
    # Rows that fit no adapter are rejected by `pairs`, whose message lists their columns.
    adapt = ADAPTERS[spec.adapter or file.adapter or "pairs"].adapt
    if spec.adapter is not None or file.adapter not in _WITHOUT_LABELS:
        return adapt

    def unless_bad(row: Row, context: Mapping[str, Any]) -> Adapted:
        refuse_bad(row)
        return adapt(row, context)

    return unless_bad


def _converter(
    spec: SourceSpec, file: SourceFile, source: Rows, limits: Limits, columns: ColumnCounter | None
) -> _ToPairs:
    """Make the function from a row's number, position and columns to its answers."""
    adapt = _adapt_of(spec, file)
    stratum = stratum_of(spec, file.path)
    column = spec.task.removeprefix("column:") if spec.task.startswith("column:") else None
    fixed = order_conditions(spec.condition)
    named = _columns_of_spec(spec)
    task_of = None if spec.map is None else spec.map.task
    has_conditions = spec.map is not None and bool(spec.map.condition)

    is_plain = _is_plain(spec, file)

    def to_pairs(number: int, position: int, row: Row | RowError) -> Sequence[Pair | Rejected]:
        try:
            if isinstance(row, RowError):
                raise row
            return convert(number, position, file.with_columns(row) if file.columns else row)
        except RowError as error:
            return (Rejected(number, error.reason, f"{source.unit} {position:,}", error.detail),)

    def convert(number: int, position: int, row: Row) -> Sequence[Pair | Rejected]:
        if is_plain:  # most rows of most files have only the texts of a pair
            names = tuple(row)
            if (draft := whole_pair(row, names)) is not None and not may_have_label(names):
                if columns is not None:
                    columns.add_whole(names)
                return (Pair(number, 0, stratum, draft.instruction, draft.response, fixed),)
        drafts, used, dropped = adapt(row, source.context)
        if task_of is not None:
            task = fill(task_of, row)
        else:
            task = stratum if column is None else as_text(look_up(row, column), column)
        condition = fixed
        if spec.map is not None and has_conditions:
            condition = order_conditions((*fixed, *_mapped_conditions(spec.map, row)))
        elif (
            "condition" in row and "condition" not in used and (own := _parse_conditions(row["condition"])) is not None
        ):
            condition = order_conditions((*fixed, *own))
            used |= {"condition"}
        if columns is not None and drafts:
            columns.add(row, used | named if named else used)
        meta = None if row.keys() <= used else _meta(row, used, limits.max_meta_bytes)
        if not dropped:
            return [
                Pair(number, part, task, instruction, response, condition, meta)
                for part, (instruction, response) in enumerate(drafts)
            ]
        place = f"{source.unit} {position:,}"
        answers: list[Pair | Rejected] = [
            Rejected(number, item.outcome, place, item.detail, item.part) for item in dropped
        ]
        excluded = {item.part for item in dropped}
        parts = (part for part in count() if part not in excluded)
        answers += [
            Pair(number, part, task, draft.instruction, draft.response, condition, meta)
            for part, draft in zip(parts, drafts, strict=False)
        ]
        return sorted(answers, key=attrgetter("part"))

    return to_pairs


def _columns_of_spec(spec: SourceSpec) -> frozenset[str]:
    """Return the columns that the manifest names for strata and conditions."""
    templates = [f"{{{spec.task.removeprefix('column:')}}}"] if spec.task.startswith("column:") else []
    if spec.map is not None:
        templates += [text for text in (spec.map.task, spec.map.condition) if isinstance(text, str)]
    return used_columns(templates)


def _parse_conditions(value: Any) -> Sequence[str] | None:
    """Return the condition names in a row's column `condition`; None when it holds anything else."""
    names = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    names = [name for name in names if name]
    return names if all(name in CONDITION_TAGS for name in names) else None


def _mapped_conditions(field_map: FieldMap, row: Row) -> Sequence[str]:
    if not isinstance(field_map.condition, str):
        return field_map.condition
    found = fill(field_map.condition, row)
    names = _parse_conditions(found)
    if names is None:
        known = ", ".join(CONDITION_TAGS)
        raise RowError(Outcome.WRONG_TYPE, f"the map's condition is {found[:60]!r}; expected some of {known}")
    return names


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str, allow_nan=False)


def _meta(row: Row, used: frozenset[str], max_bytes: int) -> str | None:
    """Return the row's unused columns, up to `max_bytes`, as a JSON object; None when there are none."""
    others = {name: value for name, value in row.items() if name not in used and value is not None}
    if not others:
        return None
    text = _as_json(others)
    if len(text) <= max_bytes // 4 or len(text.encode()) <= max_bytes:
        return text
    kept = {}
    size = 0
    for name, value in others.items():
        item = len(_as_json({name: value}).encode())
        if size + item <= max_bytes:
            kept[name] = value
            size += item
    return _as_json(kept) if kept else None


def _as_json(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError:
        # NaN and infinities, which Parquet and Arrow can hold and JSON cannot, become text.
        plain = json.loads(json.dumps(value, default=str), parse_constant=str)
        return _ENCODER.encode(plain)
