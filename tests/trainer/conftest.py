"""Fixtures: a small dataset."""

from pathlib import Path

import pytest

from tests.trainer.fixtures import write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of 120 samples in four shards."""
    return write_dataset(tmp_path / "data")
