"""Texts of kept and dropped rows while a dataset is assembled, for the report.

ledger line ─┬ kept ──────────▶ its row group of the curated records
             ├ dropped early ─▶ what `Ingest` wrote of the first pairs that it dropped for each reason
             └ dropped later ─▶ the first records of its file; a row further behind has no text in the report
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.ingest.step import Ingest
from pipeline.records.schema import ROW_ID, hex_ids

SEARCHED_BATCHES = 32
"""Batches of a file's records that are searched for rows."""


class Text(NamedTuple):
    """A pair."""

    instruction: str
    response: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CuratedPart:
    """A Parquet file of kept records, in sample order."""

    path: Path
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The texts behind the lines of a ledger."""

    work: Path
    ingests: Mapping[tuple[str, str], Sequence[str]]
    """Source and file to the keys of its `Ingest` steps."""
    curated: Sequence[CuratedPart]

    def of(self, lines: Iterable[Mapping[str, Any]]) -> dict[str, Text]:
        """Return the texts of ledger lines by row id; a line whose text is not found has none."""
        kept: dict[int, str] = {}
        dropped: dict[tuple[str, str], set[str]] = defaultdict(set)
        for line in lines:
            if line["sample"] is not None:
                kept[line["sample"]] = line["row_id"]
            else:
                dropped[line["source"], line["file"]].add(line["row_id"])
        found = {kept[number]: text for number, text in self.samples(sorted(kept)).items()}
        for file, ids in dropped.items():
            found |= self._dropped(self.ingests.get(file, ()), ids)
        return found

    def samples(self, numbers: Sequence[int]) -> dict[int, Text]:
        """Return the texts of samples by their number; `numbers` are ascending."""
        table = self.records(numbers)
        columns = (table.column(name).to_pylist() for name in ("instruction", "response"))
        return dict(zip(numbers, map(Text, *columns), strict=True))

    def records(self, numbers: Sequence[int]) -> pa.Table:
        """Return instruction and response of samples, of which `numbers` are the ascending numbers."""
        wanted = np.asarray(numbers, np.int64)
        tables = [pa.table({name: pa.array([], pa.large_string()) for name in Text._fields})]
        first = 0
        for part in self.curated:
            if not np.any((wanted >= first) & (wanted < first + part.samples)):
                first += part.samples
                continue
            with pq.ParquetFile(part.path) as file:
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    inside = wanted[(wanted >= first) & (wanted < first + rows)] - first
                    if len(inside):
                        table = file.read_row_group(group, columns=list(Text._fields), use_threads=False)
                        tables.append(table.take(pa.array(inside)))
                    first += rows
        return pa.concat_tables(tables)

    def _dropped(self, keys: Sequence[str], ids: set[str]) -> dict[str, Text]:
        """Return the texts of dropped records of one file."""
        found: dict[str, Text] = {}
        for key in keys:
            if len(found) == len(ids):
                return found
            columns = (column.to_pylist() for column in Ingest.dropped_texts(self.work, key).columns)
            found |= {row_id: Text(*texts) for row_id, *texts in zip(*columns, strict=True) if row_id in ids}
        wanted = pa.array([bytes.fromhex(row_id) for row_id in sorted(ids - found.keys())], ROW_ID)
        batches = (batch for key in keys for batch in Ingest.records(self.work, key))
        for batch in islice(batches if len(wanted) else (), SEARCHED_BATCHES):
            hits = batch.filter(pc.is_in(batch.column("row_id"), wanted))
            if hits.num_rows:
                columns = (hits.column(name).to_pylist() for name in Text._fields)
                found |= dict(zip(hex_ids(hits.column("row_id")).to_pylist(), map(Text, *columns), strict=True))
            if len(found) == len(ids):
                break
        return found
