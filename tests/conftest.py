"""Fixtures for tests of any package: an S3 server, and a faulty proxy before it."""

import os
import sys
from collections.abc import Iterator

import pytest

from corpus.storage import redact
from tests.faults import FaultyProxy
from tests.s3 import serve_bucket

# OpenMP threads that spin while they wait make small products many times slower where tests share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """A training run in this process turns denormal numbers off, which hypothesis refuses to work without."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _secrets_of_this_test_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that other tests use as passwords are not removed from messages of this one."""
    monkeypatch.setattr(redact, "_known", set(redact._known))
    monkeypatch.setattr(redact, "_pattern", redact._pattern)


@pytest.fixture
def bucket() -> Iterator[str]:
    """URL of an empty bucket on an S3 server of its own, which the usual AWS variables name."""
    with serve_bucket() as url:
        yield url


@pytest.fixture
def faults(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the server of `bucket`, which AWS_ENDPOINT_URL names from now on; set its `share`."""
    import s3fs

    with FaultyProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-xdist from ordering files by their number of tests: see `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first: a worker that got one of them last would run alone for minutes."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of `-n auto`, three for two cores, because tests wait for processes a third of their time."""
    cores = len(os.sched_getaffinity(0))
    return cores + (cores + 1) // 2


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name parameters of bytes by their argument: compressed bytes contain the time, and xdist's workers must agree."""
    return argname if isinstance(val, bytes) else None
