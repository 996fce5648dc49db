"""A dataset on an S3 server is the dataset of a local build."""

import json
from pathlib import Path

import fsspec
import pytest

from pipeline.build import main
from pipeline.ingest import content
from pipeline.verify import verify
from tests.pipeline.conftest import contents, run_build

pytestmark = pytest.mark.slow  # builds datasets


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work folders of builds to URLs are temporary."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def remote(url: str) -> dict[str, bytes]:
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    return {path[len(root) + 1 :]: filesystem.cat_file(path) for path in filesystem.find(root)}


def test_dataset_on_s3_equals_the_local_one_and_is_replaced_whole(
    mix: Path, dataset: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{bucket}/small"
    run_build(mix, url)
    assert remote(url) == contents(dataset)
    assert not [problem for check in verify(url) for problem in check.problems]

    capsys.readouterr()
    assert main([str(mix), "--out", url]) == 0
    assert "nothing to do" in capsys.readouterr().out

    run_build(mix, url, overrides=("shards.size=1MiB",))
    facts = json.loads(remote(url)["dataset.json"])
    assert facts["shards"] == 1
    assert set(remote(url)) == {*facts["files"], "dataset.json"}


def test_sources_are_read_from_s3_whole_or_in_ranges(
    mix: Path, dataset: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "RANGE_BYTES", 20_000)
    filesystem, root = fsspec.core.url_to_fs(bucket)
    filesystem.put(str(mix.parent / "first"), f"{root}/raw/first", recursive=True)
    run_build(mix, tmp_path / "out", overrides=(f"sources.first.path={bucket}/raw/first",))
    ours, expected = contents(tmp_path / "out"), contents(dataset)
    for name in ("shards/index.json", "lengths.npy", "strata.json"):
        assert ours[name] == expected[name]
