"""Parquet and Arrow columns of any type become the values that adapters know; damage is named."""

import datetime
import decimal
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.discover import discover
from corpus.formats import open_rows
from corpus.formats.base import Limits, RowError, distinguish
from corpus.formats.stream import Input
from corpus.outcome import FileOutcome, Outcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w

STRUCT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
MAP = pa.list_(pa.map_(pa.string(), pa.string()))
TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
AS_MAPS = [list(turn.items()) for turn in TURNS]
NOON = "2024-05-06 07:08:09"
DAY = datetime.datetime(2024, 5, 6, 7, 8, 9)


def written(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)


def rows_of(path: Path) -> list[Any]:
    name = "parquet" if path.suffix == ".parquet" else "arrow"
    return [row for _, row in open_rows(Input(str(path), None), name, Limits()).rows]


def read(path: Path) -> tuple[list[Any], FileEnd]:
    spec = SourceSpec(name="s", path=str(path))
    (file,) = discover(spec, path.parent)
    *items, end = read_pairs(spec, file)
    assert isinstance(end, FileEnd)
    return items, end


BOTH = pytest.mark.parametrize("suffix", [".parquet", ".arrow"])


@BOTH
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([AS_MAPS, None, []], MAP), [TURNS, None, []]),
        (pa.array([[("a", 1)], [("b", None)], None], pa.map_(pa.string(), pa.int32())), [{"a": 1}, {"b": None}, None]),
        (pa.array([[(1, b"x")], [], None], pa.map_(pa.int64(), pa.binary())), [{"1": "x"}, {}, None]),
        (pa.array([b"caf\xc3\xa9", b"", None], pa.binary()), ["café", "", None]),
        (pa.array([b"a", b"b", None], pa.large_binary()), ["a", "b", None]),
        (pa.array([b"ab", b"\xff\xfe", b"a\0"], pa.binary(2)), ["ab", b"\xff\xfe", b"a\0"]),
        (pa.array([[b"a"], [b"\xff"], None], pa.list_(pa.binary())), [["a"], [b"\xff"], None]),
        (pa.array([{"t": b"a"}, {"t": None}, None], pa.struct([("t", pa.binary())])), [{"t": "a"}, {"t": None}, None]),
        (pa.array(["x", "y", None], pa.large_string()), ["x", "y", None]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (
            pa.array([decimal.Decimal("1.50"), decimal.Decimal("1E+2"), None], pa.decimal128(9, 2)),
            ["1.50", "100.00", None],
        ),
        (pa.array([DAY, None, DAY], pa.timestamp("ns")), ["2024-05-06 07:08:09", None, "2024-05-06 07:08:09"]),
        (pa.array([[DAY], None, []], pa.list_(pa.timestamp("ns"))), [[NOON], None, []]),
        (
            pa.array([{"at": 5}, None, {"at": None}], pa.struct([("at", pa.duration("s"))])),
            [{"at": 5}, None, {"at": None}],
        ),
        (pa.array([None, None, None], pa.null()), [None, None, None]),
        (pa.array([TURNS, None, [None]], STRUCT), [TURNS, None, [None]]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_of_any_type_are_those_of_json(
    tmp_path: Path, column: pa.Array, expected: list[Any], suffix: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    written(path, pa.table({"value": column}))
    assert [_trimmed(row["value"]) for row in rows_of(path)] == expected


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.string_view(), ["a", "long " * 9, None], None),
        (pa.binary_view(), [b"a", b"long " * 9, None], ["a", "long " * 9, None]),
        (pa.list_view(pa.string()), [["a"], ["b", "c"], None], None),
        (pa.list_view(pa.binary()), [[b"a"], [b"b", b"c"], None], [["a"], ["b", "c"], None]),
        (pa.large_list_view(pa.string()), [["a"], [], ["b"]], None),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), [["a"], ["b", "a"], None], None),
        (
            pa.list_(pa.timestamp("ns"), 1),
            [[DAY], None, [DAY]],
            [["2024-05-06 07:08:09"], None, ["2024-05-06 07:08:09"]],
        ),
    ],
    ids=str,
)
def test_views_and_nested_categories_of_arrow_are_read(
    tmp_path: Path, kind: pa.DataType, values: list[Any], expected: list[Any] | None
) -> None:
    written(tmp_path / "rows.arrow", pa.table({"value": pa.array(values, kind)}))
    found = [row["value"] for row in rows_of(tmp_path / "rows.arrow")]
    assert [_trimmed(value) for value in found] == (values if expected is None else expected)


def _trimmed(value: Any) -> Any:
    """Without the fractions of seconds, which times in lists keep even if they are zero."""
    if isinstance(value, list):
        return [_trimmed(item) for item in value]
    return re.sub(r"(:\d\d)\.0+$", r"\1", value) if isinstance(value, str) else value


@BOTH
def test_conversations_of_maps_categories_and_json_text_yield_pairs(tmp_path: Path, suffix: str) -> None:
    text = '[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]'
    kinds = pa.struct([("role", pa.dictionary(pa.int8(), pa.string())), ("content", pa.large_string())])
    lists = {"from": ["human", "gpt"], "value": ["Why?", "So."]}
    columns = {
        "maps": pa.array([AS_MAPS] * 3, MAP),
        "large": pa.array([AS_MAPS] * 3, pa.large_list(pa.map_(pa.string(), pa.string()))),
        "categories": pa.array([TURNS] * 3, pa.list_(kinds)),
        "text": pa.array([text] * 3),
        "binary": pa.array([text.encode()] * 3),
        "lists": pa.array([lists] * 3, pa.struct([("from", pa.list_(pa.string())), ("value", pa.list_(pa.string()))])),
    }
    for name, column in columns.items():
        path = tmp_path / f"{name}{suffix}"
        written(path, pa.table({"conversations" if name == "lists" else "messages": column}))
        items, _ = read(path)
        assert [(item.instruction, item.response) for item in items] == [("Why?", "So.")] * 3, name


@BOTH
def test_binary_that_is_no_text_refuses_only_rows_that_need_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    texts = pa.array([b"yes", b"\xff\xfe", b"no"])
    hashes = pa.array([b"\xff" * 4] * 3)
    written(path, pa.table({"instruction": pa.array(["a", "b", "c"]), "response": texts, "hash": hashes}))
    first, refused, last = read(path)[0]
    assert isinstance(refused, Rejected)
    assert (refused.reason, "binary" in refused.detail) == (Outcome.WRONG_TYPE, True)
    assert [first.response, last.response] == ["yes", "no"]


def test_map_with_one_key_twice_refuses_its_row(tmp_path: Path) -> None:
    column = pa.array([[("a", "1"), ("a", "2")], [("a", "1")]], pa.map_(pa.string(), pa.string()))
    written(tmp_path / "rows.arrow", pa.table({"value": column}))
    twice, row = rows_of(tmp_path / "rows.arrow")
    assert isinstance(twice, RowError)
    assert (twice.reason, row) == (Outcome.DUPLICATE_KEY, {"value": {"a": "1"}})


# Damage

PARQUET = w.parquet(w.pairs(20))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (PARQUET[:-10], "no footer, so it is cut off; download"),
        (b"PARE" + PARQUET[4:-4] + b"PARE", "the Parquet file is encrypted"),
        (b"some words, \0 but no Parquet", "found b'some' at its begin; expected b'PAR1'"),
        (PARQUET[:-40] + b"\xff" * 30 + PARQUET[-10:], "its footer is damaged"),
    ],
)
def test_parquet_that_cannot_be_opened_names_the_cause(tmp_path: Path, content: bytes, says: str) -> None:
    w.write(tmp_path / "rows.parquet", content)
    items, end = read(tmp_path / "rows.parquet")
    assert (items, end.outcome) == ([], FileOutcome.UNREADABLE)
    assert says in end.detail


def test_row_group_with_an_unknown_compression_is_named(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(w.pairs(20)), sink, row_group_size=10, compression="snappy")
    before, codec, after = sink.getvalue().rpartition(b"instruction\x15\x02")  # the name, and SNAPPY as 1
    (tmp_path / "rows.parquet").write_bytes(before + codec[:-1] + b"\6" + after)
    items, end = read(tmp_path / "rows.parquet")
    assert len(items) == 10
    assert (end.outcome, end.position) == (FileOutcome.TRUNCATED, "row group 1, after row 10")
    assert end.detail.startswith("a compression or encoding that is not read, in 'instruction' (LZO, ")
    assert end.detail.endswith("; 10 of 20 rows are not read")


def _nested() -> bytes:
    table = pa.table(
        {
            "messages": pa.array([AS_MAPS] * 20, MAP),
            "binary": pa.array([b"x" * n for n in range(20)]),
            "category": pa.array(["a", "b"] * 10).dictionary_encode(),
            "at": pa.array([[DAY]] * 20, pa.list_(pa.timestamp("ns"))),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=7, compression="none")
    return sink.getvalue()


NESTED = _nested()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(NESTED) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_parquet_of_nested_types_is_accounted_for(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(NESTED)
    for at, byte in changes:
        content[at] = byte
    (tmp_path / "rows.parquet").write_bytes(bytes(content))
    items, end = read(tmp_path / "rows.parquet")
    assert all(isinstance(item, Pair | Rejected) for item in items)
    assert end.outcome in (FileOutcome.READ, FileOutcome.EMPTY) or end.detail


@pytest.mark.parametrize(("at", "byte"), [(1649, 102), (1753, 32), (1734, 78), (1856, 32)])
def test_damage_that_aborts_when_its_column_is_described_is_an_error_of_the_file(
    tmp_path: Path, at: int, byte: int
) -> None:
    content = bytearray(NESTED)
    content[at] = byte
    (tmp_path / "rows.parquet").write_bytes(bytes(content))
    items, end = read(tmp_path / "rows.parquet")
    assert all(isinstance(item, Pair | Rejected) for item in items)
    assert end.outcome in (FileOutcome.READ, FileOutcome.EMPTY) or end.detail


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_repeated_column_is_read_under_a_name_with_its_number(tmp_path: Path, suffix: str) -> None:
    arrays = [pa.array(["q"]), pa.array(["x"]), pa.array(["a"]), pa.array(["y"])]
    table = pa.Table.from_arrays(arrays, names=["question", "score", "answer", "score"])
    if suffix == "parquet":
        pq.write_table(table, tmp_path / "rows.parquet")
    else:
        with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as writer:
            writer.write_table(table)
    source = SourceSpec(name="s", path=f"rows.{suffix}")
    (file,) = discover(source, tmp_path)
    pair, end = read_pairs(source, file)
    assert isinstance(pair, Pair)
    assert (pair.instruction, pair.response) == ("q", "a")
    assert json.loads(pair.meta or "") == {"score (column 2)": "x", "score (column 4)": "y"}
    assert isinstance(end, FileEnd)
    assert "names the column 'score' more than once, so they are 'score (column 2)', 'score (column 4)'" in end.detail


@BOTH
def test_value_of_a_dictionary_that_all_rows_share_is_expanded_a_few_rows_at_a_time(
    suffix: str, tmp_path: Path
) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1000, pa.int32()), pa.array(["x" * 200_000]))
    nested = pa.StructArray.from_arrays([text], ["text"])
    path = tmp_path / f"a{suffix}"
    table = pa.table({"text": text, "nested": nested})
    with (
        pa.ipc.new_file(str(path), table.schema)
        if suffix == ".arrow"
        else pq.ParquetWriter(path, table.schema) as writer
    ):
        writer.write_table(table)
    pool = pa.default_memory_pool()
    before, most, rows = pool.bytes_allocated(), 0, 0
    limits = Limits(max_row_bytes=1 << 20)
    for _, row in open_rows(Input(str(path), None), suffix[1:], limits).rows:
        most, rows = max(most, pool.bytes_allocated() - before), rows + 1
        assert len(row["text"]) == len(row["nested"]["text"]) == 200_000
    assert rows == 1000
    assert most < 100 << 20  # of 400 MB


def test_row_whose_shared_value_is_above_the_limit_is_rejected_alone(tmp_path: Path) -> None:
    values = pa.array(["short", "x" * 2_000_000])
    path = tmp_path / "a.arrow"
    written(path, pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), values)}))
    rows = [row for _, row in open_rows(Input(str(path), None), "arrow", Limits(max_row_bytes=1 << 20)).rows]
    assert [row if isinstance(row, dict) else row.reason for row in rows] == [
        {"text": "short"},
        Outcome.TOO_LARGE,
        {"text": "short"},
    ]


OUT_OF_MEMORY = """
import resource, sys
from corpus.formats import open_rows
from corpus.formats.base import Limits
from corpus.formats.stream import Input
from pathlib import Path
list(open_rows(Input(sys.argv[3], None), sys.argv[2], Limits()).rows)  # starts Arrow's threads
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20),) * 2)
try:
    print(len(list(open_rows(Input(sys.argv[1], None), sys.argv[2], Limits()).rows)))
except MemoryError:
    print("no memory")
"""


@BOTH
def test_lack_of_memory_is_no_property_of_a_file(suffix: str, tmp_path: Path) -> None:
    path, small = tmp_path / f"a{suffix}", tmp_path / f"small{suffix}"
    written(small, pa.table({"text": ["x"]}))
    table = pa.table({"text": pa.array([b"x" * (128 << 20)], pa.large_binary())})
    if suffix == ".parquet":
        pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    else:
        with pa.ipc.new_file(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(path), suffix[1:], str(small)]
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}  # others reserve memory in advance
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.stdout == "no memory\n", ran.stderr


@pytest.mark.parametrize("name", ["rows.arrow", "rows.parquet"])
def test_rows_that_few_bytes_unpack_to_are_read_up_to_a_limit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corpus.formats.columnar.ALWAYS_ALLOWED_BYTES", 1 << 20)
    count = 200_000
    if name == "rows.arrow":
        texts = pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), pa.array(["x" * 50]))
    else:
        texts = pa.DictionaryArray.from_arrays(pa.array(bytes(count), pa.int8()), ["x" * 50])
    table = pa.table({"instruction": texts, "response": texts})
    if name == "rows.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.ipc.new_stream(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    assert (tmp_path / name).stat().st_size < 5000
    pairs, end = read(tmp_path / name)
    assert end.outcome == FileOutcome.TRUNCATED
    assert "at most 200 times as many are read" in end.detail
    assert 0 < len(pairs) < count / 10


def test_repeated_names_are_distinguished_in_time_that_grows_with_their_number() -> None:
    names, remarks = distinguish(["a", "b", *["c"] * 300_000], "the header")
    assert len(set(names)) == len(names)
    assert names[:3] == ["a", "b", "c (column 3)"]
    assert remarks == [
        "the header names the column 'c' more than once, so they are 'c (column 3)', 'c (column 4)', 'c (column 5)', "
        "'c (column 6)', 'c (column 7)' and 299,995 more"
    ]


def test_time_in_a_year_that_cannot_be_written_is_null(tmp_path: Path) -> None:
    times = pa.array([-(2**62), 0], pa.timestamp("us"))
    written(tmp_path / "rows.arrow", pa.table({"instruction": ["a", "b"], "response": times}))
    assert [row["response"] for row in rows_of(tmp_path / "rows.arrow")] == [None, "1970-01-01 00:00:00"]
