"""Findings of decontamination, for the report: counts for each eval source, all hits, and some of them with texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.decontaminate.contaminated import EXAMPLES, HITS, SHOWN, BuildIndex, Decontaminate
from pipeline.records.drops import DropRef

SETS = pa.schema(
    [
        ("eval_source", pa.string()),
        ("items", pa.int64()),
        ("looked_for", pa.int64()),
        ("found", pa.int64()),
        ("train_records", pa.int64()),
    ]
)
"""An eval source: its items, those that have enough words to be searched for, those found, and the train records that
contain any (a record may contain items of several sources)."""


class Findings(NamedTuple):
    """Tables for the report."""

    sets: pa.Table
    """`SETS`, in order of the manifest."""
    examples: pa.Table
    """`pipeline.decontaminate.contaminated.EXAMPLES`."""


def collect(work: Path, drops: Sequence[DropRef], hits_file: Path) -> Findings:
    """Gather what the `Decontaminate` steps among `drops` found; write all hits to `hits_file` (Parquet, `HITS`)."""
    keys = [ref.key for ref in drops if ref.stage == Decontaminate.stage]
    found = [pl.DataFrame(schema={"eval_source": pl.String, "item": pl.String})]
    records = [pl.DataFrame(schema={"eval_source": pl.String, "row_id": pl.String})]
    examples = [EXAMPLES.empty_table()]
    with pq.ParquetWriter(hits_file, HITS, compression="zstd") as writer:
        for key in keys:
            table = Decontaminate.hits(work, key)
            writer.write_table(table)
            hits = pl.DataFrame(table)
            found.append(hits.select("eval_source", "item").unique())
            records.append(hits.select("eval_source", "row_id").unique())
            examples.append(Decontaminate.examples(work, key))
    totals = [pl.DataFrame(schema={"eval_source": pl.String, "searchable": pl.Boolean})]
    if keys:
        shards = BuildIndex.shards(work, Decontaminate.index_of(work, keys[0]))
        totals += [items.select(eval_source="source", searchable="searchable") for _, items in shards]
    sets = (
        pl.concat(totals)
        .group_by("eval_source", maintain_order=True)
        .agg(items=pl.len(), looked_for=pl.col("searchable").sum())
        .join(pl.concat(found).unique().group_by("eval_source").agg(found=pl.len()), on="eval_source", how="left")
        .join(pl.concat(records).group_by("eval_source").agg(train_records=pl.len()), on="eval_source", how="left")
        .with_columns(pl.col("found", "train_records").fill_null(0))
    )
    shown = pl.DataFrame(pa.concat_tables(examples)).group_by("eval_source", maintain_order=True).head(SHOWN)
    return Findings(sets.to_arrow().cast(SETS), shown.select(EXAMPLES.names).to_arrow().cast(EXAMPLES))
