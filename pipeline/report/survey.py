"""A survey of a mix: its files read and cleaned as a build would, up to a number of bytes of each source.

file ─┬▶ whole, where it is within its share of the bytes
      ├▶ parts from all over it: lines of a JSON-lines file, row groups of a Parquet file
      └▶ its first bytes: other formats, and compressed files
pairs ─▶ clean ─▶ quality rules ─▶ what `Ingest` would count
              └─▶ a sample of the pairs ─▶ what each quality rule would drop
"""

import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice, repeat
from operator import itemgetter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.columns import ColumnCounter
from corpus.discover import SourceFile
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from corpus.storage.connect import open_file
from pipeline.guard import FileRead
from pipeline.ingest.clean import STAGE, clean
from pipeline.ingest.content import GENERATOR
from pipeline.ingest.step import Ingested
from pipeline.manifest import Mix
from pipeline.report.rules import Trial, try_rules
from pipeline.rules.apply import apply_rules

SOURCE_BYTES = 8 << 20
"""Bytes of a source that are read, about, shared equally by its files."""
LEAST_BYTES = 128 << 10
"""Bytes of a file that are read at least."""
PARTS = 8
"""Parts of a large file that are read, evenly spread."""
PART_ROWS = 500
"""Rows of a part of a Parquet file."""
SAMPLE_PAIRS = 500
"""Pairs of a source that are sampled, about, shared equally by its files and spread over what is read of each."""
POOL_BYTES = 32 << 20
"""Bytes from which on the sources are read by several processes."""
EXAMPLES = 3
_BATCH = 8192
_BATCH_CHARS = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was read of a source."""

    files: Sequence[FileRead]
    """With counts of what was read; sizes by task are left out."""
    partial: int
    """Files that were not read whole."""
    examples: Sequence[tuple[SourceFile, Pair]]
    """The first pairs."""
    trial: Trial | None
    """What the quality rules would drop from a sample of the pairs; None for an eval source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a file, as a file of its own."""

    file: SourceFile
    where: str
    """Its place in the whole file, for messages; empty for the beginning."""
    head_bytes: int | None
    """Bytes after which it is cut off; None: at its end."""


def share_of(files: Sequence[SourceFile]) -> int:
    """Return the bytes that are read, about, of each of a source's files that has more."""
    readable = sum(file.format is not None and file.skipped is None for file in files)
    return max(SOURCE_BYTES // max(readable, 1), LEAST_BYTES)


def survey(mix: Mix, spec: SourceSpec, files: Sequence[SourceFile]) -> Survey:
    """Read the files of a source in part, the smaller ones whole."""
    readable = [file for file in files if file.format is not None and file.skipped is None]
    share = share_of(files)
    cleaning = _Cleaning(mix, spec, sampled=-(-SAMPLE_PAIRS // max(len(readable), 1)))
    examples: list[tuple[SourceFile, Pair]] = []
    partial = 0
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            reader = _Reader(mix, spec, file, cleaning)
            parts = list(_parts(file, share, Path(folder)))
            for part in parts:
                reader.read(part)
            reader.whole = len(parts) == 1 and parts[0].head_bytes is None
            partial += not reader.whole
            examples += [(file, pair) for pair in reader.first[: EXAMPLES - len(examples)]]
            cleaning.finish(reader)
    cleaning.flush()
    names = ("source", "instruction", "response")
    rows = [(spec.name, instruction, response) for instruction, response in cleaning.samples]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    trial = try_rules(mix, frame) if spec.role == "train" else None
    return Survey(files=cleaning.reads, partial=partial, examples=examples, trial=trial)


def surveys(mix: Mix, files: Sequence[Sequence[SourceFile]]) -> list[Survey]:
    """Survey all sources of a mix, large mixes in a process for each core.

    Parameters
    ----------
    mix
        The manifest.
    files
        The files of each of its sources, in the manifest's order.
    """
    size = sum(min(sum(file.bytes for file in found), SOURCE_BYTES) for found in files)
    if size < POOL_BYTES:
        return list(map(survey, repeat(mix), mix.sources, files))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(survey, repeat(mix), mix.sources, files))


class _Cleaning:
    """Cleans the pairs of a source's files together, since many files are small, and counts them by file."""

    def __init__(self, mix: Mix, spec: SourceSpec, *, sampled: int) -> None:
        self._mix, self._spec, self._sampled = mix, spec, sampled
        self._texts: list[tuple[str, str]] = []
        self._readers: list[_Reader] = []
        """The reader of each of `_texts`."""
        self._chars = 0
        self._finished: list[_Reader] = []
        self.reads: list[FileRead] = []
        self.samples: list[tuple[str, str]] = []

    def add(self, reader: "_Reader", instruction: str, response: str) -> None:
        """Take a pair of a file."""
        self._texts.append((instruction, response))
        self._readers.append(reader)
        self._chars += len(instruction) + len(response)
        if len(self._texts) >= _BATCH or self._chars >= _BATCH_CHARS:
            self.flush()

    def finish(self, reader: "_Reader") -> None:
        """Take a file that has been read; its counts are final after the next `flush`."""
        self._finished.append(reader)

    def flush(self) -> None:
        """Clean the pairs that were added, and take the results of the files that have been read."""
        if self._texts:
            self._clean()
        for reader in self._finished:
            self.reads.append(FileRead(spec=self._spec, file=reader.file, found=reader.result()))
            self.samples += reader.sample(self._sampled)
        self._finished = []

    def _clean(self) -> None:
        frame = pl.DataFrame(self._texts, schema={"instruction": pl.String, "response": pl.String}, orient="row")
        is_eval = self._spec.role == "eval"
        frame = clean(frame, self._mix.clean, without_response=is_eval)
        cleaned = frame["outcome"].to_list()
        if not is_eval:
            frame = apply_rules(frame.with_columns(stage=pl.lit(STAGE)), self._mix.rules)
        rows = zip(self._readers, self._texts, cleaned, frame["outcome"], frame["detail"], strict=True)
        for reader, in_file in groupby(rows, key=itemgetter(0)):
            kept: list[tuple[str, str]] = []
            for _, text, outcome_of_cleaning, outcome, detail in in_file:
                reader.count(outcome, detail)
                if outcome_of_cleaning is None:
                    kept.append(text)
            reader.keep(kept)
        self._texts, self._readers, self._chars = [], [], 0


class _Reader:
    """Reads the parts of one file and counts what `Ingest` would."""

    def __init__(self, mix: Mix, spec: SourceSpec, file: SourceFile, cleaning: _Cleaning) -> None:
        self._mix, self._spec, self._cleaning = mix, spec, cleaning
        self._columns = ColumnCounter()
        self._pairs = self._rejected = self._records = self._rows = 0
        self._dropped: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._end: FileEnd | None = None
        self._kept: list[tuple[str, str]] = []
        self.file = file
        self.first: list[Pair] = []
        self.whole = False
        """Whether all of the file was read."""

    def read(self, part: _Part) -> None:
        """Read a part, further than its bytes if these do not hold a row."""
        items = self._items(part)
        last: Pair | Rejected | None = None
        for item in items:
            if isinstance(item, FileEnd):
                self._end = item
                break
            if last is not None:
                self._add(last, part)
            last = item
        # The row at a cut is incomplete.
        if last is not None and not (part.head_bytes and isinstance(last, Rejected)):
            self._add(last, part)

    def _items(self, part: _Part) -> Iterator[Pair | Rejected | FileEnd]:
        limit = part.head_bytes
        while True:
            items = read_pairs(
                self._spec, part.file, markup=self._mix.clean.markup, columns=self._columns, head_bytes=limit
            )
            first = next(items)
            if not (limit and isinstance(first, FileEnd) and limit < part.file.bytes):
                yield first
                yield from items
                return
            limit *= 8

    def _add(self, item: Pair | Rejected, part: _Part) -> None:
        self._rows += item.part == 0
        if isinstance(item, Pair):
            self._pairs += 1
            if len(self.first) < EXAMPLES and not part.where:
                self.first.append(item)
            self._cleaning.add(self, item.instruction, item.response)
        else:
            self._rejected += 1
            self._dropped[item.reason.value] += 1
            self._examples.setdefault(item.reason.value, f"{part.where}{item.position}: {item.detail}")

    def count(self, outcome: str | None, detail: str | None) -> None:
        """Count the outcome of a pair's cleaning, None for one that is kept."""
        if outcome is None:
            self._records += 1
            return
        self._dropped[outcome] += 1
        if detail is not None:
            self._examples.setdefault(outcome, detail)

    def keep(self, texts: list[tuple[str, str]]) -> None:
        """Keep pairs for the sample: evenly spread, so that the sample of a large file is of bounded size."""
        self._kept += texts[:: max(1, len(texts) // SAMPLE_PAIRS)]

    def sample(self, count: int) -> list[tuple[str, str]]:
        """Return about `count` pairs from all over what was read."""
        return self._kept[:: max(1, len(self._kept) // count)][:count]

    def result(self) -> Ingested:
        """Return the counts; a file that was read in part ends as one that was read."""
        end = self._end if self.whole else None
        return Ingested(
            pairs=self._pairs,
            rejected=self._rejected,
            records=self._records,
            dropped=dict(self._dropped),
            examples=self._examples,
            tasks={},
            adapted=self._columns.rows,
            columns=self._columns.all_columns,
            end=end or FileEnd(FileOutcome.READ, self._rows, "", "read in part"),
        )


def _parts(file: SourceFile, share: int, folder: Path) -> Iterator[_Part]:
    """Divide a file into the parts to read of it; parts that are files of their own are written to `folder`."""
    if file.bytes <= share or file.format is None or file.skipped is not None:
        whole = file.url.startswith(GENERATOR) and file.format is not None
        yield _Part(file=file, where="", head_bytes=share if whole else None)
        return
    if file.compression is None and file.format == "jsonl":
        yield _Part(file=file, where="", head_bytes=share // PARTS)
        yield from _lines(file, share // PARTS, folder)
    elif file.compression is None and file.format == "parquet":
        yield from _row_groups(file, folder)
    else:
        yield _Part(file=file, where="", head_bytes=share)


def _lines(file: SourceFile, size: int, folder: Path) -> Iterator[_Part]:
    """Copy whole lines from all over a file behind its first part."""
    with open_file(file.url) as opened:
        for number in range(1, PARTS):
            begin = number * file.bytes // PARTS
            opened.seek(begin)
            content = opened.read(min(size, file.bytes // PARTS))
            # The first and the last line are incomplete.
            lines = content[content.find(b"\n") + 1 : content.rfind(b"\n") + 1]
            if lines:
                path = folder / f"{number}.jsonl"
                path.write_bytes(lines)
                yield _Part(file=replace(file, url=str(path)), where=f"after byte {begin:,}, ", head_bytes=None)


def _row_groups(file: SourceFile, folder: Path) -> Iterator[_Part]:
    """Copy the first rows of row groups from all over a Parquet file."""
    try:
        with open_file(file.url) as opened, pq.ParquetFile(opened) as parquet:
            groups = parquet.num_row_groups
            for group in sorted({number * groups // PARTS for number in range(PARTS)}):
                batches = parquet.iter_batches(batch_size=PART_ROWS, row_groups=[group], use_threads=False)
                table = pa.Table.from_batches(list(islice(batches, 1)), parquet.schema_arrow)
                path = folder / f"{group}.parquet"
                pq.write_table(table, path)
                where = f"row group {group + 1:,}, " if group else ""
                yield _Part(file=replace(file, url=str(path)), where=where, head_bytes=None)
    except (pa.ArrowException, OSError, ValueError):
        yield _Part(file=file, where="", head_bytes=None)  # reading it reports why
