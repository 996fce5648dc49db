"""Content of remote files: what is copied, and how often."""

import io
import zipfile
from pathlib import Path

import fsspec
import pytest

from corpus.discover import discover
from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec
from pipeline.ingest import content
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
    monkeypatch.setattr(content, "_copied", lambda url, copy: copied.append(url) or original(url, copy))
    work, out = tmp_path / "work", tmp_path / "out"
    out.mkdir()
    for found in discover(source, tmp_path):
        with content.as_hashed(source, found, mark, sha256, work=work, out=out) as file:
            assert sum(isinstance(item, Pair) for item in read_pairs(source, file)) == 2
    assert copied == [url]
    assert list(out.iterdir()) == []
    content.discard_archives(work)
    assert not any(path.is_file() for path in work.rglob("*"))
