"""Pairs that are read as columns are those that are read row by row, with the same rejections, bytes and columns."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.columns import ColumnCounter
from corpus.discover import SourceFile
from corpus.formats import columnar, jsonl, stream
from corpus.formats.ranges import Divider
from corpus.pairs import ByteRange, Limits, read_columns, read_pairs
from corpus.record import FileEnd, Pair, PairColumns, Rejected
from corpus.source import SourceSpec

LIMITS = Limits(max_row_bytes=300)
SPEC = SourceSpec(name="s", path="f", condition=("cot",))
RARELY_SLOW = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MARK = b"\xef\xbb\xbf"
DIRTY = [
    b'{"instruction": "a"}',
    b'{"instruction": "a", "response": null}',
    b'{"instruction": "a", "response": 7}',
    b'{"instruction": "a", "response": 1e999}',
    b'{"instruction": "a", "response": ' + b"9" * 5000 + b"}",
    b'{"instruction": "a", "response": ["b", "c"]}',
    b'{"instruction": "a", "response": {"text": "b"}}',
    b'{"instruction": "a", "response": "b", "response": "c"}',
    b'{"instruction": "a", "instruction": "b", "response": "c"}',
    b'{"response": "b", "instruction": "a"}',
    b'{"question": "a", "answer": "b"}',
    b'{"prompt": "a", "input": "c", "response": "b"}',
    b'{"instruction": "a", "response": "b", "label": "false"}',
    b'{"instruction": "a", "response": "b", "id": "7"}',
    b'{"instruction": "a", "response": "b", "condition": "cot"}',
    b'{"instruction": "\\ud83d\\ude00 \\u00e9", "response": "\\ud83d"}',
    b'{"instruction": "a", "response": "\\ude00\\ud83d"}',
    b'{"instruction": "a", "response": "\\u12g4"}',
    b'{"instruction": "a", "response": "\\x"}',
    b'{"instruction": "a", "response": "b\tc"}',
    b'{"instruction": "a", "response": "\\u0000"}',
    b'{"instruction": "a", "response": "\xed\xa0\xbd"}',
    b'{"instruction": "a", "response": "\xe4\xf6\xfc"}',
    b'{"instruction": "[1]", "response": "b"}',
    b'{"instruction": "a", "response": "[\\"b\\", \\"c\\"]"}',
    b'{"instruction": "a", "response": "{}"}',
    b'{"instruction": "", "response": "b"}',
    b'{"instruction": " ", "response": " "}',
    b'{"inst\\u0072uction": "a", "response": "b"}',
    b'{"instruction": "a", "response": "b"} x',
    b'{"instruction": "a", "response": "b"}{"instruction": "a", "response": "b"}',
    b'{"instruction": "a", "response": "b"},',
    b'{"instruction": "a", "response": "b",}',
    b'{"instruction": "a", "response": "b"}\r',
    b'  {"instruction": "a", "response": "b"}',
    b'{"instruction": "a", "response": "b"',
    b'{"instruction": "long", "response": "' + b"x" * 400 + b'"}',
    MARK + b'{"instruction": "a", "response": "b"}',
    b'{"a": ' * 100 + b"1" + b"}" * 100,
    b"\xff\xfe",
    b"[1]",
    b"{",
    b"{}",
    b"",
    b" \t\r",
    b"\r",
]
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "\u00a0", "\u3000x", "[", "[]", "{", "a\nb", '"\\/\b\f\r\t', "\0", "日本", "😀", "x" * 90]
)
NAMES = (
    ("instruction", "response"),
    ("instruction", "input", "output"),
    ("context", "question", "answer"),
    ("prompt", "input", "response"),
    ("prompt", "response"),
)


@st.composite
def lines_of_texts(draw: st.DrawFn) -> list[bytes]:
    """Lines with the same keys in the same spelling."""
    names = draw(st.sampled_from(NAMES))
    ascii_only = draw(st.booleans())
    separators = draw(st.sampled_from([(", ", ": "), (",", ":"), (" \t,\r", " :\t ")]))
    rows = draw(st.lists(st.tuples(*[TEXTS] * len(names)), min_size=1, max_size=12))
    return [
        json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=ascii_only, separators=separators).encode()
        for row in rows
    ]


@st.composite
def damaged_lines(draw: st.DrawFn) -> list[bytes]:
    """Lines of which one has another byte somewhere, or ends there."""
    lines = draw(lines_of_texts())
    which = draw(st.integers(0, len(lines) - 1))
    at = draw(st.integers(0, len(lines[which]) - 1))
    rest = draw(st.sampled_from([b"", None]))
    changed = bytes([draw(st.integers(0, 255))]) + lines[which][at + 1 :]
    lines[which] = lines[which][:at] + (changed if rest is None else rest)
    return lines


def expanded(items: Iterator[Any]) -> Iterator[Pair | Rejected | FileEnd]:
    for item in items:
        if isinstance(item, PairColumns):
            texts = zip(item.instructions.to_pylist(), item.responses.to_pylist(), strict=True)
            for row, (instruction, response) in enumerate(texts, start=item.row):
                yield Pair(row, 0, item.task, instruction, response, item.condition)
        else:
            yield item


def both(path: Path, kind: str, span: ByteRange | None = None) -> int:
    """Read a file in both ways, compare all that is read, and return how many pairs were columns."""
    file = SourceFile(source="s", path=path.name, url=str(path), bytes=0, format=kind, adapter="pairs", doubt="a doubt")
    by_row, at_once = ColumnCounter(), ColumnCounter()
    rows = list(read_pairs(SPEC, file, limits=LIMITS, columns=by_row, span=span))
    columns = list(read_columns(SPEC, file, limits=LIMITS, columns=at_once, span=span))
    assert list(expanded(iter(columns))) == rows
    assert (at_once.rows, at_once.all_columns) == (by_row.rows, by_row.all_columns)
    return sum(len(item.responses) for item in columns if isinstance(item, PairColumns))


@RARELY_SLOW
@given(
    groups=st.lists(
        lines_of_texts() | damaged_lines() | st.lists(st.sampled_from(DIRTY), max_size=4), min_size=1, max_size=6
    ),
    end=st.sampled_from([b"", b"\n", b"\n\n", b"\r\n"]),
    chunk=st.sampled_from([1, 7, 100, 1 << 20]),
    least=st.integers(1, 4),
    size=st.sampled_from([0, 200]),
)
def test_json_lines_as_columns_are_those_read_row_by_row(
    groups: list[list[bytes]], end: bytes, chunk: int, least: int, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b"\n".join(line for group in groups for line in group) + end)
    ranges: list[ByteRange | None] = [None]
    if size:
        divider = Divider(size, LIMITS)
        divider.add(path.read_bytes())
        ranges += divider.ranges()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_BYTES", chunk)
        patch.setattr(jsonl, "_LEAST_ROWS", least)
        for span in ranges:
            both(path, "jsonl", span)


CELLS = {
    pa.string(): TEXTS | st.none(),
    pa.large_string(): TEXTS,
    pa.binary(): st.binary(max_size=3) | TEXTS.map(str.encode),
    pa.int64(): st.integers(0, 9) | st.none(),
    pa.list_(pa.string()): st.lists(TEXTS, max_size=2),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Tables whose columns are texts for the most part; some of those are not UTF-8."""
    names, rows = draw(st.sampled_from(NAMES)), draw(st.integers(0, 12))
    columns = []
    for _ in names:
        kind = draw(st.sampled_from([pa.string(), pa.large_string(), pa.large_string(), *CELLS]))
        cells = draw(st.lists(CELLS[kind], min_size=rows, max_size=rows))
        column = pa.array(cells, kind)
        if kind == pa.binary() and draw(st.booleans()):
            column = pa.StringArray.from_buffers(rows, *column.buffers()[1:])
        columns.append(column)
    return pa.Table.from_arrays(columns, names=list(names))


@RARELY_SLOW
@given(table=tables(), rows=st.integers(1, 8), kind=st.sampled_from(["parquet", "arrow"]))
def test_tables_as_columns_are_those_read_row_by_row(table: pa.Table, rows: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"f.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table, max_chunksize=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columnar, "SLICE_ROWS", rows)
        both(path, kind)


def test_rows_of_many_texts_reserve_no_memory_for_each(tmp_path: Path) -> None:
    row = {"instruction": "a", "response": "b", **{f"column {number}": "c" for number in range(2000)}}
    (tmp_path / "f").write_text((json.dumps(row) + "\n") * 100)
    file = SourceFile(source="s", path="f", url=str(tmp_path / "f"), bytes=0, format="jsonl", adapter="pairs")
    tracemalloc.start()
    assert sum(isinstance(item, Pair) for item in read_columns(SPEC, file)) == 100
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow"])
def test_rows_of_texts_are_read_as_columns(kind: str, tmp_path: Path) -> None:
    rows = [{"instruction": f"Größe {row}?", "input": "x" * (row % 2), "output": '"b"\n'} for row in range(500)]
    rows[100] = {"instruction": "a", "input": "b", "output": "[1]"}
    rows[200] = {"instruction": "", "input": "", "output": "b"}
    path = tmp_path / "f"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.Table.from_pylist(rows).schema) as file:
            file.write_table(pa.Table.from_pylist(rows))
    assert both(path, kind) >= 495
