"""An HTTP proxy that does to requests what networks and stores do, before any HTTP server (an S3 one, say).

On a stated share of requests, one of `KINDS` happens:

    503        the answer is 503; the server never sees the request
    reset      the connection is reset; the server never sees the request
    truncate   the connection ends after half of the answer's body (of an upload: after half of what is sent)
    corrupt    one byte of an object is changed, in the answer to a GET or in what a PUT stores
    stall      half of the answer comes, then nothing more, until the client gives up
    mute       an upload that waits for the server's "100 Continue" gets no answer at all

Only objects are corrupted: a listing has no hash that a client could check. Where a kind has nothing to fall on
(no body to cut, no object to change), the connection is reset; only `mute` lets such a request pass.

What happens to a request depends on the seed, the request itself and how often it was made before, not on the order in
which requests arrive. So a retry can succeed, and a test meets the same faults each time.

In a test, the fixture `faults` (tests/conftest.py) puts a proxy before the server of the fixture `bucket`; everything
that goes by AWS_ENDPOINT_URL then passes it, processes that the test starts included:

    def test_training_survives(bucket: str, faults: FaultyProxy) -> None:
        upload(data, bucket)            # no faults yet: the share is 0
        faults.share = 0.05
        ...                             # faults.counts says what has happened

By hand, before a server at port 9000:

    python -m tests.faults http://127.0.0.1:9000 --port 9001 --share 0.05 --seed 1
"""

import argparse
import http.client
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KINDS = ("503", "reset", "truncate", "corrupt", "stall", "mute")
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"})
"""Headers that belong to one connection and not to the message."""


class FaultyProxy:
    """A proxy on a free port of this machine, from when it is entered until it is left.

    Parameters
    ----------
    upstream
        http://HOST:PORT of the server behind it.
    share
        Share of the requests that something happens to; may be changed at any time.
    kinds
        What may happen.
    only
        Part of the path of a request that something may happen to.
    seed
        Other seeds, other faults.
    port
        0: a free one.
    """

    def __init__(
        self,
        upstream: str,
        *,
        share: float = 0.0,
        kinds: Sequence[str] = KINDS,
        only: str = "",
        seed: int = 0,
        port: int = 0,
    ):
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise ValueError(f"unknown kinds of faults {sorted(unknown)}; known: {', '.join(KINDS)}")
        self.upstream = urlsplit(upstream)
        self.share = share
        self.kinds = tuple(kinds)
        self.only = only
        self.seed = seed
        self.counts: Counter[str] = Counter()
        """How many requests each kind has happened to; those that passed as they were count as `passed`."""
        self.closing = False
        self.asked: Counter[str] = Counter()
        """How often each request was made: method, path and range."""
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.proxy = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        self._server.shutdown()
        self._server.server_close()

    def draw(self, request: str) -> tuple[str, random.Random]:
        """What happens to a request, `passed` for nothing, and the generator that decides the rest."""
        with self._lock:
            self.asked[request] += 1
            draw = random.Random(f"{self.seed} {self.asked[request]} {request}")
        faulty = self.only in request and draw.random() < self.share
        return (draw.choice(self.kinds) if faulty else "passed"), draw

    def count(self, kind: str) -> None:
        """Note what has happened."""
        with self._lock:
            self.counts[kind] += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultyProxy

    def shutdown_request(self, request: Any) -> None:
        """Close without the polite end of a stream that would go before, so that a reset is one."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that gives up: that is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle_expect_100(self) -> bool:
        """Answer "100 Continue", unless the request is one to leave without an answer."""
        proxy = self.server.proxy
        if "mute" in proxy.kinds and proxy.draw(f"EXPECT {self.path}")[0] == "mute":
            proxy.count("mute")
            self._wait()
            return False
        return super().handle_expect_100()

    def _serve(self) -> None:
        proxy = self.server.proxy
        kind, draw = proxy.draw(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        kind = "passed" if kind == "mute" else kind  # drawn apart, in `handle_expect_100`
        size = int(self.headers.get("Content-Length") or 0)
        if kind == "truncate" and size:
            self.rfile.read(size // 2)
            return self._reset(kind)
        sent = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(size)
        if kind == "503":
            proxy.count(kind)
            return self._answer(503, "Slow Down", [("Retry-After", "0")], b"")
        if kind == "reset":
            return self._reset(kind)
        if kind == "corrupt" and self.command == "PUT" and sent:
            proxy.count(kind)
            return self._answer(*self._forward(_corrupted(sent, draw)))
        status, reason, headers, body = self._forward(sent)
        is_object = self.command == "GET" and not any(k.lower() == "content-type" and "xml" in v for k, v in headers)
        if kind == "corrupt" and is_object and body:
            proxy.count(kind)
            return self._answer(status, reason, headers, _corrupted(body, draw))
        if kind == "stall" or (kind == "truncate" and body):
            proxy.count(kind)
            self._answer(status, reason, headers, body, sent=len(body) // 2)
            return self._wait() if kind == "stall" else self._close()
        if kind != "passed":
            return self._reset("reset")
        proxy.count(kind)
        return self._answer(status, reason, headers, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the names http.server looks for

    def _chunks(self) -> bytes:
        """A body in chunked encoding."""
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content

    def _forward(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(str(upstream.hostname), upstream.port, timeout=300)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP and name.lower() != "expect":
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            if body or self.command in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            length = str(len(content)) if self.command != "HEAD" else answer.getheader("Content-Length", "0")
            return answer.status, answer.reason, [*headers, ("Content-Length", length)], content
        finally:
            connection.close()

    def _answer(
        self, status: int, reason: str, headers: Sequence[tuple[str, str]], body: bytes, sent: int | None = None
    ) -> None:
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers) and status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if sent is None else body[:sent])

    def _reset(self, kind: str) -> None:
        """Break the connection off, as a machine that has lost power does when it is spoken to again."""
        self.server.proxy.count(kind)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def _close(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def _wait(self) -> None:
        """Nothing, until the client is gone."""
        self.wfile.flush()
        while not self.server.proxy.closing:
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable and not self.connection.recv(1 << 16):
                break
        self.close_connection = True


def _corrupted(body: bytes, draw: random.Random) -> bytes:
    content = bytearray(body)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="A faulty proxy before an HTTP server; ends with Ctrl-C.",
        epilog="example: python -m tests.faults http://127.0.0.1:9000 --port 9001 --share 0.05",
    )
    parser.add_argument("upstream", help="http://HOST:PORT of the server behind it")
    parser.add_argument("--port", type=int, default=0, help="where to listen (default: a free port)")
    parser.add_argument("--share", type=float, default=0.05, help="share of faulty requests (default: 0.05)")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, help="what may happen (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds, other faults (default: 0)")
    options = parser.parse_args(arguments)
    proxy = FaultyProxy(
        options.upstream, share=options.share, kinds=options.kinds, seed=options.seed, port=options.port
    )
    with proxy:
        print(f"{proxy.endpoint} passes {options.share:.1%} faults to {options.upstream}", flush=True)
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            print(dict(proxy.counts))


if __name__ == "__main__":
    main()
