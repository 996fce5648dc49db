"""Builders that publish to one URL leave one whole dataset, whoever is paused."""

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pytest

import corpus.dataset
import corpus.storage.lease as lease
from corpus.contract import PUBLISHING, DatasetError
from corpus.storage.lease import Holder, LeaseError, acquire
from corpus.storage.store import Store
from pipeline.dataset.assemble import Assemble, Place
from pipeline.dataset.publish import publish
from pipeline.verify import verify
from tests.pipeline.conftest import REPOSITORY, command, contents, run_build
from trainer.data.dataset import open_dataset

Finished = tuple[Path, Sequence[Place]]

pytestmark = pytest.mark.slow  # builds datasets


def finished(out: Path) -> Finished:
    """The work folder of a built dataset, and the dataset's files."""
    (folder,) = (out / ".work/assemble").iterdir()
    assembled = Assemble.result(out / ".work", folder.name)
    assert assembled is not None
    return out / ".work", assembled.places


@pytest.fixture(scope="module")
def another(mix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of another manifest, with fewer files."""
    out = tmp_path_factory.mktemp("another") / "out"
    run_build(mix, out, overrides=("shards.size=1MiB", "seed=3"))
    return out


@pytest.fixture(autouse=True)
def _on_another_machine_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builders in this process count as builders on other machines."""
    monkeypatch.setattr(Holder, "has_ended", property(lambda self: False))
    monkeypatch.setattr(lease, "POLL", 0.02)


def remote(url: str) -> dict[str, bytes]:
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    return {path[len(root) + 1 :]: filesystem.cat_file(path) for path in filesystem.find(root)}


@pytest.mark.parametrize("placed", [1, 6, 12])
def test_build_that_is_overtaken_while_it_is_paused_leaves_the_whole_dataset_of_the_other(
    dataset: Path, another: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, placed: int
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.2)
    monkeypatch.setattr(lease, "RENEWAL", 1000.0)
    monkeypatch.setattr("pipeline.dataset.publish.THREADS", 1)
    url = f"{bucket}/mix"
    count = 0

    def pause(_: int) -> None:
        nonlocal count
        count += 1
        if count == placed:
            with acquire(Store(url), "another build") as taken:
                publish(*finished(another), url, lambda _: None, taken)

    with pytest.raises(LeaseError, match="because this process was paused"), acquire(Store(url), "a build") as held:
        publish(*finished(dataset), url, pause, held)
    assert remote(url) == contents(another)
    with acquire(Store(url), "a build") as held:
        publish(*finished(dataset), url, lambda _: None, held)
    assert remote(url) == contents(dataset)


def test_builder_that_is_paused_for_good_is_continued_by_another(
    dataset: Path, another: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.2)
    monkeypatch.setattr(lease, "RENEWAL", 1000.0)
    url = f"{bucket}/mix"

    class EndError(Exception):
        pass

    def end(_: int) -> None:
        raise EndError

    held = acquire(Store(url), "a build")
    with pytest.raises(EndError):
        publish(*finished(dataset), url, end, held)
    assert PUBLISHING in remote(url)
    for read in (corpus.dataset.open_dataset, lambda at: open_dataset(at, tmp_path)):
        with pytest.raises(DatasetError, match="is being published here, or a build was interrupted"):
            read(url)
    with acquire(Store(url), "another build") as taken:
        publish(*finished(another), url, lambda _: None, taken)
    assert remote(url) == contents(another)


@pytest.mark.slow  # builders that wait for each other
def test_two_builders_at_once_leave_one_whole_dataset_round_after_round(
    dataset: Path, another: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lease, "RENEWAL", 0.2)
    url = f"{bucket}/mix"
    works = {}
    for out in (dataset, another):
        shutil.copytree(out / ".work", tmp_path / out.name / ".work")
        works[out] = finished(tmp_path / out.name)
    whole = [contents(dataset), contents(another)]
    winners = []
    for number in range(int(os.environ.get("ROUNDS", "2"))):
        ended: list[str] = []

        def run(out: Path, ended: list[str] = ended) -> None:
            with acquire(Store(url), f"the build of {out.name}", say=lambda _: None) as held:
                publish(*works[out], url, lambda _: None, held)
            ended.append(out.name)

        order = (dataset, another) if number % 2 else (another, dataset)
        threads = [threading.Thread(target=run, args=(out,)) for out in order]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = remote(url)
        assert found in whole
        assert len(ended) == 2
        winners.append(whole.index(found))
    print(f"{len(winners)} rounds, each with one whole dataset; whose: {winners}")


@pytest.mark.slow  # two builds as processes
def test_commands_that_build_to_one_url_at_once_leave_a_sound_dataset(
    mix: Path, dataset: Path, another: Path, bucket: str, tmp_path: Path
) -> None:
    url = f"{bucket}/mix"
    processes = []
    for number, overrides in enumerate(((), ("shards.size=1MiB", "seed=3"))):
        line = [part.replace("s3:/m", "s3://m") for part in command(mix, Path(url), *overrides)]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / str(number))}
        processes.append(
            subprocess.Popen(
                line, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    outputs = [process.communicate()[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes, outputs
    for code, output in zip(codes, outputs, strict=True):
        assert code == 0 or "renews its lease" in output, output
        assert "Traceback" not in output
    assert remote(url) in (contents(dataset), contents(another))
    assert not [problem for check in verify(url) for problem in check.problems]
