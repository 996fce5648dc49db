"""Assemble: the finished stages → the files of a dataset, in which shards are only listed, not copied.

Writes the sidecars (lengths, strata, index, ledger, report, card, lock) and `dataset.json`, and lists for every file of
the dataset where it is: in this step's folder, or in that of the step that wrote it. Global sample indices and shard
numbers are known only now and filled in. Raises if a pair or row is lost or counted twice.
"""

import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.contract import (
    COMMIT,
    FINGERPRINTED,
    LEDGER_COLUMNS,
    LEDGER_FILES,
    LENGTHS,
    LOCK,
    SHARD_INDEX,
    STRATA,
    TOKENIZER,
    DatasetInfo,
    EvalInfo,
    FileInfo,
    SourceCounts,
    StrataInfo,
    Stratum,
    TokenizerInfo,
    curated_file,
    eval_file,
    fingerprint,
    ledger_file,
    shard_file,
    token_dtype,
)
from corpus.outcome import Outcome
from pipeline.dataset.tally import Tally
from pipeline.decontaminate import findings
from pipeline.dedup.near.duplicates import VerifyGroups
from pipeline.dedup.near.examples import least_similar
from pipeline.engine.keys import library_versions
from pipeline.engine.step import BuildError, Step
from pipeline.ingest.step import Ingest, Ingested, unused_columns, whole_file
from pipeline.records.drops import DropRef
from pipeline.records.files import file_info
from pipeline.records.ledger import COLUMNS, FILES, ROWS, ColumnLine, FileLine, InputFile, Loss, read_part
from pipeline.report import page as report
from pipeline.report.samples import languages
from pipeline.report.texts import CuratedPart, Texts
from pipeline.shards import mds
from pipeline.shards.encode import Encode, EncodedBucket
from pipeline.shards.evals import WriteEval
from pipeline.shards.shuffle import Scatter
from pipeline.shards.tokenizer import TokenizerStep, special_ids, vocabulary_size

R = TypeVar("R")

LEDGER_GROUP_ROWS = 2**17
LEDGER_FILE_ROWS = 8 * LEDGER_GROUP_ROWS
LEDGER_NAMES = ("source", "file", "outcome", "stage", "detail")
"""Columns of the ledger with few different values: only these have dictionaries."""
LEDGER_ORDERED = ("row", "part", "score", "sample")
"""Columns of the ledger whose smallest and largest value in a row group may exclude it from a search, besides these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file of the dataset, and where its content is."""

    path: str
    """In the dataset."""
    stage: str
    key: str
    """The step whose folder has the file."""
    name: str
    """In that folder."""
    info: FileInfo

    def source(self, work: Path) -> Path:
        """Return the path of the content."""
        return work / self.stage / self.key / self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """Result of `Assemble`."""

    places: tuple[Place, ...]
    """Every file of the dataset; `dataset.json` is the last."""
    faults: tuple[FileLine, ...]
    """Input files that were not read to their end, or are not UTF-8."""
    columns: tuple[ColumnLine, ...]
    """Columns of the sources that are in no pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What a dataset records of a source of the manifest."""

    name: str
    role: Literal["train", "eval"]
    max_per_epoch: int | None
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assemble(Step[Assembled]):
    """Write everything of a dataset that needs all stages."""

    stage: ClassVar[str] = "assemble"

    name: str
    build_key: str
    lock: str
    sources: tuple[SourceFacts, ...]
    epochs: int | None
    """The manifest's."""
    files: tuple[InputFile, ...]
    ingests: tuple[tuple[str, ...], ...]
    """Keys of each file's `Ingest` steps: one, or one for each of its ranges."""
    strata: tuple[tuple[str, str], ...]
    """Source and task of each planned stratum."""
    scatter: tuple[str, ...]
    encode: tuple[str, ...]
    evals: tuple[tuple[str, str], ...]
    """Name and key of each eval source."""
    tokenizer: str
    drops: tuple[DropRef, ...]
    """The steps that dropped records of train sources."""
    shard_size: int
    license: str | None

    @property
    def partition(self) -> str:
        return "the whole dataset"

    @classmethod
    def dataset(cls, work: Path, key: str) -> DatasetInfo:
        """Return the `dataset.json` of a finished step."""
        return DatasetInfo.model_validate_json((cls.folder(work, key) / COMMIT).read_bytes())

    def run(self, work: Path, out: Path) -> Assembled:
        for name in ("shards", "ledger", "report"):
            (out / name).mkdir()
        ingested = [whole_file([_result(Ingest, work, key) for key in keys]) for keys in self.ingests]
        encoded = [_result(Encode, work, key) for key in self.encode]
        tokenizer = TokenizerStep.text(work, self.tokenizer)
        lengths = self._write_lengths(work, out, encoded)
        if not len(lengths):
            raise BuildError(
                "no pair is left: samples.min_response_tokens and samples.max_tokens leave none of those before them"
            )
        texts = self._texts(work, encoded)
        with ThreadPoolExecutor(1) as thread:  # beside the rest, most of which works without Python's lock
            counted = thread.submit(languages, texts, len(lengths))
            strata = self._strata(encoded)
            _write_json(out / STRATA, StrataInfo(strata=tuple(strata)).model_dump())
            shards = [shard for bucket in encoded for shard in bucket.shards]
            vocab_size = vocabulary_size(tokenizer)
            index = mds.index(
                shards, self.shard_size, token_dtype(vocab_size), lambda number: Path(shard_file(number)).name
            )
            (out / SHARD_INDEX).write_text(index)
            (out / LOCK).write_text(self.lock, encoding="utf-8")
            lines = [_line(file, result) for file, result in zip(self.files, ingested, strict=True)]
            table = pa.Table.from_pylist([dataclasses.asdict(line) for line in lines], schema=FILES)
            pq.write_table(table, out / LEDGER_FILES, compression="zstd")
            columns = self._unused_columns(ingested)
            table = pa.Table.from_pylist([dataclasses.asdict(line) for line in columns], schema=COLUMNS)
            pq.write_table(table, out / LEDGER_COLUMNS, compression="zstd")
            tally = self._write_ledger(work, out, [bucket.samples for bucket in encoded])
            counts = self._counts(lines, tally, lengths, strata)
            self._assert_conservation(ingested, counts, strata)

            prefix_tokens, response_tokens = lengths.sum(axis=0, dtype=np.int64).tolist()
            info = DatasetInfo(
                name=self.name,
                fingerprint=self._fingerprint(out, tokenizer),
                samples=len(lengths),
                tokens=prefix_tokens + response_tokens,
                prefix_tokens=prefix_tokens,
                response_tokens=response_tokens,
                max_tokens=max(bucket.max_tokens for bucket in encoded),
                epochs=self.epochs if any(Outcome.NOT_DRAWN in count.dropped for count in counts.values()) else None,
                tokenizer=TokenizerInfo(
                    file=TOKENIZER,
                    sha256=hashlib.sha256(tokenizer.encode()).hexdigest(),
                    vocab_size=vocab_size,
                    token_dtype=token_dtype(vocab_size),
                    special=special_ids(tokenizer),
                ),
                shards=len(shards),
                counts=counts,
                eval=EvalInfo(
                    files=tuple(eval_file(name) for name, _ in self.evals),
                    rows=sum(counts[name].kept for name, _ in self.evals),
                ),
                files={},
                lock_sha256=file_info(out / LOCK).sha256,
                build_key=self.build_key,
                versions=library_versions(),
            )
            faults = [line for line in lines if line.is_notable]
            self._write_report(work, out, info, lines, columns, strata, lengths, tally, encoded, texts, counted.result)
        places = [*self._places_of_steps(work, encoded), *self._own_places(out)]
        files = {place.path: place.info for place in sorted(places, key=lambda place: place.path)}
        info = info.model_copy(update={"files": files})
        _write_json(out / COMMIT, info.model_dump())
        places.append(_place(COMMIT, self.stage, self.key, COMMIT, file_info(out / COMMIT)))
        return Assembled(places=tuple(places), faults=tuple(faults), columns=tuple(columns))

    def _unused_columns(self, ingested: Sequence[Ingested]) -> list[ColumnLine]:
        by_source: dict[str, list[Ingested]] = {source.name: [] for source in self.sources}
        for facts, result in zip(self.files, ingested, strict=True):
            by_source[facts.source].append(result)
        return [line for name, results in by_source.items() for line in unused_columns(name, results)]

    def _places_of_steps(self, work: Path, encoded: Sequence[EncodedBucket]) -> Iterator[Place]:
        """Files in the folders of earlier steps."""
        shards = parts = 0
        for key, bucket in zip(self.encode, encoded, strict=True):
            for number, shard in enumerate(bucket.shards):
                info = FileInfo(bytes=shard.bytes, sha256=shard.sha256)
                yield _place(shard_file(shards), Encode.stage, key, Encode.shard_file(number), info)
                shards += 1
            if bucket.curated is not None:
                yield _place(curated_file(parts), Encode.stage, key, Encode.CURATED, bucket.curated)
                parts += 1
        for name, key in self.evals:
            yield _place(eval_file(name), WriteEval.stage, key, WriteEval.FILE, _result(WriteEval, work, key).file)
        path = TokenizerStep.folder(work, self.tokenizer) / TokenizerStep.FILE
        yield _place(TOKENIZER, TokenizerStep.stage, self.tokenizer, TokenizerStep.FILE, file_info(path))

    def _own_places(self, out: Path) -> Iterator[Place]:
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            name = path.relative_to(out).as_posix()
            yield _place(name, self.stage, self.key, name, file_info(path))

    def _write_lengths(self, work: Path, out: Path, encoded: Sequence[EncodedBucket]) -> NDArray[np.uint16]:
        with (out / LENGTHS).open("wb") as file:
            shape = (sum(bucket.samples for bucket in encoded), 2)
            np.lib.format.write_array_header_1_0(file, {"descr": "<u2", "fortran_order": False, "shape": shape})
            for key in self.encode:
                file.write(Encode.lengths(work, key).astype("<u2").tobytes())
        lengths: NDArray[np.uint16] = np.load(out / LENGTHS, mmap_mode="r")
        return lengths

    def _strata(self, encoded: Sequence[EncodedBucket]) -> list[Stratum]:
        sizes: Counter[int] = Counter()
        for bucket in encoded:
            sizes.update(bucket.strata)
        facts = {source.name: source for source in self.sources}
        strata: list[Stratum] = []
        begin = 0
        for number, (source, task) in enumerate(self.strata):
            if size := sizes[number]:
                max_draws, repeat = facts[source].max_per_epoch, facts[source].repeat
                span = {"begin": begin, "end": begin + size}
                strata.append(Stratum(source=source, task=task, max_per_epoch=max_draws, repeat=repeat, **span))
                begin += size
        return strata

    def _fingerprint(self, out: Path, tokenizer: str) -> str:
        own = [name for name in FINGERPRINTED if name != TOKENIZER]
        with ExitStack() as stack:
            files = [stack.enter_context((out / name).open("rb")) for name in own]
            return fingerprint([*files, io.BytesIO(tokenizer.encode())])

    def _write_ledger(self, work: Path, out: Path, samples: Sequence[int]) -> Tally:
        tally = Tally()
        writer = _LedgerWriter(out)
        parts: list[tuple[type[Step[Any]], str, int]] = [(Ingest, key, 0) for keys in self.ingests for key in keys]
        parts += [(Scatter, key, 0) for key in self.scatter]
        first = 0
        for key, count in zip(self.encode, samples, strict=True):
            parts.append((Encode, key, first))
            first += count
        parts += [(WriteEval, key, 0) for _, key in self.evals]
        for step, key, offset in parts:
            for lines in read_part(step.folder(work, key)):
                numbers = pc.add(lines.column("sample"), offset)
                lines = lines.set_column(ROWS.get_field_index("sample"), ROWS.field("sample"), numbers)
                tally.add(lines)
                writer.write(lines)
        writer.close()
        return tally

    def _counts(
        self, lines: Sequence[FileLine], tally: Tally, lengths: NDArray[np.uint16], strata: Sequence[Stratum]
    ) -> dict[str, SourceCounts]:
        rows, pairs, tokens = Counter[str](), Counter[str](), Counter[str]()
        for line in lines:
            rows[line.source] += line.rows
            pairs[line.source] += line.pairs
        for stratum in strata:
            tokens[stratum.source] += int(lengths[stratum.begin : stratum.end].sum(dtype=np.int64))
        counts = {}
        for source in self.sources:
            found = dict(tally.outcomes.get(source.name, {}))
            counts[source.name] = SourceCounts(
                role=source.role,
                rows=rows[source.name],
                pairs=pairs[source.name],
                kept=found.pop(Outcome.KEPT.value, 0),
                dropped=dict(sorted(found.items())),
                tokens=tokens[source.name],
            )
        return counts

    def _assert_conservation(
        self, ingested: Sequence[Ingested], counts: Mapping[str, SourceCounts], strata: Sequence[Stratum]
    ) -> None:
        """Raise unless every pair and every row without one has one ledger line, and every kept train pair a sample."""
        entered, samples = Counter[str](), Counter[str]()
        for file, result in zip(self.files, ingested, strict=True):
            entered[file.source] += result.pairs + result.rejected
        for stratum in strata:
            samples[stratum.source] += stratum.samples
        for name, count in counts.items():
            left = count.kept + sum(count.dropped.values())
            if left != entered[name]:
                raise BuildError(
                    f"source {name}: {entered[name]:,} pairs and rows without a pair came in, but the ledger has "
                    f"{left:,} (kept + dropped); this is a fault of the build, nothing was published"
                )
            if count.role == "train" and samples[name] != count.kept:
                raise BuildError(
                    f"source {name}: {count.kept:,} pairs are kept, but {samples[name]:,} are samples; "
                    "this is a fault of the build, nothing was published"
                )

    def _texts(self, work: Path, encoded: Sequence[EncodedBucket]) -> Texts:
        curated = [
            CuratedPart(path=Encode.folder(work, key) / Encode.CURATED, samples=bucket.samples)
            for key, bucket in zip(self.encode, encoded, strict=True)
            if bucket.curated is not None
        ]
        ingests = zip(self.files, self.ingests, strict=True)
        return Texts(work=work, ingests={(file.source, file.file): keys for file, keys in ingests}, curated=curated)

    def _write_report(
        self,
        work: Path,
        out: Path,
        info: DatasetInfo,
        lines: Sequence[FileLine],
        columns: Sequence[ColumnLine],
        strata: Sequence[Stratum],
        lengths: NDArray[np.uint16],
        tally: Tally,
        encoded: Sequence[EncodedBucket],
        texts: Texts,
        by_language: Callable[[], Mapping[str, int]],
    ) -> None:
        report.write(
            out,
            report.Material(
                info=info,
                lock=self.lock,
                license=self.license,
                files=[dataclasses.asdict(line) for line in lines],
                columns=columns,
                strata=strata,
                lengths=lengths,
                dropped=tally.stages,
                examples=tally.examples,
                near_scores=tally.near_scores.tolist(),
                near_duplicates=least_similar(
                    VerifyGroups.examples(work, ref.key) for ref in self.drops if ref.stage == VerifyGroups.stage
                ),
                contamination=findings.collect(work, self.drops, out / report.CONTAMINATION_HITS),
                texts=texts,
                languages=by_language,
                curated=[bucket.curated for bucket in encoded if bucket.curated is not None],
            ),
        )


def _place(path: str, stage: str, key: str, name: str, info: FileInfo) -> Place:
    return Place(path=path, stage=stage, key=key, name=name, info=info)


def _line(file: InputFile, ingested: Ingested) -> FileLine:
    end = ingested.end
    return FileLine(
        **dataclasses.asdict(file),
        rows=end.rows,
        pairs=ingested.pairs,
        bytes_read=end.bytes_read,
        bytes_rows=end.bytes_rows,
        bytes_structure=end.bytes_structure,
        bytes_lost=None
        if end.bytes_lost is None
        else tuple(Loss(reason=reason, bytes=size) for reason, size in sorted(end.bytes_lost.items())),
        outcome=end.outcome.value,
        position=end.position or None,
        detail=end.detail or None,
    )


def _result(step: type[Step[R]], work: Path, key: str) -> R:
    result = step.result(work, key)
    if result is None:
        raise BuildError(f"{step.folder(work, key)}: was deleted during the build; run the build again")
    return result


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class _LedgerWriter:
    """Writes the rows of the ledger, in files of `LEDGER_FILE_ROWS` lines; a row group of lines is in memory."""

    def __init__(self, out: Path) -> None:
        self._out, self._files = out, 0
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._rows = 0
        """Lines of the present file, those waiting included."""

    def write(self, lines: pa.Table) -> None:
        for piece in _pieces(lines, LEDGER_GROUP_ROWS - self._rows % LEDGER_GROUP_ROWS, LEDGER_GROUP_ROWS):
            self._waiting.append(piece)
            self._rows += piece.num_rows
            if self._rows % LEDGER_GROUP_ROWS == 0:
                self._flush()
            if self._rows == LEDGER_FILE_ROWS:
                self._finish()

    def close(self) -> None:
        if self._rows or not self._files:
            self._flush()
            self._finish()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._out / ledger_file(self._files),
                ROWS,
                compression="zstd",
                use_dictionary=list(LEDGER_NAMES),
                write_statistics=[*LEDGER_NAMES, *LEDGER_ORDERED],
            )
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=LEDGER_GROUP_ROWS)
            self._waiting = []

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._rows, self._files = None, 0, self._files + 1


def _pieces(lines: pa.Table, first: int, later: int) -> Iterator[pa.Table]:
    begin, size = 0, first
    while begin < lines.num_rows:
        yield lines.slice(begin, size)
        begin, size = begin + size, later
