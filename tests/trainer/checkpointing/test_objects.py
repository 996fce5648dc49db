"""Claims about stores that fail, and places that are none."""

import threading
from pathlib import Path

import pytest

import trainer.checkpointing.objects
from corpus.config import ConfigError, load_manifest
from model.loading import file_hash
from tests.faults import FaultyProxy
from tests.trainer.fixtures import write_manifest
from trainer.checkpointing.objects import Objects, StorageError
from trainer.config import TrainConfig
from trainer.data.dataset import open_dataset
from trainer.data.fetch import DatasetError


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.checkpointing.objects, "PAUSE", 0.001)


def test_store_that_has_served_is_waited_for_and_one_that_never_did_is_given_up(
    tmp_path: Path, bucket: str, faults: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.checkpointing.objects, "ATTEMPTS", 1)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)  # the clients' own ones, which take their time
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    file = tmp_path / "file"
    file.write_text("content")
    faults.kinds, faults.share = ("503",), 1.0
    with pytest.raises(StorageError, match="listing failed 1 times"):
        Objects(f"{bucket}/run", patience=60).list()
    faults.share = 0.0
    store = Objects(f"{bucket}/run", patience=60)
    assert store.list() == {}
    faults.share, before = 1.0, faults.counts["503"]
    upload = threading.Thread(target=store.put, args=(file, "object"))
    upload.start()
    while upload.is_alive() and faults.counts["503"] < before + 12:
        upload.join(0.01)
    faults.share = 0.0
    upload.join(60)
    store.get("object", tmp_path / "back", digest=file_hash(file))
    assert store.list() == {"object": 7}


def test_folder_that_cannot_be_read_is_an_error_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Objects(str(tmp_path / "absent")).list() == {}
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "file").write_text("content")
    assert Objects(f"file://{tmp_path}").list() == {"step/file": 7}
    with pytest.raises(StorageError, match="File name too long"):
        Objects(str(tmp_path / ("x" * 300))).list()


def test_bucket_that_is_not_there_is_told_of_before_anything_is_saved(bucket: str) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket/run: nothing can be stored here"):
        Objects("s3://no-such-bucket/run").probe()
    store = Objects(f"{bucket}/run")
    store.probe()
    assert store.list() == {}


def test_unknown_scheme_is_one_message_without_the_password(data: Path, tmp_path: Path) -> None:
    url = "foo://me:secret@host/run"
    said = "foo://host/run: no file system is known for foo://"
    with pytest.raises(StorageError, match=said):
        Objects(url)
    with pytest.raises(DatasetError, match=said):
        open_dataset(url, tmp_path)
    for key in ("data", "checkpoint.path"):
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
    places = ["data=https://me:secret@host/mix", "checkpoint.path=s3://me:secret@bucket/run"]
    kept = load_manifest(write_manifest(tmp_path, data), TrainConfig, places).shown()
    assert (kept["data"], kept["checkpoint"]["path"]) == ("https://host/mix", "s3://bucket/run")
