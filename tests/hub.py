"""A local stand-in of the Hugging Face Hub's HTTP API for reading the files of repositories."""

import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


@contextmanager
def reading_hub(repositories: Mapping[str, Mapping[str, bytes]]) -> Iterator[str]:
    """Serve data-set repositories; yields the URL of the server.

    Parameters
    ----------
    repositories
        USER/NAME to the content of each file by its path.
    """

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

        def answer_json(self, content: object) -> None:
            self.answer(json.dumps(content).encode(), Content_Type="application/json")

        def missing(self) -> None:
            self.answer(b"{}", 404, X_Error_Code="RepoNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/revision/[^/]+)?", path):
                if found[1] not in repositories:
                    return self.missing()
                return self.answer_json({"id": found[1], "sha": COMMIT, "private": False, "tags": [], "siblings": []})
            if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/[^/]+(?:/(.*))?", path):
                return self.answer_json(entries(repositories[found[1]], found[2] or ""))
            found = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.*)", path)
            if found is None or found[2] not in repositories.get(found[1], {}):
                return self.missing()
            content = repositories[found[1]][found[2]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            if limits := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                begin, end = int(limits[1]), min(int(limits[2]) + 1, len(content))
                return self.answer(
                    content[begin:end], 206, ETag=etag, Content_Range=f"bytes {begin}-{end - 1}/{len(content)}"
                )
            return self.answer(content, ETag=etag)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/paths-info/[^/]+", urllib.parse.unquote(self.path))
            if found is None or found[1] not in repositories:
                return self.missing()
            if self.headers["Content-Type"].startswith("application/json"):
                paths = json.loads(body)["paths"]
            else:
                paths = urllib.parse.parse_qs(body)["paths"]
            known = {entry["path"]: entry for entry in entries(repositories[found[1]], "")}
            return self.answer_json([known[path] for path in paths if path in known])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def entries(files: Mapping[str, bytes], below: str) -> list[dict[str, object]]:
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
