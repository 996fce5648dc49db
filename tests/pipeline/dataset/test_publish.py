"""At no moment does dataset.json claim a dataset that is not whole."""

from pathlib import Path

import pytest

from corpus.contract import COMMIT
from pipeline.dataset.assemble import Assemble
from pipeline.dataset.publish import publish, read_commit
from tests.pipeline.conftest import contents, run_build

pytestmark = pytest.mark.slow  # builds datasets


class CrashError(Exception):
    """Simulates the end of the process."""


def test_publishing_that_breaks_off_anywhere_leaves_no_commit_record(mix: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_build(mix, out)
    new = contents(out)
    run_build(mix, out, overrides=("shards.size=1MiB", "seed=3"))
    run_build(mix, tmp_path / "work-of-new")
    work = tmp_path / "work-of-new/.work"
    (folder,) = (work / "assemble").iterdir()
    assembled = Assemble.result(work, folder.name)
    assert assembled is not None
    for last in range(len(new)):
        placed = 0

        def crash(_: int, last: int = last) -> None:
            nonlocal placed
            placed += 1
            if placed > last:
                raise CrashError

        with pytest.raises(CrashError):
            publish(work, assembled.places, str(out), crash)
        assert (out / COMMIT).exists() == (last == len(new) - 1)
        assert (read_commit(str(out)) is not None) == (last == len(new) - 1)
    publish(work, assembled.places, str(out), lambda _: None)
    assert contents(out) == new == contents(dataset)


def test_files_are_copied_where_they_cannot_be_linked(
    mix: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    run_build(mix, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(dataset)
