"""A local stand-in of the Hugging Face Hub's HTTP API: repositories are created, written by commits, and read."""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "c" * 40
REFUSED = "wr0ng-token"
"""A token that is not accepted, and that the answer quotes."""


@dataclass
class Hub:
    """What the stand-in has, and was sent."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """USER/NAME to the content of each file by its path; model and data-set repositories alike."""
    created: list[dict[str, object]] = field(default_factory=list)
    """Requests to create a repository, also of one that was there."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by sha256."""
    room: int | None = None
    """Large files that are still accepted; None: any number."""
    commits: int = 0
    tokens: set[str] = field(default_factory=set)


@contextmanager
def serve_hub(**repositories: dict[str, bytes]) -> Iterator[Hub]:
    """Serve repositories until the block ends; HF_ENDPOINT is not set, see `use_hub`."""
    hub = Hub(repositories=repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.server_close()


def use_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have huggingface_hub, which reads HF_ENDPOINT when it is imported, use the stand-in in this process."""
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("HF_TOKEN", "secret-token")


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    repositories, lock = hub.repositories, threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def answer(self, body: bytes, code: int = 200, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def answer_json(self, content: object, code: int = 200) -> None:
            self.answer(json.dumps(content).encode(), code, Content_Type="application/json")

        def missing(self) -> None:
            self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            if found := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)(/revision/[^/]+)?", path):
                if found[1] not in repositories:
                    return self.missing()
                files = [{"rfilename": name} for name in repositories[found[1]]]
                info = {"id": found[1], "sha": COMMIT, "private": False, "tags": [], "siblings": files}
                return self.answer_json(info)
            if found := re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)/tree/[^/]+(?:/(.*))?", path):
                return self.answer_json(entries(repositories[found[1]], found[2] or ""))
            found = re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/[^/]+/(.*)", path)
            if found is None or found[1] not in repositories:
                return self.missing()
            if found[2] not in repositories[found[1]]:
                return self.answer(b"{}", 404, X_Error_Code="EntryNotFound")
            content = repositories[found[1]][found[2]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            if limits := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                begin, end = int(limits[1]), min(int(limits[2]) + 1, len(content))
                return self.answer(
                    content[begin:end], 206, ETag=etag, Content_Range=f"bytes {begin}-{end - 1}/{len(content)}"
                )
            return self.answer(content, ETag=etag)

        def do_PUT(self) -> None:
            body = self.body()
            name = self.path.rsplit("/", 1)[1]
            with lock:
                if hub.room is not None and name not in hub.stored:
                    if hub.room == 0:
                        return self.answer_json({"error": "no more room"}, 400)
                    hub.room -= 1
                hub.stored[name] = body
            self.answer_json({})

        def do_POST(self) -> None:
            body = self.body()
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            authorization = self.headers.get("Authorization", "")
            hub.tokens.add(authorization)
            if authorization == f"Bearer {REFUSED}":
                return self.answer_json({"error": f"Invalid credentials: {authorization}"}, 401)
            if path == "/api/repos/create":
                wanted = json.loads(body)
                name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
                hub.created.append(wanted)
                repositories.setdefault(name, {})
                kind = "datasets/" if wanted.get("type") == "dataset" else ""
                return self.answer_json({"url": f"{hub.url}/{kind}{name}"})
            if path.endswith("/info/lfs/objects/batch"):
                objects = json.loads(body)["objects"]
                for entry in objects:
                    if entry["oid"] not in hub.stored:
                        entry["actions"] = {"upload": {"href": f"{hub.url}/store/{entry['oid']}"}}
                return self.answer_json({"transfer": "basic", "objects": objects})
            found = re.fullmatch(r"/api/(?:datasets|models)/([^/]+/[^/]+)/(paths-info|preupload|commit)/[^/]+", path)
            if found is None:
                return self.answer_json({"errors": [], "warnings": []})  # the check of the card's header
            if found[1] not in repositories:
                return self.missing()
            files = repositories[found[1]]
            if found[2] == "paths-info":
                is_json = self.headers["Content-Type"].startswith("application/json")
                paths = json.loads(body)["paths"] if is_json else urllib.parse.parse_qs(body.decode())["paths"]
                known = {entry["path"]: entry for entry in entries(files, "")}
                return self.answer_json([known[path] for path in paths if path in known])
            if found[2] == "preupload":
                return self.answer_json({"files": [upload_mode(file, files) for file in json.loads(body)["files"]]})
            commit(hub, files, body)
            self.answer_json({"commitUrl": f"{hub.url}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT})

    return Handler


def upload_mode(file: dict[str, str], present: dict[str, bytes]) -> dict[str, object]:
    """How a file is to be sent, binary ones as large files; and the hash of the one that is there."""
    is_large = b"\0" in base64.b64decode(file["sample"])
    mode: dict[str, object] = {
        "path": file["path"],
        "uploadMode": "lfs" if is_large else "regular",
        "shouldIgnore": False,
    }
    if (content := present.get(file["path"])) is not None:
        blob = b"blob %d\0" % len(content) + content
        mode["oid"] = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(blob).hexdigest()
    return mode


def commit(hub: Hub, files: dict[str, bytes], body: bytes) -> None:
    """Change the files of a repository by the lines of a commit."""
    hub.commits += 1
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = hub.stored[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]


def entries(files: dict[str, bytes], below: str) -> list[dict[str, object]]:
    """All files and folders of a repository, or of a folder in it, as the API lists them."""
    prefix = f"{below}/" if below else ""
    listed: dict[str, dict[str, object]] = {}
    for path, content in files.items():
        if path.startswith(prefix):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder.startswith(prefix):
                    listed[folder] = {"type": "directory", "path": folder, "oid": "0" * 40}
            oid = hashlib.sha1(content).hexdigest()
            listed[path] = {"type": "file", "path": path, "size": len(content), "oid": oid}
    return list(listed.values())
