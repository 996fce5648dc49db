"""Eval sources: cleaned and deduplicated like the others, but written as JSON lines, never into shards.

The `response` of a prompt without a reference answer is null.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from corpus.contract import FileInfo
from corpus.outcome import Outcome
from pipeline.engine.counters import count
from pipeline.ingest.live import LiveStep, live_tables
from pipeline.records.files import file_info
from pipeline.records.ledger import LedgerPart
from pipeline.records.schema import with_hex_ids

FIELDS = ("row_id", "source", "task", "instruction", "response", "condition")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalFile:
    """Result of `WriteEval`."""

    file: FileInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteEval(LiveStep[EvalFile]):
    """Write one eval source, in the order of its files and rows."""

    stage: ClassVar[str] = "eval"

    source: str

    FILE: ClassVar[str] = "eval.jsonl"

    @property
    def partition(self) -> str:
        return f"source {self.source}"

    def run(self, work: Path, out: Path) -> EvalFile:
        ledger = LedgerPart(out)
        with (out / self.FILE).open("w", encoding="utf-8", newline="\n") as file:
            for records, live, dropped in live_tables(work, self.inputs, self.drops):
                kept = records.filter(pa.array(live))
                for record in with_hex_ids(kept.select(list(FIELDS))).to_pylist():
                    record["response"] = record["response"] or None
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                lines = kept.select(["row_id", "source", "file", "row", "part"])
                for name, value in (("outcome", Outcome.KEPT.value), ("stage", self.stage)):
                    lines = lines.append_column(name, pa.array([value] * len(kept), pa.string()))
                ledger.write(lines)
                ledger.write(dropped)
                count(rows=len(kept))
        ledger.close()
        return EvalFile(file=file_info(out / self.FILE))
