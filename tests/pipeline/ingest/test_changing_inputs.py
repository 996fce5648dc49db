"""An input file that changes or vanishes under a build stops it with one line that names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from corpus.discover import discover
from corpus.plugins import find
from corpus.source import SourceSpec
from pipeline.engine.step import BuildError, complete
from pipeline.ingest.content import HashFile, stamp
from pipeline.ingest.spec import CleanSpec
from pipeline.ingest.step import Ingest

ROWS = 4_000


def rows(text: str) -> bytes:
    return b"".join(
        json.dumps({"instruction": f"{text} {n}", "response": f"{n}"}).encode() + b"\n" for n in range(ROWS)
    )


def written(url: str, content: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(content)


def deleted(url: str) -> None:
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.rm_file(path)


CHANGES: dict[str, Callable[[str], None]] = {
    "deleted": deleted,
    "shortened": lambda url: written(url, rows("Say")[: -(ROWS // 2)]),
    "longer": lambda url: written(url, rows("Say") + b"x"),
    "rewritten": lambda url: written(url, rows("Ask")),
    "emptied": lambda url: written(url, b""),
}


MOMENTS = ("before it is hashed", "before it is read", "while it is read")
# A remote file is copied before it is read.
CASES = [("folder", moment, change) for moment in MOMENTS for change in CHANGES]
CASES += [("S3", moment, change) for moment in MOMENTS[:2] for change in ("deleted", "rewritten")]

DURING = """
import fsspec
from tests.pipeline.ingest.test_changing_inputs import CHANGES

def pairs(row):
    if row["instruction"] == "Say 2000":
        CHANGES[{change!r}]({url!r})
    return [(row["instruction"], row["response"])]
"""


@pytest.mark.parametrize(("place", "moment", "change"), CASES)
def test_input_that_changes_or_vanishes_is_named(
    place: str, moment: str, change: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"{tmp_path if place == 'folder' else request.getfixturevalue('bucket')}/a.jsonl"
    written(url, rows("Say"))
    source = SourceSpec(name="s", path=url)
    if moment == "while it is read":
        (tmp_path / "during.py").write_text(DURING.format(change=change, url=url))
        source = SourceSpec(name="s", path=url, adapter=find("during:pairs", tmp_path))
    (file,) = discover(source, tmp_path)
    mark = stamp(url)
    step = HashFile(url=url, stamp=mark, shown=url)

    def build() -> None:
        if moment == "before it is hashed":
            CHANGES[change](url)
        sha256 = complete(step, tmp_path / "work", step.key).sha256
        if moment == "before it is read":
            CHANGES[change](url)
        ingest = Ingest(identity="x", clean=CleanSpec(), rules=None, spec=source, file=file, stamp=mark, sha256=sha256)
        complete(ingest, tmp_path / "work", "x")

    with pytest.raises(BuildError) as error:
        build()
    said = str(error.value)
    assert "changed" in said
    assert "run the build again" in said
    # The executor puts the step and its file before the message of a `HashFile`.
    assert moment == "before it is hashed" or said.startswith(f"{url}: ")
