"""Claims about the upload of a dataset, against a stand-in of the Hub's API over HTTP."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from corpus.contract import FOLDERS
from pipeline.build import main as build
from pipeline.dataset.push import push
from pipeline.engine.step import BuildError
from pipeline.verify import main as verify
from tests.hub import REFUSED, Hub, serve_hub, use_hub

huggingface_hub = pytest.importorskip("huggingface_hub")

pytestmark = pytest.mark.slow  # builds a dataset


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as served:
        use_hub(served, monkeypatch)
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield served
        huggingface_hub.HfFileSystem.clear_instance_cache()


def published(dataset: Path) -> dict[str, bytes]:
    """Content of the files of a dataset."""
    paths = [*json.loads((dataset / "dataset.json").read_text())["files"], "dataset.json"]
    return {path: (dataset / path).read_bytes() for path in paths}


def test_build_uploads_the_dataset_as_one_commit_to_a_private_repository(
    mix: Path, dataset: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(mix), "--out", str(dataset), "--workers", "1", "--push", "me/mix"]
    assert build(command) == 0
    assert f"uploaded: {hub.url}/datasets/me/mix" in capsys.readouterr().out
    assert hub.repositories["me/mix"] == published(dataset)
    assert (hub.created[0]["type"], hub.created[0]["private"], hub.commits) == ("dataset", True, 1)
    assert "Bearer secret-token" in hub.tokens
    assert build([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pushed"] == f"{hub.url}/datasets/me/mix"
    assert hub.commits == 1, "an equal dataset was committed again"


def test_uploaded_dataset_is_verified_at_the_hub(dataset: Path, hub: Hub) -> None:
    push(dataset, "me/mix")
    assert verify(["hf://datasets/me/mix"]) == 0
    shard = "shards/shard.00000.mds"
    hub.repositories["me/mix"][shard] = hub.repositories["me/mix"][shard][::-1]
    huggingface_hub.HfFileSystem.clear_instance_cache()
    assert verify(["hf://datasets/me/mix"]) == 1


def test_interrupted_upload_is_continued_with_the_files_that_are_missing(dataset: Path, hub: Hub) -> None:
    hub.room = 3
    with pytest.raises(BuildError, match="the same command continues"):
        push(dataset, "me/mix")
    assert (len(hub.stored), hub.repositories["me/mix"]) == (3, {})
    large = {hashlib.sha256(content).hexdigest() for content in published(dataset).values() if b"\0" in content[:512]}
    hub.room = len(large) - 3
    push(dataset, "me/mix")
    assert (hub.room, set(hub.stored)) == (0, large)
    assert hub.repositories["me/mix"] == published(dataset)


def test_files_of_an_earlier_dataset_are_replaced_and_others_left_alone(dataset: Path, hub: Hub) -> None:
    other = {"shards/shard.00099.mds": b"old", "dataset.json": b"{}", "README.md": b"old", "notes.txt": b"other"}
    hub.repositories["me/mix"] = dict(other)
    push(dataset, "me/mix")
    assert hub.repositories["me/mix"] == {**published(dataset), "notes.txt": b"other"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_repository_with_files_of_something_else_is_refused(dataset: Path, hub: Hub, folder: str) -> None:
    hub.repositories["me/mix"] = {f"{folder}/theirs": b"x"}
    with pytest.raises(BuildError, match=f"files of something else in a dataset's folders: {folder}/theirs"):
        push(dataset, "me/mix")
    assert (hub.commits, hub.stored) == (0, {})


def test_damaged_file_is_not_uploaded(dataset: Path, tmp_path: Path, hub: Hub) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy", ignore=shutil.ignore_patterns(".work"))
    (copy / "lengths.npy").write_bytes(b"damaged")
    with pytest.raises(BuildError, match=r"lengths\.npy: does not have the hash with which it was published"):
        push(copy, "me/mix")
    assert (hub.created, hub.stored) == ([], {})


def test_refused_upload_keeps_the_dataset_and_shows_no_token(
    mix: Path, dataset: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", REFUSED)
    assert build([str(mix), "--out", str(dataset), "--workers", "1", "--push", "me/mix"]) == 1
    printed = capfd.readouterr()
    assert f"error: {dataset} is built, and was not uploaded to me/mix: " in printed.err
    assert "401" in printed.err
    assert REFUSED not in printed.err + printed.out
    assert verify([str(dataset)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--push", "mix"], "expected USER/NAME"),
        (["--push", "me/mix"], "there is no token"),
        (["--push", "me/mix", "--dry-run"], "a dry run has nothing to upload"),
        (["--out", "hf://datasets/me/mix"], "expected a folder, which --push USER/NAME uploads"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(
    mix: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    for variable in [variable for variable in os.environ if variable.startswith(("HF_", "HUGGING_FACE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.chdir(tmp_path)
    assert build([str(mix), "--work", str(tmp_path / "work"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_remote_dataset_is_not_pushed(mix: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert build([str(mix), "--out", "s3://bucket/mix", "--push", "me/mix"]) == 2
    assert "--push needs a dataset in a folder, and --out is s3://bucket/mix" in capsys.readouterr().err


LOAD = """
from datasets import load_dataset
found = load_dataset("me/mix", token="secret-token")
print(list(found), found["train"].num_rows, found["train"].column_names)
"""


@pytest.mark.skipif(find_spec("datasets") is None, reason="datasets is not installed")
def test_load_dataset_reads_the_uploaded_dataset(dataset: Path, hub: Hub, tmp_path: Path) -> None:
    push(dataset, "me/mix")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    samples = json.loads((dataset / "dataset.json").read_text())["samples"]
    columns = ["row_id", "source", "task", "instruction", "response", "condition", "meta"]
    assert found.stdout.strip().endswith(f"['train'] {samples} {columns}")
