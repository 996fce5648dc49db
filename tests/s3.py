"""An S3 server over HTTP in this process, with an empty bucket."""

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def serve_bucket() -> Iterator[str]:
    """URL of an empty bucket on a server of its own, which the usual AWS variables name until the context is left."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    import s3fs

    with socket.socket() as probe, pytest.MonkeyPatch.context() as patch:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        endpoint = f"http://127.0.0.1:{port}"
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        # What servers of earlier tests were given lives on in this process.
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
        s3fs.S3FileSystem.clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket="millrace")
        yield "s3://millrace"
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
