"""Rows written in any format and compression are read back equal, as a stream."""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from corpus.discover import SourceFile, discover
from corpus.formats import open_rows
from corpus.formats.base import BrokenFileError, Limits, RowError
from corpus.formats.json_file import _items, _Text
from corpus.formats.stream import ForwardFile, Input, read_lines
from corpus.outcome import FileOutcome, Outcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from corpus.storage import StorageError
from tests.corpus import write as w

# Text that UTF-8 can encode, except NUL, which is not valid in CSV.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=80)
ROWS = st.lists(st.fixed_dictionaries({"instruction": TEXT, "response": TEXT}), min_size=1, max_size=20)


def read_back(path: Path, **spec: Any) -> tuple[SourceFile, list[Pair | Rejected], FileEnd]:
    source = SourceSpec(name="s", path=str(path), **spec)
    (file,) = discover(source, path.parent)
    *rows, end = read_pairs(source, file)
    assert isinstance(end, FileEnd)
    return file, [row for row in rows if isinstance(row, Pair | Rejected)], end


def texts(rows: list[Pair | Rejected]) -> list[dict[str, str]]:
    assert all(isinstance(row, Pair) for row in rows), rows
    return [{"instruction": row.instruction, "response": row.response} for row in rows if isinstance(row, Pair)]


@pytest.mark.parametrize("compression", w.COMPRESSIONS)
@pytest.mark.parametrize("name", w.FORMATS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_written_rows_are_read_back_equal(name: str, compression: str, rows: list[Any], tmp_path: Path) -> None:
    # In TSV, a quoted cell of lines that look like rows each is taken for rows in which quotes are letters.
    assume(
        name != "tsv"
        or not any("\t" in text and ("\n" in text or "\r" in text) for row in rows for text in row.values())
    )
    suffix, write = w.FORMATS[name]
    path = tmp_path / f"rows.{suffix}{compression}"
    w.write(path, w.COMPRESSIONS[compression](write(rows)))
    file, found, end = read_back(path)
    assert texts(found) == rows
    assert (end.outcome, end.rows) == (FileOutcome.READ, len(rows))
    assert file.compression == (compression[1:] or None)


@pytest.mark.parametrize("compression", w.COMPRESSIONS)
@pytest.mark.parametrize("name", w.FORMATS)
def test_format_is_detected_by_content_when_the_name_has_no_suffix(name: str, compression: str, tmp_path: Path) -> None:
    suffix, write = w.FORMATS[name]
    path = tmp_path / "rows"
    w.write(path, w.COMPRESSIONS[compression](write(w.pairs(20))))
    file, found, _ = read_back(path)
    assert file.format == {"tar": "webdataset"}.get(suffix, suffix)
    assert texts(found) == w.pairs(20)


def test_misleading_name_does_not_decide_the_format(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    w.write(path, w.json_array(w.pairs(3)))
    assert read_back(path)[0].format == "json"
    w.write(path, w.parquet(w.pairs(3)))
    assert read_back(path)[0].format == "parquet"


def test_webdataset_written_by_its_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shard-000000.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for index, row in enumerate(w.pairs(5)):
            writer.write(
                {"__key__": f"{index:04d}", "instruction.txt": row["instruction"], "response.txt": row["response"]}
            )
    assert texts(read_back(path)[1]) == w.pairs(5)


def test_tar_member_of_exactly_one_block_is_read(tmp_path: Path) -> None:
    rows = [{"instruction": "a" * 512, "response": "b" * 1024}, {"instruction": "c", "response": "d"}]
    w.write(tmp_path / "rows.tar", w.tar_of_texts(rows))
    assert texts(read_back(tmp_path / "rows.tar")[1]) == rows


def test_tar_sample_above_the_limit_is_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.tar"
    parts = [(f"b.part{n}.txt", b"x" * 300) for n in range(5)]
    w.write(path, w.tar([("a.txt", b"1"), *parts, ("c.txt", b"2"), ("d.txt", b"y" * 5000), ("e.txt", b"3")]))
    found = [row for _, row in open_rows(Input(str(path), None), "webdataset", Limits(max_row_bytes=1024)).rows]
    assert [row.reason if isinstance(row, RowError) else row["txt"] for row in found] == [
        "1",
        Outcome.TOO_LARGE,
        "2",
        Outcome.TOO_LARGE,
        "3",
    ]


def test_tar_header_that_claims_a_huge_name_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 7 << 30
    w.write(tmp_path / "rows.tar", header.tobuf(tarfile.GNU_FORMAT) + b"a" * 4096)
    _, _, end = read_back(tmp_path / "rows.tar")
    assert end.outcome == FileOutcome.UNREADABLE
    assert "in one piece" in end.detail


# Lines


@given(
    st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_lines_do_not_depend_on_where_chunks_end(lines: list[bytes], size: int, limit: int) -> None:
    content = b"\n".join(lines)
    chunks = (content[begin : begin + size] for begin in range(0, len(content), size))
    expected = [line if len(line) <= limit else None for line in lines]
    while expected and expected[-1] == b"":
        expected.pop()
    read = list(read_lines(chunks, limit))
    found = [line.content for line in read]
    while found and found[-1] == b"":
        found.pop()
    assert found == expected
    assert sum(line.size for line in read) == len(content)


def test_next_line_and_separator_characters_do_not_end_a_line(tmp_path: Path) -> None:
    rows = [{"instruction": "a\u0085b\u2028c\u2029d\x0be\x0cf\x1cg", "response": "b"}]
    w.write(tmp_path / "rows.jsonl", json.dumps(rows[0], ensure_ascii=False).encode().replace(b"\\u001c", b"") + b"\n")
    assert len(read_back(tmp_path / "rows.jsonl")[1]) == 1


def test_blank_lines_are_not_rows_but_count_as_lines(tmp_path: Path) -> None:
    w.write(tmp_path / "rows.jsonl", b'\n{"q": 1}\n\n\n{"question": "a", "answer": "b"}\n')
    _, (first, second), end = read_back(tmp_path / "rows.jsonl", adapter="pairs")
    assert isinstance(first, Rejected)
    assert (first.row, first.position) == (0, "line 2")
    assert second.row == 1
    assert end.rows == 2


# JSON


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.dictionaries(TEXT, st.recursive(TEXT | st.integers() | st.none(), st.lists, max_leaves=5), max_size=4)
    ),
    indent=st.sampled_from([None, 0, 1, 4]),
    ascii_only=st.booleans(),
    size=st.integers(1, 64),
)
def test_array_items_do_not_depend_on_where_chunks_end(
    values: list[Any], indent: int | None, ascii_only: bool, size: int
) -> None:
    content = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    text = _Text(content[begin : begin + size] for begin in range(0, len(content), size))
    assert text.peek() == "["
    text.pos += 1
    assert [row for _, row in _items(text, Limits())] == values
    assert text.peek() == ""


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({"a": TEXT}), min_size=1, max_size=6),
    place=st.integers(0, 5),
    bad=st.sampled_from(['{"a": tru}', '{"a": "x" "y"}', "{1: 2}", '{"a": "x\ny"}', '{"a": [1, {"b": }]}', "tru", "-"]),
    size=st.integers(1, 64),
)
def test_broken_item_of_an_array_is_rejected_alone(rows: list[Any], place: int, bad: str, size: int) -> None:
    items = [json.dumps(row) for row in rows]
    place = min(place, len(items))
    items.insert(place, bad)
    content = f"[{', '.join(items)}]".encode()
    text = _Text(content[begin : begin + size] for begin in range(0, len(content), size))
    text.peek()
    text.pos += 1
    found = [row for _, row in _items(text, Limits())]
    assert isinstance(found.pop(place), RowError)
    assert found == rows


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text('{}[],:"\\ \n1a', max_size=60).map(str.encode), st.integers(1, 64))
def test_any_bytes_as_json_end_without_a_traceback(content: bytes, size: int) -> None:
    text = _Text((b"[" + content)[begin : begin + size] for begin in range(0, len(content) + 1, size))
    text.peek()
    text.pos += 1
    with suppress(BrokenFileError):
        assert all(isinstance(row, dict | RowError) for _, row in _items(text, Limits()))


def test_item_above_the_limit_is_skipped_and_the_next_one_read(tmp_path: Path) -> None:
    rows = [*w.pairs(1), {"instruction": '"]}' + "x" * 50_000, "response": "y"}, *w.pairs(2)]
    limits = Limits(max_row_bytes=10_000)
    for content in (json.dumps(rows), json.dumps({"data": rows}), json.dumps(rows, indent=1)):
        w.write(tmp_path / "rows.json", content.encode())
        found = [row for _, row in open_rows(Input(str(tmp_path / "rows.json"), None), "json", limits).rows]
        error = found.pop(1)
        assert isinstance(error, RowError)
        assert error.reason == Outcome.TOO_LARGE
        assert found == [rows[0], *rows[2:]]


def test_fields_on_both_sides_of_the_list_are_context(tmp_path: Path) -> None:
    content = {"URL": ["a"], "Positive Examples": [{"input": "no row"}], "Instances": w.pairs(2), "Definition": ["Do."]}
    w.write(tmp_path / "task.json", json.dumps(content, indent=2).encode())
    rows = open_rows(Input(str(tmp_path / "task.json"), None), "json", Limits())
    assert rows.context["Definition"] == ["Do."]
    assert rows.context["URL"] == ["a"]
    assert "'Positive Examples' (1)" in rows.note
    assert [row for _, row in rows.rows] == w.pairs(2)


def test_object_without_a_list_is_one_row(tmp_path: Path) -> None:
    w.write(tmp_path / "row.json", json.dumps(w.pairs(1)[0], indent=2).encode())
    assert texts(read_back(tmp_path / "row.json")[1]) == w.pairs(1)


# CSV and YAML


def test_delimiter_is_detected_in_the_header(tmp_path: Path) -> None:
    for delimiter in ",;|\t":
        w.write(tmp_path / "rows.csv", w.delimited(w.pairs(2), delimiter))
        assert texts(read_back(tmp_path / "rows.csv")[1]) == w.pairs(2)


def test_cell_with_line_ends_and_quotes_is_one_cell(tmp_path: Path) -> None:
    rows = [{"instruction": 'a\r\nb\n\n"c",', "response": "d\n"}, {"instruction": "e", "response": "f"}]
    w.write(tmp_path / "rows.csv", w.delimited(rows, ","))
    _, found, _ = read_back(tmp_path / "rows.csv")
    assert texts(found) == rows


def test_csv_row_above_the_limit_is_rejected_alone_when_its_end_is_known(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    w.write(path, b"a,b\n1,2\n" + b"x" * 2000 + b",y\n3,4\n")
    found = [row for _, row in open_rows(Input(str(path), None), "csv", Limits(max_row_bytes=1000)).rows]
    assert found[0] == {"a": "1", "b": "2"}
    assert isinstance(found[1], RowError)
    assert found[2] == {"a": "3", "b": "4"}


def test_csv_quote_that_never_closes_loses_its_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    for limit in (1000, 1 << 20):
        w.write(path, b'a,b\n1,2\n"x,y\n' + b"3,4\n" * 2000)
        rows = [row for _, row in open_rows(Input(str(path), None), "csv", Limits(max_row_bytes=limit)).rows]
        assert isinstance(rows[1], RowError)
        assert "a quote that is not closed" in rows[1].detail
        assert rows[:1] + rows[2:] == [{"a": "1", "b": "2"}] + [{"a": "3", "b": "4"}] * 2000


def test_yaml_values_keep_their_spelling(tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    w.write(
        path,
        b"# comment\n---\n- question: yes\n  answer: 1.10\n"
        b"- question: 2001-01-01\n  answer: |\n    - a\n\n    b\n...\n",
    )
    assert [(row["instruction"], row["response"]) for row in texts(read_back(path)[1])] == [
        ("yes", "1.10"),
        ("2001-01-01", "- a\n\nb\n"),
    ]


# Streaming


class Endless:
    """Chunks without end, counted."""

    def __init__(self, first: bytes, chunk: bytes):
        self.first, self.chunk, self.taken = first, chunk, 0

    def __iter__(self) -> Iterator[bytes]:
        yield self.first
        while True:
            self.taken += 1
            yield self.chunk


def test_rows_are_read_before_the_stream_ends() -> None:
    line = w.jsonl(w.pairs(1))
    stream = Endless(line, line * 100)
    lines = read_lines(iter(stream), 1 << 20)
    assert next(lines).content == line.strip()
    assert stream.taken == 0


def test_single_read_above_the_limit_of_a_stream_is_refused() -> None:
    file = ForwardFile(iter([b"abc"]), max_bytes=2)
    with pytest.raises(BrokenFileError, match="byte 0: asks for 3 bytes in one piece; the limit is 2"):
        file.read(3)
    assert file.read(2) == b"ab"
    with pytest.raises(io.UnsupportedOperation):
        file.seek(0)


TIMES = {
    "date": pa.array([0, 10**8], pa.date32()),
    "nanoseconds": pa.array([1, 2**62], pa.timestamp("ns")),
    "second": pa.array([3, 2**50], pa.timestamp("s")),
    "zone": pa.array([1_500_000, 0], pa.timestamp("us", tz="Europe/Berlin")),
    "unknown zone": pa.array([0, 1], pa.timestamp("us", tz="Mars/Phobos")),
    "time": pa.array([1, 2], pa.time64("ns")),
    "duration": pa.array([5, 2**62], pa.duration("s")),
    "pieces": pa.array(["x", "y"]).dictionary_encode(),
    "month": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
}


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_columns_of_any_type_beside_the_text_reject_no_row(tmp_path: Path, form: str) -> None:
    columns = {"instruction": pa.array(["a", "b"]), "response": pa.array(["c", "d"]), **TIMES}
    if form == "parquet":
        del columns["month"]  # Parquet has no such type
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    else:
        with (
            pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, pa.table(columns).schema) as file,
        ):
            file.write_table(pa.table(columns))
    _, rows, end = read_back(tmp_path / f"rows.{form}")
    assert end.outcome == FileOutcome.READ
    assert texts(rows) == [{"instruction": "a", "response": "c"}, {"instruction": "b", "response": "d"}]
    assert isinstance(rows[0], Pair)
    meta = json.loads(rows[0].meta or "")
    assert meta["date"] == "1970-01-01"
    assert meta["nanoseconds"] == "1970-01-01 00:00:00.000000001"
    assert meta["second"] == "1970-01-01 00:00:03"
    assert meta["zone"] == "1970-01-01 00:00:01.500000Z"
    assert meta["unknown zone"] == "1970-01-01 00:00:00Z"
    assert meta["pieces"] == "x"


def test_value_that_python_cannot_represent_rejects_its_row_alone(tmp_path: Path) -> None:
    when = pa.array([{"at": 0}, {"at": 10**8}], pa.struct([("at", pa.date32())]))
    pq.write_table(pa.table({"question": ["a", "b"], "answer": ["c", "d"], "when": when}), tmp_path / "rows.parquet")
    _, rows, _ = read_back(tmp_path / "rows.parquet")
    assert isinstance(rows[0], Pair)
    assert isinstance(rows[1], Rejected)
    assert rows[1].reason == Outcome.INVALID_SYNTAX


def test_large_dictionary_does_not_make_its_rows_large(tmp_path: Path) -> None:
    column = pa.array([f"{n} " * 400 for n in range(50)]).dictionary_encode()
    pq.write_table(pa.table({"instruction": column, "response": column}), tmp_path / "rows.parquet")
    rows = open_rows(Input(str(tmp_path / "rows.parquet"), None), "parquet", Limits(max_row_bytes=20_000)).rows
    assert all(isinstance(row, dict) for _, row in rows)


def test_file_that_is_one_conversation_is_one_row(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    w.write(tmp_path / "one.json", json.dumps({"tools": [{"name": "t"}], "messages": turns}, indent=1).encode())
    file, rows, end = read_back(tmp_path / "one.json")
    assert (file.adapter, end.rows, len(rows)) == ("chat", 1, 1)


def test_full_disk_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet.gz"
    w.write(path, w.COMPRESSIONS[".gz"](w.parquet(w.pairs(3))))
    source = SourceSpec(name="s", path=str(path))
    (file,) = discover(source, tmp_path)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    with pytest.raises(StorageError, match="No space left on device"):
        list(read_pairs(source, file))
