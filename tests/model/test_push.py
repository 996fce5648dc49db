"""Claims about the upload of an exported folder, against a stand-in of the Hub's API."""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model import export
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.train import main as train

pytest.importorskip("huggingface_hub")


@dataclass
class Hub:
    """What the stand-in was sent."""

    url: str = ""
    created: list[dict[str, object]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by sha256."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files of the last commit by path."""
    commits: int = 0
    tokens: set[str] = field(default_factory=set)


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def answer(self, content: object, code: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_GET(self) -> None:
            self.answer({"id": "me/model", "sha": "0" * 40, "siblings": []})

        def do_PUT(self) -> None:
            hub.stored[self.path.rsplit("/", 1)[1]] = self.body()
            self.answer({})

        def do_POST(self) -> None:
            body = self.body()
            hub.tokens.add(self.headers.get("Authorization", ""))
            if self.headers.get("Authorization") == "Bearer wr0ng":
                self.answer({"error": "Invalid credentials"}, 401)
            elif self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self.answer({"url": f"{hub.url}/me/model"})
            elif self.path.endswith("/preupload/main"):
                mode = {True: "lfs", False: "regular"}
                files = [
                    {
                        "path": file["path"],
                        "uploadMode": mode[file["path"].endswith(".safetensors")],
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
                self.answer({"files": files})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {**entry, "actions": {"upload": {"href": f"{hub.url}/store/{entry['oid']}"}}}
                    for entry in json.loads(body)["objects"]
                ]
                self.answer({"transfer": "basic", "objects": objects})
            elif self.path.endswith("/commit/main"):
                hub.commits += 1
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.stored[value["oid"]]
                self.answer({"commitUrl": f"{hub.url}/me/model/commit/{'1' * 40}", "commitOid": "1" * 40})
            else:
                self.answer({"errors": [], "warnings": []})  # the check of the card's header

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", state.url)  # HF_ENDPOINT, read at the import
    monkeypatch.setenv("HF_TOKEN", "secret")
    yield state
    server.shutdown()
    server.server_close()


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
    assert hub.files == {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    assert {"README.md", "model.safetensors", "modeling_prefix_lm.py", "tokenizer.json"} <= hub.files.keys()
    assert (hub.created[0]["name"], hub.created[0]["private"], hub.commits) == ("model", True, 1)
    assert hub.tokens == {"Bearer secret"}
    assert hashlib.sha256(hub.files["model.safetensors"]).hexdigest() in hub.stored


def test_refused_upload_keeps_the_folder_and_shows_no_token(
    trained: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "wr0ng")
    assert export.main([str(trained), str(tmp_path / "hf"), "--push", "me/model"]) == 1
    error = capsys.readouterr().err
    assert f"error: {tmp_path}/hf is written, and was not uploaded to me/model: 401" in error
    assert "wr0ng" not in error
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
