"""Assemble: the finished stages → a dataset folder, in which shards are only named, not copied.

Writes the sidecars (lengths, strata, index, ledger, report, card, lock) and
`dataset.json`, and lists for every file of the dataset where its bytes lie:
here, or in the step that made them. Numbers that only now are known, global
sample indices and shard numbers, are filled in. The conservation law is
asserted here.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus.contract import COMMIT, FINGERPRINTED, FORMAT, DatasetInfo, Stratum, fingerprint
from corpus.outcome import FileOutcome, Outcome
from pipeline.decontaminate import findings
from pipeline.dedup.near.examples import least_similar
from pipeline.dedup.near.steps import Verify
from pipeline.engine.step import RESULT, BuildError, Step, folder, library_versions
from pipeline.ingest.step import Ingest
from pipeline.records.drops import DropKey
from pipeline.records.ledger import FILES, ROWS, read_part
from pipeline.report import page as report
from pipeline.shards import mds
from pipeline.shards.encode import Encode
from pipeline.shards.evals import FILE as EVAL_FILE
from pipeline.shards.evals import WriteEval
from pipeline.shards.shuffle import Scatter
from pipeline.shards.tokenizer import FILE as TOKENIZER_FILE
from pipeline.shards.tokenizer import TOKENIZER_STAGE, special_ids, vocabulary_size

PLACES = "places.json"
LEDGER_FILE_ROWS = 2**20
EXAMPLES = 3
"""Dropped rows shown in the report for each source and reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble(Step):
    """Make everything of a dataset that one process can."""

    stage: ClassVar[str] = "assemble"

    name: str
    build_key: str
    lock: str
    sources: tuple[dict[str, Any], ...]
    """For each source: name, role, max_per_epoch, repeat."""
    files: tuple[dict[str, Any], ...]
    """For each input file: the columns of `FILES` that are known before reading, and the key of its `Ingest`."""
    strata: tuple[tuple[str, str], ...]
    """Source and task of each stratum of the plan."""
    scatter: tuple[str, ...]
    encode: tuple[str, ...]
    evals: tuple[tuple[str, str], ...]
    """Name and key of each eval source."""
    tokenizer: str
    drops: tuple[DropKey, ...]
    """The steps that dropped records of train sources."""

    @property
    def partition(self) -> str:
        return "the whole dataset"

    def run(self, work: Path, out: Path) -> dict[str, Any]:
        for name in ("shards", "ledger", "report"):
            (out / name).mkdir()
        encoded = [self._result(work, Encode.stage, key) for key in self.encode]
        places = _Places(out)
        self._place_finished(work, encoded, places)
        lengths = self._write_lengths(work, out, encoded)
        strata = self._strata(encoded)
        (out / "strata.json").write_text(
            json.dumps({"strata": strata}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        if not len(lengths):
            raise BuildError(
                "no pair is left: samples.min_response_tokens and samples.max_tokens leave none of those before them"
            )
        entries = [shard["entry"] for bucket in encoded for shard in bucket["shards"]]
        for number, entry in enumerate(entries):
            entry["raw_data"]["basename"] = f"shard.{number:05}.mds"
        (out / "shards/index.json").write_text(mds.index(entries))
        (out / "mix.lock.yaml").write_text(self.lock, encoding="utf-8")

        files = self._files(work)
        pq.write_table(pa.Table.from_pylist(files, schema=FILES), out / "ledger/files.parquet", compression="zstd")
        tally = self._write_ledger(work, out, [bucket.get("kept", 0) for bucket in encoded])
        counts = self._counts(work, tally, lengths, strata)
        self._assert_conservation(work, counts, strata)

        tokenizer = (folder(work, TOKENIZER_STAGE, self.tokenizer) / TOKENIZER_FILE).read_text(encoding="utf-8")
        totals = lengths.sum(axis=0, dtype=np.int64).tolist() if len(lengths) else [0, 0]
        dataset: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "samples": len(lengths),
            "tokens": sum(totals),
            "prefix_tokens": totals[0],
            "response_tokens": totals[1],
            "max_tokens": max((bucket["max_tokens"] for bucket in encoded), default=0),
            "tokenizer": {
                "file": "tokenizer/tokenizer.json",
                "sha256": hashlib.sha256(tokenizer.encode()).hexdigest(),
                "vocab_size": vocabulary_size(tokenizer),
                "special": special_ids(tokenizer),
            },
            "shards": len(entries),
            "counts": counts,
            "eval": {
                "files": [f"eval/{name}.jsonl" for name, _ in self.evals],
                "rows": sum(counts[name]["kept"] for name, _ in self.evals),
            },
            "versions": library_versions(),
            "build_key": self.build_key,
        }
        duplicates = least_similar(work, self.drops, Verify.stage)
        contamination = findings.collect(work, self.drops, out / report.CONTAMINATION_HITS)
        draft = dataset | {"files": {}, "lock_sha256": "", "fingerprint": ""}
        report.write(
            out,
            DatasetInfo.model_validate(draft, strict=False),
            files=files,
            strata=[Stratum.model_validate(stratum) for stratum in strata],
            lengths=lengths,
            examples=tally.examples,
            duplicates=duplicates,
            contamination=contamination,
        )
        places.add_own()
        dataset["files"] = places.facts()
        dataset["lock_sha256"] = dataset["files"]["mix.lock.yaml"]["sha256"]
        with ExitStack() as stack:
            own = [stack.enter_context((out / name).open("rb")) for name in FINGERPRINTED[:-1]]
            dataset["fingerprint"] = fingerprint([*own, io.BytesIO(tokenizer.encode())])
        (out / COMMIT).write_text(json.dumps(dataset, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        places.add(COMMIT, self.stage, None, COMMIT, _facts(out / COMMIT))
        (out / PLACES).write_text(json.dumps(places.rows))
        return {"faults": [line for line in files if line["outcome"] != FileOutcome.READ]}

    def _result(self, work: Path, stage: str, key: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((folder(work, stage, key) / RESULT).read_text())
        return result

    def _place_finished(self, work: Path, encoded: list[dict[str, Any]], places: "_Places") -> None:
        """Files that lie in the folders of earlier steps."""
        shards = parts = 0
        for key, bucket in zip(self.encode, encoded, strict=True):
            for shard in bucket["shards"]:
                places.add(
                    f"shards/shard.{shards:05}.mds", Encode.stage, key, shard["entry"]["raw_data"]["basename"], shard
                )
                shards += 1
            if bucket["curated"] is not None:
                places.add(f"curated/part-{parts:05}.parquet", Encode.stage, key, "curated.parquet", bucket["curated"])
                parts += 1
        for name, key in self.evals:
            places.add(
                f"eval/{name}.jsonl", WriteEval.stage, key, EVAL_FILE, self._result(work, WriteEval.stage, key)["facts"]
            )
        path = folder(work, TOKENIZER_STAGE, self.tokenizer) / TOKENIZER_FILE
        places.add("tokenizer/tokenizer.json", TOKENIZER_STAGE, self.tokenizer, TOKENIZER_FILE, _facts(path))

    def _write_lengths(self, work: Path, out: Path, encoded: list[dict[str, Any]]) -> Any:
        total = sum(bucket["kept"] for bucket in encoded)
        with (out / "lengths.npy").open("wb") as file:
            header = {"descr": "<u2", "fortran_order": False, "shape": (total, 2)}
            np.lib.format.write_array_header_1_0(file, header)
            for key in self.encode:
                file.write(np.load(folder(work, Encode.stage, key) / "lengths.npy").astype("<u2").tobytes())
        return np.load(out / "lengths.npy", mmap_mode="r")

    def _strata(self, encoded: list[dict[str, Any]]) -> list[dict[str, Any]]:
        sizes = [0] * len(self.strata)
        for bucket in encoded:
            for number, count in bucket["strata"].items():
                sizes[int(number)] += count
        rules = {source["name"]: source for source in self.sources}
        strata = []
        begin = 0
        for (source, task), size in zip(self.strata, sizes, strict=True):
            if size:
                strata.append(
                    {
                        "source": source,
                        "task": task,
                        "begin": begin,
                        "end": begin + size,
                        "max_per_epoch": rules[source]["max_per_epoch"],
                        "repeat": rules[source]["repeat"],
                    }
                )
                begin += size
        return strata

    def _files(self, work: Path) -> list[dict[str, Any]]:
        lines = []
        for facts in self.files:
            result = self._result(work, Ingest.stage, facts["key"])
            line = {name: facts.get(name) for name in FILES.names}
            lines.append({**line, **result["file"], "pairs": result["pairs"]})
        return lines

    def _write_ledger(self, work: Path, out: Path, kept: list[int]) -> "_Tally":
        tally = _Tally()
        writer = _LedgerWriter(out / "ledger")
        first = 0
        parts: list[tuple[str, str, int]] = [(Ingest.stage, facts["key"], 0) for facts in self.files]
        parts += [(Scatter.stage, key, 0) for key in self.scatter]
        for key, count in zip(self.encode, kept, strict=True):
            parts.append((Encode.stage, key, first))
            first += count
        parts += [(WriteEval.stage, key, 0) for _, key in self.evals]
        for stage, key, offset in parts:
            part = read_part(folder(work, stage, key))
            if part is None:
                continue
            with part:
                for batch in part.iter_batches(batch_size=2**16):
                    lines = pa.Table.from_batches([batch], ROWS)
                    samples = pc.add(lines.column("sample"), offset)
                    lines = lines.set_column(ROWS.get_field_index("sample"), ROWS.field("sample"), samples)
                    tally.add(lines)
                    writer.write(lines)
        writer.close()
        return tally

    def _counts(self, work: Path, tally: "_Tally", lengths: Any, strata: list[dict[str, Any]]) -> dict[str, Any]:
        counts: dict[str, Any] = {}
        for source in self.sources:
            found = tally.outcomes.get(source["name"], {})
            counts[source["name"]] = {
                "role": source["role"],
                "rows": 0,
                "pairs": 0,
                "kept": found.get(Outcome.KEPT.value, 0),
                "dropped": {reason: found[reason] for reason in sorted(found) if reason != Outcome.KEPT},
                "tokens": 0,
            }
        for facts in self.files:
            result = self._result(work, Ingest.stage, facts["key"])
            counts[facts["source"]]["rows"] += result["file"]["rows"]
            counts[facts["source"]]["pairs"] += result["pairs"]
        for stratum in strata:
            tokens = lengths[stratum["begin"] : stratum["end"]].sum(dtype=np.int64)
            counts[stratum["source"]]["tokens"] += int(tokens)
        return counts

    def _assert_conservation(self, work: Path, counts: dict[str, Any], strata: list[dict[str, Any]]) -> None:
        """Every pair and every row without one has exactly one ledger line; every kept train pair is a sample."""
        entered = dict.fromkeys(counts, 0)
        for facts in self.files:
            result = self._result(work, Ingest.stage, facts["key"])
            entered[facts["source"]] += result["pairs"] + result["rejected"]
        samples = dict.fromkeys(counts, 0)
        for stratum in strata:
            samples[stratum["source"]] += stratum["end"] - stratum["begin"]
        for name, count in counts.items():
            left = count["kept"] + sum(count["dropped"].values())
            if left != entered[name]:
                raise BuildError(
                    f"source {name}: {entered[name]:,} pairs and rows without a pair came in, but the "
                    f"ledger has {left:,} (kept + dropped); this is a fault of the build, nothing was published"
                )
            if count["role"] == "train" and samples[name] != count["kept"]:
                raise BuildError(
                    f"source {name}: {count['kept']:,} pairs are kept, but {samples[name]:,} are samples; "
                    "this is a fault of the build, nothing was published"
                )


class _Places:
    """Where each file of the dataset lies in the work folder, with its size and hash."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self.rows: list[dict[str, Any]] = []

    def add(self, path: str, stage: str, key: str | None, name: str, facts: dict[str, Any]) -> None:
        """`key` None means the assembling step itself."""
        self.rows.append(
            {"path": path, "stage": stage, "key": key, "name": name} | {k: facts.get(k) for k in ("bytes", "sha256")}
        )

    def add_own(self) -> None:
        for path in sorted(path for path in self._out.rglob("*") if path.is_file()):
            name = path.relative_to(self._out).as_posix()
            self.add(name, Assemble.stage, None, name, _facts(path))

    def facts(self) -> dict[str, dict[str, Any]]:
        rows = sorted(self.rows, key=lambda row: row["path"])
        return {row["path"]: {"bytes": row["bytes"], "sha256": row["sha256"]} for row in rows}


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


class _Tally:
    """Ledger lines by source and outcome, and the first few of each kind that was dropped."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, int]] = {}
        self.examples: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def add(self, lines: pa.Table) -> None:
        groups = lines.select(["source", "outcome"]).group_by(["source", "outcome"]).aggregate([([], "count_all")])
        for group in groups.to_pylist():
            source, outcome, count = group["source"], group["outcome"], group["count_all"]
            by_outcome = self.outcomes.setdefault(source, {})
            by_outcome[outcome] = by_outcome.get(outcome, 0) + count
            examples = self.examples.setdefault((source, outcome), [])
            if outcome != Outcome.KEPT and len(examples) < EXAMPLES:
                mine = pc.and_(pc.equal(lines.column("source"), source), pc.equal(lines.column("outcome"), outcome))
                examples += lines.filter(mine).slice(0, EXAMPLES - len(examples)).to_pylist()


class _LedgerWriter:
    """Writes rows-NNNNN.parquet files of at most `LEDGER_FILE_ROWS` lines."""

    def __init__(self, out: Path) -> None:
        self._out, self._files = out, 0
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, lines: pa.Table) -> None:
        for piece in _pieces(lines, LEDGER_FILE_ROWS - self._rows, LEDGER_FILE_ROWS):
            self._waiting.append(piece)
            self._rows += piece.num_rows
            if self._rows == LEDGER_FILE_ROWS:
                self._flush()

    def close(self) -> None:
        if self._rows or not self._files:
            self._flush()

    def _flush(self) -> None:
        table = pa.concat_tables([ROWS.empty_table(), *self._waiting])
        pq.write_table(table, self._out / f"rows-{self._files:05}.parquet", compression="zstd", row_group_size=2**17)
        self._waiting, self._rows, self._files = [], 0, self._files + 1


def _pieces(lines: pa.Table, first: int, later: int) -> Iterator[pa.Table]:
    begin, size = 0, first
    while begin < lines.num_rows:
        yield lines.slice(begin, size)
        begin, size = begin + size, later
