"""Buckets: each row is read from its bucket, in the order in which it was added, unless it has none."""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.buckets import BucketWriter, read_bucket

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.large_string())])


@settings(deadline=None, max_examples=30)
@given(tables=st.lists(st.lists(st.integers(-1, 3), max_size=30), max_size=6), run=st.sampled_from([1, 300, 2**20]))
def test_rows_are_read_from_their_bucket_in_order_and_without_a_bucket_not_at_all(
    tables: list[list[int]], run: int
) -> None:
    with TemporaryDirectory() as name, patch("pipeline.records.buckets.RUN_BYTES", run):
        first = 0
        with BucketWriter(Path(name), "rows", SCHEMA) as writer:
            for buckets in tables:
                numbers = range(first, first + len(buckets))
                table = pa.table({"number": numbers, "text": [f"row {number}" for number in numbers]}, schema=SCHEMA)
                writer.add(table, np.array(buckets, np.int64))
                first += len(buckets)
        of_all = [bucket for buckets in tables for bucket in buckets]
        for bucket in range(-1, 5):
            expected = [number for number, place in enumerate(of_all) if place == bucket and place >= 0]
            found = read_bucket([Path(name)], "rows", SCHEMA, bucket)
            assert found["number"].to_pylist() == expected
            assert found["text"].to_pylist() == [f"row {number}" for number in expected]
