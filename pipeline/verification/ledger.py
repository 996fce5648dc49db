"""Checks of the ledger: every row of the input is in it, with one outcome, and the counts of dataset.json follow."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from corpus.contract import COMMIT, LEDGER_FILES
from corpus.dataset import Dataset
from corpus.outcome import Outcome
from pipeline.records.id_parts import IdParts
from pipeline.records.ledger import READ_STAGE
from pipeline.verification.row_ids import SampleIds, halves_of_column

_BYTES = ("bytes_read", "bytes_rows", "bytes_structure", "bytes_lost")


class _Kind(NamedTuple):
    """What ledger lines are counted by."""

    source: str
    outcome: str
    stage: str
    is_first: bool
    """Whether it is the first part of its input row."""


def ledger_problems(dataset: Dataset, ids: SampleIds, scratch: Path) -> Iterator[str]:
    """Yield what is wrong with the ledger of a dataset.

    Parameters
    ----------
    dataset
        The dataset.
    ids
        Row ids of its samples.
    scratch
        Empty folder for temporary files, 16 bytes for each line of the ledger.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    reasons = {reason for count in dataset.info.counts.values() for reason in count.dropped}
    known = pa.array(sorted({*(outcome.value for outcome in Outcome), *reasons}))
    counts = dataset.info.counts.values()
    all_ids = IdParts(scratch, sum(count.kept + sum(count.dropped.values()) for count in counts))
    found = SampleIds(ids.samples)
    tally: Counter[_Kind] = Counter()
    for path, table in dataset.batches(dataset.info.ledger):
        lines = table.append_column("is_first", pc.equal(table.column("part"), 0))
        if not pc.all(pc.is_in(lines.column("outcome"), value_set=known), min_count=0).as_py():
            yield f"{path}: has an outcome that {COMMIT} does not list"
        all_ids.add(halves_of_column(lines))
        for group in lines.group_by(list(_Kind._fields)).aggregate([([], "count_all")]).to_pylist():
            tally[_Kind(*(group[field] for field in _Kind._fields))] += group["count_all"]
        samples = lines.filter(pc.is_valid(lines.column("sample")))
        numbers = samples.column("sample").to_numpy()
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= ids.samples):
            yield f"{path}: names samples that do not exist"
        else:
            found.add(numbers, halves_of_column(samples))
        if not pc.all(pc.equal(samples.column("outcome"), Outcome.KEPT.value), min_count=0).as_py():
            yield f"{path}: a row that was dropped has a sample"
    if repeated := all_ids.repeated():
        yield f"{repeated:,} row ids are in it more than once"
    if found.count != ids.count:
        yield f"it names {found.count:,} samples, the shards have {ids.count:,}"
    else:
        for first, last in found.differences(ids):
            yield f"the rows that it names for samples {first:,} to {last:,} are not those of the shards"
    yield from _conservation_problems(dataset, tally)
    yield from _byte_problems(dataset)


def _conservation_problems(dataset: Dataset, tally: Counter[_Kind]) -> Iterator[str]:
    """Yield sources of which pairs + rows without a pair = kept + dropped does not hold everywhere."""
    counts, inputs = dataset.info.counts, _inputs(dataset)
    for name in sorted({kind.source for kind in tally} | set(counts)):
        if name not in counts:
            yield f"source {name}: is in the ledger, but not in {COMMIT}"
            continue
        count = counts[name]
        outcomes: Counter[str] = Counter()
        without_pair = first = 0
        for kind, number in tally.items():
            if kind.source == name:
                outcomes[kind.outcome] += number
                without_pair += number if kind.stage == READ_STAGE else 0
                first += number if kind.is_first else 0
        rows, pairs = inputs.get(name, (0, 0))
        if (rows, pairs) != (count.rows, count.pairs):
            yield f"source {name}: rows and pairs in {LEDGER_FILES} are not those of {COMMIT}"
        if first != rows:
            yield f"source {name}: {rows:,} rows were read, the ledger has {first:,}"
        if pairs + without_pair != outcomes.total():
            yield (
                f"source {name}: {pairs:,} pairs and {without_pair:,} rows without a pair came in, "
                f"{outcomes.total():,} were kept or dropped"
            )
        dropped = {reason: number for reason, number in outcomes.items() if reason != Outcome.KEPT}
        if outcomes[Outcome.KEPT] != count.kept or dropped != count.dropped:
            yield f"source {name}: kept and dropped in the ledger are not those of {COMMIT}"


def _byte_problems(dataset: Dataset) -> Iterator[str]:
    """Yield files of which bytes read = bytes of rows + of structure + of losses does not hold, or not all was read."""
    columns = ["source", "file", "bytes", "compression", "encoding", *_BYTES]
    for _, table in dataset.batches([LEDGER_FILES], columns=columns):
        for line in table.to_pylist():
            read = line["bytes_read"]
            if read is None:
                continue
            lost = sum(loss["bytes"] for loss in line["bytes_lost"])
            place = f"source {line['source']}: {line['file']}"
            if read != line["bytes_rows"] + line["bytes_structure"] + lost:
                yield (
                    f"{place}: {read:,} bytes were read, but {line['bytes_rows']:,} are in rows, "
                    f"{line['bytes_structure']:,} in structure and {lost:,} in losses"
                )
            # Sizes of generators and of some web files are unknown, and recorded as 0.
            if line["compression"] is None and line["encoding"] is None and line["bytes"] not in (0, read):
                yield f"{place}: has {line['bytes']:,} bytes, of which {read:,} were read"


def _inputs(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Return rows and pairs of each source by ledger/files.parquet."""
    totals: dict[str, tuple[int, int]] = {}
    for _, table in dataset.batches([LEDGER_FILES], columns=["source", "rows", "pairs"]):
        for line in table.to_pylist():
            rows, pairs = totals.get(line["source"], (0, 0))
            totals[line["source"]] = (rows + line["rows"], pairs + line["pairs"])
    return totals
