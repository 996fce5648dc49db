"""Checks of texts: curated records are those of the samples, and eval records are complete."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from corpus.contract import COMMIT, parse_eval_record
from corpus.dataset import Dataset
from corpus.schema import lines


def curated_problems(dataset: Dataset, ids: NDArray[np.uint8]) -> Iterator[str]:
    """Yield where row ids, sources and tasks of the records are not those of the samples, `ids` uint8 [n, 16]."""
    first = 0
    ends = np.array([stratum.end for stratum in dataset.strata])
    strata = [(stratum.source, stratum.task) for stratum in dataset.strata]
    for path, table in dataset.batches(dataset.info.curated, columns=["row_id", "source", "task"]):
        end = first + table.num_rows
        found = bytes.fromhex("".join(table.column("row_id").to_pylist()))
        if found != ids[first:end].tobytes():
            yield f"{path}: its row ids are not those of the samples from {first:,} on"
            return
        expected = [strata[number] for number in np.searchsorted(ends, np.arange(first, end), side="right").tolist()]
        names = zip(table.column("source").to_pylist(), table.column("task").to_pylist(), strict=True)
        if list(names) != expected:
            yield f"{path}: sources and tasks from sample {first:,} on are not those of strata.json"
            return
        first = end
    if first != len(ids):
        yield f"curated/ has {first:,} records, the shards {len(ids):,} samples"


def eval_problems(dataset: Dataset) -> Iterator[str]:
    """Parse the eval records, which raises their problems; yield a number of them other than that in dataset.json."""
    rows = 0
    for path in dataset.info.eval.files:
        with dataset.open(path) as file:
            for number, line in lines(file):
                parse_eval_record(line, f"{path}, line {number}")
                rows += 1
    if rows != dataset.info.eval.rows:
        yield f"{COMMIT} has {dataset.info.eval.rows:,} rows, found {rows:,}"
