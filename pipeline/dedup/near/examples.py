"""The near duplicates of a build that a person should look at first: those least like their twins, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.engine.step import folder
from pipeline.records.drops import DropKey

COUNT = 100
"""Duplicates that are shown."""
ORDER = [("score", "ascending"), ("row_id", "ascending")]
FILE = "least_similar.arrow"
EXAMPLES = pa.schema(
    [
        ("score", pa.float64()),
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("instruction", pa.large_string()),
        ("response", pa.large_string()),
        ("twin", pa.string()),
        ("twin_source", pa.string()),
        ("twin_instruction", pa.large_string()),
        ("twin_response", pa.large_string()),
    ]
)


def write_examples(
    out: Path, records: pa.Table, lost: NDArray[np.int64], survivor: NDArray[np.int64], score: NDArray[np.float64]
) -> None:
    """Write the least similar of some duplicates.

    Parameters
    ----------
    out
        Folder of the step.
    records
        Columns row_id, source, instruction, response.
    lost, survivor
        int64 (m,): places of each duplicate and of its twin in `records`.
    score
        float64 (m,).
    """
    who = pa.table({"score": score, "row_id": records.column("row_id").take(pa.array(lost))})
    least = pc.sort_indices(who, ORDER).to_numpy()[:COUNT]
    names = ["row_id", "source", "instruction", "response"]
    mine, twins = (records.select(names).take(pa.array(places[least])).columns for places in (lost, survivor))
    table = pa.table([pa.array(score[least]), *mine, *twins], schema=EXAMPLES)
    with pa.OSFile(str(out / FILE), "wb") as sink, pa.ipc.new_file(sink, EXAMPLES) as file:
        file.write_table(table)


def least_similar(work: Path, drops: Sequence[DropKey], stage: str) -> pa.Table:
    """The least similar duplicates of a build, `EXAMPLES`, by score and row id.

    Parameters
    ----------
    work
        Folder of finished steps.
    drops
        All steps that have dropped records; those of `stage` called `write_examples`.
    """
    found = [EXAMPLES.empty_table()]
    for name, key, _ in drops:
        if name == stage:
            with pa.OSFile(str(folder(work, name, key) / FILE)) as file:
                found.append(pa.ipc.open_file(file).read_all())
            table = pa.concat_tables(found)
            found = [table.take(pc.sort_indices(table, ORDER)[:COUNT])]
    return found[0]
