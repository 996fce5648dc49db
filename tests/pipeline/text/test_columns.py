"""Columns that kernels read have the texts of the polars columns, whether copies are kept or not."""

import contextlib
from itertools import pairwise

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text.columns import copies_kept, large_strings, texts_of, to_series

TEXTS = st.lists(st.text(max_size=20), max_size=12)


@settings(deadline=None)
@given(texts=TEXTS, begin=st.integers(0, 3), size=st.integers(0, 6), keep=st.booleans())
def test_copy_of_a_column_has_its_texts(texts: list[str], begin: int, size: int, keep: bool) -> None:
    with copies_kept() if keep else contextlib.nullcontext():
        series = to_series("a", pa.array(texts, pa.large_string()))
        for changed in (
            series,
            series.slice(begin, size),
            series.slice(0, size),
            series.str.strip_chars(),
            series.reverse(),
            pl.concat([series, series]),
            series.gather(list(range(0, len(texts), 2))),
            series.str.to_uppercase(),
            series,
        ):
            found = large_strings(changed)
            assert found.type == pa.large_string()
            assert found.to_pylist() == changed.to_list()


def test_a_column_is_copied_once_while_copies_are_kept() -> None:
    texts = pa.array(["a text that is longer than a view", "b"], pa.large_string())
    with copies_kept():
        series = to_series("a", texts)
        assert large_strings(series) is texts
        changed = series.str.to_uppercase()
        assert large_strings(changed) is large_strings(changed.alias("b"))
    assert large_strings(series) is not large_strings(series)


@pytest.mark.parametrize("texts", [[], [""], ["a", "", "é"]])
def test_arrays_of_a_column_are_its_bytes(texts: list[str]) -> None:
    data, bounds = texts_of(large_strings(pl.Series("a", texts, dtype=pl.String)))
    assert [bytes(data[a:b]).decode() for a, b in pairwise(bounds)] == texts
