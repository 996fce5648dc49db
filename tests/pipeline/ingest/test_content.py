"""Content of remote files: what is copied, and how often."""

import io
import zipfile
from pathlib import Path

import fsspec
import pytest

from corpus.discover import discover
from corpus.formats.ranges import ByteRange
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from pipeline.engine.step import BuildError
from pipeline.ingest import content
from pipeline.ingest.spec import CleanSpec
from pipeline.ingest.step import Ingest
from tests.corpus import write as w


def test_remote_archive_is_copied_once_for_all_files_in_it(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.jsonl", w.jsonl(w.pairs(2)))
    url = f"{bucket}/set.zip"
    with fsspec.open(url, "wb") as file:
        file.write(sink.getvalue())
    source = SourceSpec(name="s", path=url)
    mark = content.stamp(url)
    step = content.HashFile(url=url, stamp=mark, shown=url)
    sha256 = step.run(tmp_path, tmp_path).sha256
    copied: list[str] = []
    original = content._copied
    monkeypatch.setattr(content, "_copied", lambda url, copy, span: copied.append(url) or original(url, copy, span))
    work, out = tmp_path / "work", tmp_path / "out"
    out.mkdir()
    for found in discover(source, tmp_path):
        with content.as_hashed(source, found, mark, sha256, work=work, out=out) as (file, _):
            assert sum(isinstance(item, Pair) for item in read_pairs(source, file)) == 2
    assert copied == [url]
    assert list(out.iterdir()) == []
    content.discard_archives(work)
    assert not any(path.is_file() for path in work.rglob("*"))


def test_ranges_of_a_remote_file_are_copied_one_by_one_and_refused_when_they_changed(
    bucket: str, tmp_path: Path
) -> None:
    rows = w.jsonl(w.pairs(50))
    url = f"{bucket}/rows.jsonl"
    with fsspec.open(url, "wb") as file:
        file.write(rows)
    source = SourceSpec(name="s", path=url)
    mark = content.stamp(url)
    hashed = content.HashFile(url=url, stamp=mark, shown=url, range_bytes=500).run(tmp_path, tmp_path)
    assert len(hashed.ranges) > 3
    (found,) = discover(source, tmp_path)

    def pairs(span: ByteRange) -> list[Pair | Rejected | FileEnd]:
        with content.as_hashed(source, found, mark, hashed.sha256, span=span, work=tmp_path, out=tmp_path) as (
            file,
            inside,
        ):
            assert Path(file.url).stat().st_size == span.size
            return list(read_pairs(source, file, span=inside))

    read = [item for span in hashed.ranges for item in pairs(span) if not isinstance(item, FileEnd)]
    assert read == [item for item in read_pairs(source, found) if not isinstance(item, FileEnd)]
    with fsspec.open(url, "wb") as file:
        file.write(rows[:-4] + b'X"}\n')
    for span in hashed.ranges[:-1]:
        pairs(span)
    with pytest.raises(BuildError, match="has changed since it was hashed"):
        pairs(hashed.ranges[-1])


def test_range_of_a_local_file_that_was_cut_off_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(w.jsonl(w.pairs(50)))
    mark = content.stamp(str(path))
    hashed = content.HashFile(url=str(path), stamp=mark, shown=str(path), range_bytes=500).run(tmp_path, tmp_path)
    source = SourceSpec(name="s", path=str(path))
    (file,) = discover(source, tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    step = Ingest(
        identity="a",
        clean=CleanSpec(),
        rules=None,
        span=hashed.ranges[-1],
        spec=source,
        file=file,
        stamp=content.stamp(str(path)),
        sha256=hashed.sha256,
    )
    with pytest.raises(BuildError, match="are not as they were when the file was hashed"):
        step.run(tmp_path, tmp_path)
