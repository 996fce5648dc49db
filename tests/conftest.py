"""Fixtures for tests of any package: an S3 server, and a faulty proxy before it."""

import os
import socket
import urllib.request
from collections.abc import Iterator

import pytest

from tests.faults import FaultyProxy

# OpenMP threads that spin while they wait make small products many times slower where tests share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket on an S3 server of its own, which the usual AWS variables name."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    import s3fs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    # What servers of earlier tests were given lives on in this process.
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    s3fs.S3FileSystem.clear_instance_cache()
    boto3.client("s3").create_bucket(Bucket="millrace")
    yield "s3://millrace"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def faults(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the server of `bucket`, which AWS_ENDPOINT_URL names from now on; set its `share`."""
    import s3fs

    with FaultyProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name parameters of bytes by their argument: compressed bytes contain the time, and xdist's workers must agree."""
    return argname if isinstance(val, bytes) else None
