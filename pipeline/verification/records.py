"""Checks of texts: curated records are those of the samples, and eval records are complete."""

from collections.abc import Iterator

import numpy as np

from corpus.contract import COMMIT, parse_eval_record
from corpus.dataset import Dataset
from corpus.schema import lines
from pipeline.verification.row_ids import SampleIds, halves_of_column


def curated_problems(dataset: Dataset, ids: SampleIds) -> Iterator[str]:
    """Yield where row ids, sources and tasks of the records are not those of the samples, whose row ids are `ids`."""
    first = 0
    ends = np.array([stratum.end for stratum in dataset.strata])
    strata = [(stratum.source, stratum.task) for stratum in dataset.strata]
    found = SampleIds(ids.samples)
    begins: dict[str, int] = {}
    same_strata = True
    for path, table in dataset.batches(dataset.info.curated, columns=["row_id", "source", "task"]):
        begins.setdefault(path, first)
        end = first + table.num_rows
        if end > ids.samples:
            yield f"{path}: has records beyond the {ids.samples:,} samples"
            return
        found.add(np.arange(first, end), halves_of_column(table))
        expected = [strata[number] for number in np.searchsorted(ends, np.arange(first, end), side="right").tolist()]
        names = zip(table.column("source").to_pylist(), table.column("task").to_pylist(), strict=True)
        if same_strata and list(names) != expected:
            yield f"{path}: sources and tasks from sample {first:,} on are not those of strata.json"
            same_strata = False
        first = end
    if first != ids.count:
        yield f"curated/ has {first:,} records, the shards {ids.count:,} samples"
        return
    for begin, last in found.differences(ids):
        path = [path for path, place in begins.items() if place <= last][-1]
        yield f"{path}: its row ids are not those of the samples from {begin:,} to {last:,}"
        return


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
