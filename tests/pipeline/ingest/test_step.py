"""The step that ingests a file writes the same files whether rows are read as columns or one by one."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from corpus.discover import discover
from corpus.pairs import read_pairs
from corpus.source import SourceSpec
from pipeline.ingest import batches
from pipeline.ingest.content import stamp
from pipeline.ingest.spec import CleanSpec
from pipeline.ingest.step import Ingest, Ingested
from pipeline.records.ledger import read_part
from pipeline.rules.spec import RulesSpec
from tests.corpus.test_read_columns import DIRTY

PLAIN = [{"instruction": f"What is  {row} + 1?\n", "response": f"\tIt is {row + 1}."} for row in range(40)]
DROPPED = [
    {"instruction": "Repeat it.", "response": "again and " * 100},
    {"instruction": "\x00\ufeff ", "response": "b"},
    {"instruction": "Say it to me, please.", "response": "say it to  me, please."},
    {"instruction": "Think.", "response": "<think>hm"},
    {"instruction": "x" * 400, "response": "b"},
]
RULES = RulesSpec()
CLEAN = CleanSpec(max_instruction_chars=300)


def ingested(folder: Path, out: Path) -> tuple[Ingested, pa.Table, NDArray[np.void], pa.Table, pa.Table]:
    spec = SourceSpec(name="s", path=str(folder), condition=("cot",))
    (file,) = discover(spec, folder)
    step = Ingest(
        identity="", clean=CLEAN, rules=RULES, spec=spec, file=file, stamp=stamp(file.url), sha256=None
    )  # fmt: skip
    folder = step.folder(out, "key")
    folder.mkdir(parents=True)
    result = step.run(out, folder)
    records = pa.Table.from_batches(list(step.records(out, "key")))
    keys = np.concatenate(list(step.keys(out, "key")))
    # The order of both tables depends on where a batch ends.
    ledger = pa.concat_tables(read_part(folder)).sort_by([("row", "ascending"), ("part", "ascending")])
    return result, records, keys, ledger, step.dropped_texts(out, "key").sort_by("row_id")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("batch", [7, 10**6])
def test_records_keys_and_ledger_do_not_depend_on_how_rows_are_read(
    kind: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [*PLAIN, *DROPPED, *PLAIN[:30], *DROPPED, *PLAIN]
    if kind == "jsonl":
        lines = [json.dumps(row).encode() for row in rows]
        (folder / "f.jsonl").write_bytes(b"\n".join([*lines, *DIRTY, *lines, *DIRTY]))
    else:
        pq.write_table(pa.Table.from_pylist(rows), folder / "f.parquet")
    monkeypatch.setattr(batches, "BATCH_ROWS", batch)
    at_once = ingested(folder, tmp_path / "columns")
    monkeypatch.setattr(batches, "read_columns", read_pairs)
    one_by_one = ingested(folder, tmp_path / "rows")
    assert at_once[0] == one_by_one[0]
    assert at_once[1].equals(one_by_one[1])
    assert at_once[2].tobytes() == one_by_one[2].tobytes()
    assert at_once[3].equals(one_by_one[3])
    assert at_once[4].equals(one_by_one[4])
    assert {"repetitive", "empty_instruction", "echo", "unclosed_think", "too_long"} <= at_once[0].dropped.keys()
