"""The largest groups of duplicates: kept rows with the most rows that lost to them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from corpus.outcome import Outcome
from pipeline.records.id_parts import IdParts, halves_of

GROUPS = 20
MAX_SOURCES = 5
"""Sources of a group that are named."""
DUPLICATES = (Outcome.EXACT_DUPLICATE.value, Outcome.NEAR_DUPLICATE.value)


def top_groups(ledger: Sequence[Path], duplicates: int) -> pl.DataFrame:
    """Return the `GROUPS` largest groups of exact and near duplicates, the largest first.

    Parameters
    ----------
    ledger
        Parquet files of the ledger's rows.
    duplicates
        Number of exact and near duplicates in them, about; they are counted on disk, 16 bytes each.

    Returns
    -------
    polars.DataFrame
        Columns twin (the row that is kept, or was at first), duplicates, exact, near, sources (names of sources that
        the duplicates are from).
    """
    is_duplicate = pl.col("outcome").is_in(DUPLICATES)
    with TemporaryDirectory(dir=ledger[0].parent) as folder:
        ids = IdParts(Path(folder), duplicates)
        for path in ledger:
            twins = pl.scan_parquet(path).filter(is_duplicate).select("twin").collect().to_series().drop_nulls()
            ids.add(halves_of(bytes.fromhex("".join(twins))))
        largest = [twin.hex() for twin, _ in ids.most_frequent(GROUPS)]
    return (
        pl.scan_parquet(list(ledger))
        .filter(is_duplicate & pl.col("twin").is_in(largest))
        .group_by("twin")
        .agg(
            duplicates=pl.len(),
            exact=(pl.col("outcome") == Outcome.EXACT_DUPLICATE.value).sum(),
            near=(pl.col("outcome") == Outcome.NEAR_DUPLICATE.value).sum(),
            sources=pl.col("source").unique().sort().head(MAX_SOURCES),
        )
        .sort(["duplicates", "twin"], descending=[True, False])
        .collect()
    )


def lines_of(ledger: Sequence[Path], row_ids: Sequence[str]) -> pl.DataFrame:
    """Return the ledger lines of some rows."""
    return pl.scan_parquet(list(ledger)).filter(pl.col("row_id").is_in(list(row_ids))).collect()
