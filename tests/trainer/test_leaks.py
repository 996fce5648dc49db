"""A run whose data and checkpoints are on S3 holds no more memory and descriptors after many steps than after few."""

from pathlib import Path

import pytest

from tests.benchmarks.leaks import samples


@pytest.mark.slow  # trains some hundred steps
def test_memory_and_descriptors_do_not_grow_with_the_steps(bucket: str, tmp_path: Path) -> None:
    found = list(samples(tmp_path, bucket, steps=300, every=50))
    early, late = found[1], found[-1]
    assert late.memory - early.memory < 48e6, found
    assert max(sample.descriptors for sample in found[1:]) <= early.descriptors + 2, found
    assert max(sample.threads for sample in found[1:]) <= early.threads + 2, found
