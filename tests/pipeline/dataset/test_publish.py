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


def test_dataset_and_work_folder_share_no_bytes_that_a_program_could_write(dataset: Path) -> None:
    inodes = {path.stat().st_ino for path in (dataset / ".work").rglob("*") if path.is_file()}
    published = [path for path in dataset.rglob("*") if path.is_file() and ".work" not in path.parts]
    assert len(published) > 10
    assert not {path.stat().st_ino for path in published} & inodes
