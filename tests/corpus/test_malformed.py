"""Reading a malformed file accounts for every row, and never raises."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.config import ConfigError
from corpus.discover import discover
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w
from tests.corpus.malformed import MALFORMED, Case


def read_all(path: Path) -> tuple[list[Pair], list[Rejected], FileEnd]:
    """Everything that the one file at `path` yields."""
    spec = SourceSpec(name="malformed", path=str(path))
    (file,) = discover(spec, path.parent)
    *rows, end = read_pairs(spec, file)
    assert isinstance(end, FileEnd)
    pairs = [row for row in rows if isinstance(row, Pair)]
    rejected = [row for row in rows if isinstance(row, Rejected)]
    assert len(pairs) + len(rejected) == len(rows)
    return pairs, rejected, end


def test_malformed_cases_have_distinct_names_and_number_more_than_thirty() -> None:
    assert len({case.name for case in MALFORMED}) == len(MALFORMED) > 30


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_malformed_file_is_accounted_for(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "source" / case.name
    case.write(path)
    pairs, rejected, end = read_all(path)
    assert end.outcome == case.outcome, end
    assert Counter(row.reason for row in rejected) == case.rejected, rejected
    if case.pairs >= 0:
        assert len(pairs) == case.pairs
    elif end.rows:
        assert pairs
    assert {row.row for row in pairs} | {row.row for row in rejected} == set(range(end.rows))
    assert case.says in (end.detail or (rejected[0].detail if rejected else ""))
    assert all(row.position and row.detail for row in rejected)
    for pair in pairs:
        (pair.instruction + pair.response + (pair.meta or "")).encode()
    assert [p for p in tmp_path.iterdir() if p.name != "source"] == [], "reading wrote a file"


def test_folder_in_place_of_a_file_is_read_as_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "rows.jsonl"
    folder.mkdir()
    (folder / "inner.jsonl").write_bytes(b'{"question": "a", "answer": "b"}\n')
    spec = SourceSpec(name="s", path="rows.jsonl")
    assert [file.path for file in discover(spec, tmp_path)] == ["inner.jsonl"]


def test_empty_folder_is_a_manifest_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"source 's': the folder holds no file: rows\.jsonl"):
        discover(SourceSpec(name="s", path="rows.jsonl"), tmp_path)


@pytest.mark.parametrize("compression", w.COMPRESSIONS)
@pytest.mark.parametrize("name", w.FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_file_of_any_format_is_accounted_for(
    name: str, compression: str, data: st.DataObject, tmp_path: Path
) -> None:
    suffix, write = w.FORMATS[name]
    content = bytearray(w.COMPRESSIONS[compression](write(w.pairs(20))))
    for _ in range(data.draw(st.integers(1, 3), "damages")):
        at = data.draw(st.integers(0, len(content)), "at")
        noise = data.draw(st.binary(max_size=8), "noise")
        content[at : at + data.draw(st.sampled_from([0, len(noise), 1 << 20]), "replaces")] = noise
    path = tmp_path / f"rows.{suffix}{compression}"
    path.write_bytes(bytes(content))
    pairs, rejected, end = read_all(path)
    assert {row.row for row in pairs} | {row.row for row in rejected} == set(range(end.rows))
    assert end.outcome in (FileOutcome.READ, FileOutcome.EMPTY) or (end.detail and (end.position or not end.rows))
