"""Claim: a dataset in a store that polars does not know is read and verified through fsspec."""

from pathlib import Path

import pytest

import corpus
from pipeline.verify import main as verify
from tests.trainer.data.test_dataset import upload


@pytest.mark.slow  # builds a dataset
def test_dataset_in_a_store_of_another_kind_is_read_and_verified(dataset: Path, tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}/small"
    upload(dataset, place)
    for found, expected in zip(corpus.scan(place), corpus.scan(dataset), strict=True):
        assert found.collect().equals(expected.collect())
    assert verify([place]) == 0
