"""Claims about the upload of an exported folder, against a stand-in of the Hub's API."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model import export
from tests.hub import REFUSED, Hub, serve_hub, use_hub
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.train import main as train

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as served:
        use_hub(served, monkeypatch)
        yield served


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    assert train([str(write_manifest(folder, write_dataset(folder / "data"), epochs=None, steps=1))]) == 0
    return folder / "run"


def test_folder_is_uploaded_as_one_commit_to_a_private_repository(
    trained: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(trained), str(tmp_path / "hf"), "--push", "me/model"]) == 0
    assert f"uploaded: {hub.url}/me/model" in capsys.readouterr().out
    files = hub.repositories["me/model"]
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    assert {"README.md", "model.safetensors", "modeling_prefix_lm.py", "tokenizer.json"} <= files.keys()
    assert (hub.created[0]["name"], hub.created[0]["private"], hub.commits) == ("model", True, 1)
    assert hub.tokens == {"Bearer secret-token"}
    assert hashlib.sha256(files["model.safetensors"]).hexdigest() in hub.stored


def test_file_that_is_not_accepted_is_an_error_of_one_line(
    trained: Path, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.room = 0
    assert export.main([str(trained), str(tmp_path / "hf"), "--push", "me/model"]) == 1
    assert "was not uploaded to me/model: Error while uploading 'model.safetensors'" in capsys.readouterr().err


def test_refused_upload_keeps_the_folder_and_shows_no_token(
    trained: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", REFUSED)
    assert export.main([str(trained), str(tmp_path / "hf"), "--push", "me/model"]) == 1
    error = capsys.readouterr().err
    assert f"error: {tmp_path}/hf is written, and was not uploaded to me/model: 401" in error
    assert REFUSED not in error
    assert (tmp_path / "hf" / "config.json").exists()


@pytest.mark.parametrize(("name", "message"), [("model", "expected USER/NAME"), ("me/model", "there is no token")])
def test_wrong_name_and_missing_token_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    for variable in [variable for variable in os.environ if variable.startswith(("HF_", "HUGGING_FACE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    assert export.main([str(tmp_path), str(tmp_path / "hf"), "--push", name]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
