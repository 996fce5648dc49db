"""Byte ranges of a JSON Lines file: any division reads the same as one piece."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.columns import ColumnCounter, ColumnUse, merged
from corpus.discover import SourceFile
from corpus.formats.ranges import ByteRange, Divider
from corpus.pairs import Limits, joined, read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec

MARK = b"\xef\xbb\xbf"
LINES = [
    b'{"instruction": "a", "response": "b"}',
    '{"instruction": "Größe", "response": "東京", "note": 1}'.encode(),
    b'{"instruction": "a", "response": "b", "condition": "cot"}',
    b'{"instruction": "c", "response": "d", "note": "x"}\r',
    b'{"instruction": "c", "response": "d", "condition": "other"},',
    MARK + b'{"instruction": "marked", "response": "d"}',
    b'  {"instruction": "indented", "response": "d"}',
    b'{"instruction": "in Latin-1 \xe4\xf6\xfc\xdf", "response": "d"}',
    b'{"instruction": "long", "response": "' + b"x" * 200 + b'"}',
    b'{"instruction": "broken',
    b"[1]",
    b"\x1e",
    b"",
    b" \t\r",
    b" " * 150,
    MARK,
    MARK + MARK + b" ",
    MARK[:2],
    b"\r",
]
LIMITS = Limits(max_row_bytes=120)
SPEC = SourceSpec(name="s", path="f.jsonl")


def divided(content: bytes, size: int, chunk: int) -> Sequence[ByteRange]:
    divider = Divider(size, LIMITS)
    for begin in range(0, len(content), chunk):
        divider.add(content[begin : begin + chunk])
    return divider.ranges()


def read(path: Path, span: ByteRange | None) -> tuple[list[Pair | Rejected], FileEnd, tuple[ColumnUse, ...]]:
    file = SourceFile(
        source="s", path="f.jsonl", url=str(path), bytes=0, format="jsonl", adapter="pairs", doubt="a doubt"
    )
    columns = ColumnCounter()
    *items, end = read_pairs(SPEC, file, limits=LIMITS, columns=columns, span=span)
    assert isinstance(end, FileEnd)
    return items, end, columns.all_columns  # type: ignore[return-value]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=30),
    ends=st.booleans(),
    size=st.integers(1, 400),
    chunk=st.integers(1, 500),
)
def test_any_division_has_the_rows_positions_bytes_and_columns_of_one_piece(
    lines: list[bytes], ends: bool, size: int, chunk: int, tmp_path: Path
) -> None:
    path = tmp_path / "f.jsonl"
    content = b'{"instruction": "first", "response": "b"}\n' + b"\n".join(lines) + b"\n" * ends
    path.write_bytes(content)
    ranges = divided(content, size, max(chunk, 50))

    assert [span.begin for span in ranges] == [0, *(span.begin + span.size for span in ranges[:-1])]
    assert ranges[-1].begin + ranges[-1].size == len(content)
    assert all(content[span.begin - 1 : span.begin] == b"\n" for span in ranges[1:])
    assert all(first.begin // size < second.begin // size for first, second in pairwise(ranges))

    items, end, columns = read(path, None)
    parts = [read(path, span) for span in ranges]
    assert [item for part, _, _ in parts for item in part] == items
    assert joined([part for _, part, _ in parts]) == end
    assert [part.rows for _, part, _ in parts] == [span.rows for span in ranges]
    assert merged(use for _, _, uses in parts for use in uses) == merged(columns)
    assert end.bytes_read == len(content)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_ranges_do_not_depend_on_the_chunks_that_a_store_sends(chunk: int) -> None:
    content = b"".join(line.replace(b"\r", b"") + b"\n" for line in LINES) * 20
    assert divided(content, 300, chunk) == divided(content, 300, len(content))


def test_file_whose_lines_end_in_carriage_returns_is_not_divided() -> None:
    assert divided(b'{"a": 1}\r{"a": 2}\r' * 100, 50, 10**6) == ()
