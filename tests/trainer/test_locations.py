"""Claims about the locations in a training manifest: URLs, folders and their credentials."""

from pathlib import Path

import pytest

from corpus.config import ConfigError, load_manifest
from corpus.storage import StorageError
from tests.trainer.fixtures import write_manifest
from trainer.checkpointing.manager import CheckpointManager
from trainer.config import TrainConfig
from trainer.data.dataset import open_dataset
from trainer.data.fetch import DatasetError


def test_unknown_scheme_is_one_message_without_the_password(data: Path, tmp_path: Path) -> None:
    url = "foo://me:secret@host/run"
    said = "foo://host/run: no file system is known for foo://"
    with pytest.raises(StorageError, match=said):
        CheckpointManager(url, staging=tmp_path, keep=1)
    with pytest.raises(DatasetError, match=said):
        open_dataset(url, tmp_path)
    for key in ("data", "checkpoint.path", "init"):
        with pytest.raises(ConfigError, match=said) as error:
            load_manifest(write_manifest(tmp_path, data), TrainConfig, [f"{key}={url}"])
        assert key in str(error.value)
        assert "secret" not in str(error.value).replace(f"{key}={url}", "")


def test_home_and_file_prefix_are_understood_in_every_place_of_a_manifest(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    places = ["out=~/run", "cache=file:///cache", "data=~/data", "checkpoint.path=file://~/kept"]
    config = load_manifest(write_manifest(tmp_path, data), TrainConfig, places)
    assert (config.out, config.cache, config.data) == (tmp_path / "run", Path("/cache"), str(data))
    assert config.checkpoint_url == str(tmp_path / "kept")


def test_manifest_that_is_kept_with_a_checkpoint_has_no_password(data: Path, tmp_path: Path) -> None:
    places = ["data=https://me:secret@host/mix?X-Amz-Signature=secret", "checkpoint.path=s3://me:secret@bucket/run"]
    places.append("init=s3://me:secret@bucket/base")
    kept = load_manifest(write_manifest(tmp_path, data), TrainConfig, places).redacted()
    assert (kept["data"], kept["checkpoint"]["path"]) == ("https://host/mix", "s3://bucket/run")
    assert kept["init"] == "s3://bucket/base"
