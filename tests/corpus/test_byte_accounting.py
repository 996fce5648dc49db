"""Every byte of a text file is in a row, in a named loss, or in the file's structure, whatever happened to the file."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.discover import SourceFile
from corpus.formats import open_rows
from corpus.formats.base import BrokenFileError, Limits
from corpus.formats.stream import Input
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w

AWKWARD = st.sampled_from(
    [
        "",
        "plain",
        'a "b" c',
        '"',
        '""',
        "a, b",
        "a\tb",
        "two\nlines",
        "x,y\nz,w",
        "a\r\nb",
        "é 日本 😀",
        "{",
        "}], [{",
        "\\",
        '\\"',
        "\ufeff",
    ]
)
TEXT = st.lists(AWKWARD, max_size=3).map("".join)
ROWS = st.lists(st.fixed_dictionaries({"instruction": TEXT, "response": TEXT}), min_size=1, max_size=6)


def unquoted(rows: w.Rows) -> bytes:
    """TSV as many data sets have it: no quoting at all."""
    lines = ["instruction\tresponse", *("\t".join(row.values()) for row in rows)]
    return "\n".join(lines).encode()


def indented(rows: w.Rows) -> bytes:
    return "\n".join(json.dumps(row, indent=1, ensure_ascii=False) for row in rows).encode()


def columns(rows: w.Rows) -> bytes:
    return json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode()


def by_id(rows: w.Rows) -> bytes:
    return json.dumps({f"id{number}": row for number, row in enumerate(rows)}, ensure_ascii=False).encode()


def yaml_documents(rows: w.Rows) -> bytes:
    return yaml.safe_dump_all(rows, explicit_start=True).encode()


WRITERS: dict[str, list[Callable[[w.Rows], bytes]]] = {
    "csv": [lambda rows: w.delimited(rows, ","), lambda rows: w.delimited(rows, ";"), unquoted],
    "tsv": [lambda rows: w.delimited(rows, "\t"), unquoted],
    "jsonl": [w.jsonl, lambda rows: w.jsonl(rows).replace(b"\n", b",\r\n")],
    "json": [w.json_array, w.json_object, indented, columns, by_id],
    "yaml": [w.yaml_list, yaml_documents, lambda rows: yaml.safe_dump({"version": 1, "rows": rows}).encode()],
    "text": [lambda rows: w.jsonl(rows)],
    "webdataset": [w.tar_of_json, w.tar_of_texts],
}
NOISE = st.sampled_from(
    [
        b'"',
        b"\n",
        b"\r",
        b",",
        b"\t",
        b"\\",
        b"\xff",
        b"\0",
        b"\xef\xbb\xbf",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\xf0\x9f",
        b"NaN",
        b'"\n',
        b'",',
    ]
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """The format and the content of a file that was cut, joined and damaged."""
    kind = draw(st.sampled_from(sorted(WRITERS)))
    content = b"".join(
        draw(st.sampled_from(WRITERS[kind]))(draw(ROWS)) + draw(st.sampled_from([b"", b"\n"]))
        for _ in range(draw(st.sampled_from([1, 1, 2, 3])))
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        what = draw(st.sampled_from(["insert", "delete", "cut end", "cut begin", "repeat"]))
        if what == "insert":
            content = content[:at] + draw(NOISE) + content[at:]
        elif what == "delete":
            content = content[:at] + content[at + draw(st.integers(1, 20)) :]
        elif what == "cut end":
            content = content[: max(at, len(content) // 2)]
        elif what == "cut begin":
            content = content[min(at, len(content) // 2) :]
        else:
            content = content[:at] + content[at : at + 30] * 2 + content[at + 30 :]
    return kind, content


def read(path: Path, kind: str, **spec: Any) -> tuple[list[Pair | Rejected], FileEnd]:
    source = SourceSpec(name="s", path=str(path), **({"format": "text", "lines": "blocks"} if kind == "text" else spec))
    *rows, end = read_pairs(source, SourceFile(source="s", path=path.name, url=str(path), bytes=0, format=kind))
    assert isinstance(end, FileEnd)
    return [row for row in rows if isinstance(row, Pair | Rejected)], end


def lost_bytes(end: FileEnd) -> int:
    assert end.bytes_lost is not None
    return sum(end.bytes_lost.values())


@pytest.mark.slow
@settings(max_examples=2400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(files())
def test_every_byte_of_a_damaged_file_is_in_a_row_or_a_named_loss(tmp_path: Path, file: tuple[str, bytes]) -> None:
    kind, content = file
    path = tmp_path / "file"
    path.write_bytes(content)
    rows, end = read(path, kind)
    assert end.bytes_read == len(content)
    assert end.bytes_rows is not None
    assert end.bytes_structure is not None
    assert end.bytes_read == end.bytes_rows + end.bytes_structure + lost_bytes(end)
    assert all(size > 0 for size in (end.bytes_lost or {}).values())
    assert {row.row for row in rows} == set(range(end.rows))
    if end.outcome in (FileOutcome.TRUNCATED, FileOutcome.UNREADABLE):
        assert end.detail


_HEADER = rb'(\xef\xbb\xbf|\s|"?(instruction|response)"?[,\t]?|"")*'
STRUCTURE = {
    "csv": re.compile(_HEADER),
    "tsv": re.compile(_HEADER),
    "jsonl": re.compile(rb"(\xef\xbb\xbf|\s)*"),
    "json": re.compile(rb"(\xef\xbb\xbf|\s|[\[\],])*"),
}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(["csv", "tsv", "jsonl", "json"]), ROWS, st.data())
def test_bytes_booked_for_a_row_are_the_row(tmp_path: Path, kind: str, rows: w.Rows, data: st.DataObject) -> None:
    content = {"csv": WRITERS["csv"][0], "tsv": WRITERS["tsv"][0], "jsonl": w.jsonl, "json": w.json_array}[kind](rows)
    at = data.draw(st.integers(0, len(content)))
    if kind in ("csv", "tsv"):
        at = max(at, len(b"instruction,response\r\n"))
    content = content[:at] + data.draw(NOISE) + content[at:]
    path = tmp_path / "file"
    path.write_bytes(content)
    found = open_rows(Input(str(path), None), kind, Limits())
    tally = found.tally
    assert tally is not None
    end = lost = 0
    try:
        for _, row in found.rows:
            begin = tally.begin
            span = content[begin : tally.booked]
            if isinstance(row, dict):
                if tally.lost.total() == lost:
                    assert STRUCTURE[kind].fullmatch(content[end:begin]), content[end:begin]
                if kind in ("json", "jsonl"):
                    assert json.loads(span.strip(b" \r\n\t,\xef\xbb\xbf")) == row
                else:
                    # Quotes, delimiters and line ends aside, the cells are the whole text of the span.
                    marks = str.maketrans("", "", '",\t\r\n\ufeff')
                    assert "".join(row.values()).translate(marks) == span.decode().translate(marks)
            end, lost = tally.booked, tally.lost.total()
    except BrokenFileError:
        tally.finish()
    assert tally.read == len(content) == tally.rows + tally.structure + tally.lost.total()


def test_bytes_of_a_truncated_gzip_file_are_those_before_the_break(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    content = w.jsonl(w.pairs(2000))
    path.write_bytes(gzip.compress(content, mtime=0)[:-2000])
    source = SourceSpec(name="s", path=str(path))
    file = SourceFile(source="s", path="rows", url=str(path), bytes=0, format="jsonl", compression="gz")
    *rows, end = read_pairs(source, file)
    assert isinstance(end, FileEnd)
    assert end.outcome == FileOutcome.TRUNCATED
    whole = content[: end.bytes_rows].count(b"\n")
    assert end.rows == len(rows) == whole
    assert end.bytes_read == (end.bytes_rows or 0) + lost_bytes(end)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_formats_whose_rows_are_no_ranges_of_bytes_have_no_byte_counts(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    path.write_bytes((w.parquet if kind == "parquet" else w.arrow_file)(w.pairs(3)))
    rows, end = read(path, kind)
    assert len(rows) == 3
    assert (end.bytes_read, end.bytes_lost) == (None, None)
