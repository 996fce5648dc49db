"""What decontamination found, for the report: numbers for each eval source, all hits, and some of them side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.decontaminate.steps import EXAMPLES, HITS, SHOWN, Decontaminate, read_items, shards_of
from pipeline.engine.step import folder
from pipeline.records.drops import DropKey

SETS = pa.schema(
    [
        ("eval_source", pa.string()),
        ("items", pa.int64()),
        ("looked_for", pa.int64()),
        ("found", pa.int64()),
        ("train_records", pa.int64()),
    ]
)
"""An eval source: its items, those with words enough to be looked for, those found, and the train records that hold
any (a record may hold items of several sources)."""


class Findings(NamedTuple):
    """Tables for the report."""

    sets: pa.Table
    """`SETS`, in order of the manifest."""
    examples: pa.Table
    """`pipeline.decontaminate.steps.EXAMPLES`."""


def collect(work: Path, drops: Sequence[DropKey], hits_file: Path) -> Findings:
    """Gather what the steps of decontamination among `drops` found; all hits go to `hits_file` (Parquet, `HITS`)."""
    places = [folder(work, stage, key) for stage, key, _ in drops if stage == Decontaminate.stage]
    found = [pl.DataFrame(schema={"eval_source": pl.String, "item": pl.String})]
    records = [pl.DataFrame(schema={"eval_source": pl.String, "row_id": pl.String})]
    examples = [EXAMPLES.empty_table()]
    with pq.ParquetWriter(hits_file, HITS, compression="zstd") as writer:
        for place in places:
            with pa.OSFile(str(place / "hits.arrow")) as file:
                table = pa.ipc.open_file(file).read_all()
            writer.write_table(table)
            hits = pl.DataFrame(table)
            found.append(hits.select("eval_source", "item").unique())
            records.append(hits.select("eval_source", "row_id").unique())
            with pa.OSFile(str(place / "examples.arrow")) as file:
                examples.append(pa.ipc.open_file(file).read_all())
    totals = [pl.DataFrame(schema={"eval_source": pl.String, "told": pl.Boolean})]
    if places:
        index = (places[0] / "index").read_text()
        totals += [read_items(place).select(eval_source="source", told="told") for place in shards_of(work, index)]
    sets = (
        pl.concat(totals)
        .group_by("eval_source", maintain_order=True)
        .agg(items=pl.len(), looked_for=pl.col("told").sum())
        .join(pl.concat(found).unique().group_by("eval_source").agg(found=pl.len()), on="eval_source", how="left")
        .join(pl.concat(records).group_by("eval_source").agg(train_records=pl.len()), on="eval_source", how="left")
        .with_columns(pl.col("found", "train_records").fill_null(0))
    )
    shown = pl.DataFrame(pa.concat_tables(examples)).group_by("eval_source", maintain_order=True).head(SHOWN)
    return Findings(sets.to_arrow().cast(SETS), shown.select(EXAMPLES.names).to_arrow().cast(EXAMPLES))
