"""Eval sources: cleaned and deduplicated like the rest, but written as JSON lines, never into shards.

A prompt without a reference has the response null.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from corpus.outcome import Outcome
from pipeline.engine.progress import report
from pipeline.engine.step import Step
from pipeline.records.drops import DropKey
from pipeline.records.ledger import LedgerPart
from pipeline.shards.encode import file_facts
from pipeline.shards.shuffle import survivors

FIELDS = ("row_id", "source", "task", "instruction", "response", "condition")
FILE = "eval.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteEval(Step):
    """Write one eval source, in the order of its files and rows."""

    stage: ClassVar[str] = "eval"

    source: str
    inputs: tuple[tuple[int, str], ...]
    """Number of each partition of this source and the key of its `Ingest`."""
    drops: tuple[DropKey, ...]
    """Steps that dropped records of this source."""

    @property
    def partition(self) -> str:
        return f"source {self.source}"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        ledger = LedgerPart(out)
        rows = 0
        with (out / FILE).open("w", encoding="utf-8", newline="\n") as file:
            for kept, lost in survivors(work, self.inputs, self.drops):
                for record in kept.select(list(FIELDS)).to_pylist():
                    record["response"] = record["response"] or None
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                lines = kept.select(["row_id", "source", "file", "row", "part"])
                lines = lines.append_column("outcome", pa.array([Outcome.KEPT.value] * len(kept), pa.string()))
                ledger.write(lines.append_column("stage", pa.array([self.stage] * len(kept), pa.string())))
                ledger.write(lost)
                rows += len(kept)
                report(rows=len(kept))
        ledger.close()
        return {"rows": rows, "facts": file_facts((out / FILE).read_bytes())}
