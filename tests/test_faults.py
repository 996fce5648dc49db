"""Claims about storage that fails: first about the proxy that lets it fail, then about all that has to live with it."""

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from tests.faults import FaultyProxy

CONTENT = bytes(range(256)) * 64


def client_of(faults: FaultyProxy) -> boto3.client:
    """A client that tries once, waits for a second, and checks nothing."""
    unchecked = {name: "when_required" for name in ("request_checksum_calculation", "response_checksum_validation")}
    config = Config(read_timeout=1, retries={"total_max_attempts": 1}, **unchecked)
    return boto3.client("s3", endpoint_url=faults.endpoint, config=config)


def read(faults: FaultyProxy) -> bytes:
    content: bytes = client_of(faults).get_object(Bucket="millrace", Key="object")["Body"].read()
    return content


def test_proxy_without_faults_changes_nothing(faults: FaultyProxy) -> None:
    client = client_of(faults)
    client.put_object(Bucket="millrace", Key="object", Body=CONTENT)
    assert read(faults) == CONTENT
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket="millrace")["Contents"]] == ["object"]
    client.delete_object(Bucket="millrace", Key="object")
    assert "Contents" not in client.list_objects_v2(Bucket="millrace")
    assert set(faults.counts) == {"passed"}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("503", botocore.exceptions.ClientError),
        ("reset", botocore.exceptions.ConnectionClosedError),
        ("truncate", botocore.exceptions.ResponseStreamingError),
        ("stall", botocore.exceptions.ReadTimeoutError),
    ],
)
def test_faults_are_what_they_are_called(faults: FaultyProxy, kind: str, error: type[Exception]) -> None:
    client_of(faults).put_object(Bucket="millrace", Key="object", Body=CONTENT)
    faults.kinds, faults.share = (kind,), 1.0
    with pytest.raises(error):
        read(faults)
    assert faults.counts[kind] == 1


def test_corruption_changes_one_byte_of_what_is_read_or_stored(faults: FaultyProxy) -> None:
    client_of(faults).put_object(Bucket="millrace", Key="object", Body=CONTENT)
    faults.kinds, faults.share = ("corrupt",), 1.0
    assert sum(a != b for a, b in zip(read(faults), CONTENT, strict=True)) == 1
    client_of(faults).put_object(Bucket="millrace", Key="object", Body=CONTENT)
    faults.share = 0.0
    assert sum(a != b for a, b in zip(read(faults), CONTENT, strict=True)) == 1


def test_faults_follow_from_the_seed_and_fall_on_the_stated_share(faults: FaultyProxy) -> None:
    drawn = {}
    for seed in (1, 1, 2):
        with FaultyProxy(faults.endpoint, share=0.05, seed=seed) as proxy:
            kinds = [proxy.draw(f"GET /{number % 500}")[0] for number in range(4000)]
        assert drawn.setdefault(seed, kinds) == kinds
        assert 140 < 4000 - kinds.count("passed") < 260
    assert drawn[1] != drawn[2]
