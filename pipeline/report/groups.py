"""The largest groups of duplicates: kept rows with the most rows that lost to them."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from corpus.outcome import Outcome

GROUPS = 20
AT_ONCE = 5_000_000
"""Duplicates that are counted at once; more are counted in parts, so that memory stays bounded."""
MAX_SOURCES = 5
"""Sources of a group that are named."""


def top_groups(ledger: Sequence[Path], duplicates: int) -> pl.DataFrame:
    """Return the `GROUPS` largest groups of exact and near duplicates, the largest first.

    Parameters
    ----------
    ledger
        Parquet files of the ledger's rows.
    duplicates
        Number of exact and near duplicates in them.

    Returns
    -------
    polars.DataFrame
        Columns twin (the row that is kept, or was at first), duplicates, exact, near, sources (names of sources that
        the duplicates are from).
    """
    lines = pl.scan_parquet(list(ledger)).filter(
        pl.col("outcome").is_in([Outcome.EXACT_DUPLICATE.value, Outcome.NEAR_DUPLICATE.value])
    )
    parts = [lines] if duplicates <= AT_ONCE else [lines.filter(pl.col("twin").str.ends_with(d)) for d in _DIGITS]
    counted = [
        part.group_by("twin")
        .agg(
            duplicates=pl.len(),
            exact=(pl.col("outcome") == Outcome.EXACT_DUPLICATE.value).sum(),
            near=(pl.col("outcome") == Outcome.NEAR_DUPLICATE.value).sum(),
            sources=pl.col("source").unique().sort().head(MAX_SOURCES),
        )
        .sort(["duplicates", "twin"], descending=[True, False])
        .head(GROUPS)
        .collect()
        for part in parts
    ]
    return pl.concat(counted).sort(["duplicates", "twin"], descending=[True, False]).head(GROUPS)


_DIGITS = "0123456789abcdef"


def lines_of(ledger: Sequence[Path], row_ids: Sequence[str]) -> pl.DataFrame:
    """Return the ledger lines of some rows."""
    return pl.scan_parquet(list(ledger)).filter(pl.col("row_id").is_in(list(row_ids))).collect()
