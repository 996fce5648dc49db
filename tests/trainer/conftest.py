"""Fixtures: a small dataset, and an S3 server."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.fixtures import write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of 120 samples in four shards."""
    return write_dataset(tmp_path / "data")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket on an S3 server of its own."""
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
