"""Parts of the ledger: what is written is read, whatever the sizes of the tables, in batches of bounded size."""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.ledger import ROWS, LedgerPart, read_part
from pipeline.records.schema import ROW_ID, with_hex_ids

BATCH = 200


def lines(first: int, count: int) -> pa.Table:
    """Lines with binary ids and without some columns."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "row_id": pa.array([number.to_bytes(16, "big") for number in numbers], ROW_ID),
            "source": pa.array(["a"] * count, pa.large_string()),
            "row": pa.array(numbers, pa.int64()),
            "detail": pa.array([None if number % 3 else f"detail {number}" for number in numbers], pa.string()),
        }
    )


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.sampled_from([0, 1, 7, 50, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH]), max_size=5))
def test_lines_of_any_tables_are_read_in_order_and_in_bounded_batches(sizes: list[int]) -> None:
    with TemporaryDirectory() as name, patch("pipeline.records.ledger.BATCH_ROWS", BATCH):
        part = LedgerPart(Path(name))
        tables = [lines(sum(sizes[:place]), size) for place, size in enumerate(sizes)]
        for table in tables:
            part.write(table)
        part.close()
        read = list(read_part(Path(name)))
        assert (not read) == (not sum(sizes)) == (not list(Path(name).iterdir()))
        assert all(table.num_rows <= BATCH and table.schema.equals(ROWS) for table in read)
        if read:
            found = pa.concat_tables(read)
            expected = with_hex_ids(pa.concat_tables(tables)).combine_chunks()
            assert found.column("sample").null_count == found.num_rows
            for column in expected.column_names:
                assert (
                    found.column(column)
                    .combine_chunks()
                    .equals(expected.column(column).combine_chunks().cast(ROWS.field(column).type))
                )
