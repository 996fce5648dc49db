"""Inputs: which files a mix reads, their hashes, and the lock file that records them.

Mix ─ discover_inputs ─▶ files of all sources ─ hash_inputs ─▶ `Input`, one for each file
"""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from corpus.discover import SourceFile, discover
from corpus.formats.ranges import ByteRange
from corpus.source import SourceSpec
from corpus.storage.redact import redact_location
from pipeline.engine.executor import Executor
from pipeline.engine.keys import digest_of
from pipeline.ingest import content
from pipeline.ingest.content import GENERATOR, Hashed, HashFile, is_divisible, stamp
from pipeline.manifest import Mix
from pipeline.records.ledger import InputFile

Found = tuple[int, SourceSpec, SourceFile]
"""An input file: the position of its source in the manifest, the source, the file."""

DISK_PER_TEXT = 4.0
"""Bytes of intermediate results and dataset for a byte of text; builds of benchmark texts take 3.5."""
TEXT_PER_BYTE = 3.0
"""Bytes of text for a byte of a compressed input file."""
PACKED_FORMATS = ("parquet",)
"""Formats with compression built in, about as strong as gzip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input file of a mix, with its content's hash."""

    order: int
    """Position of its source in the manifest."""
    spec: SourceSpec
    file: SourceFile
    stamp: str
    sha256: str | None
    """None for a generator, which its URL identifies, and for a file that is skipped or cannot be opened."""
    place: str
    """Location as datasets record it: relative to the manifest's folder if its source's path is, so that a mix may move
    together with its inputs; no credentials."""
    ranges: tuple[ByteRange, ...] = ()
    """Parts of the file, each of which is ingested by its own step; none for a file that is read in one piece."""

    @property
    def identity(self) -> str:
        """Hash of the content and of everything that decides how it is read."""
        spec = self.spec.model_dump(mode="json", include={"name", "map", "task", "condition"})
        file = self.file
        known = self.sha256 or (file.url if file.url.startswith(GENERATOR) else self.stamp)
        how = [
            *(file.path, file.format, file.compression, file.encoding, file.adapter),
            *(file.skipped, file.problem, file.columns),
        ]
        layout = dataclasses.asdict(self.spec.layout)
        return digest_of([spec, layout, how, known, [plugin.sha256 for plugin in self.spec.plugins]])

    @property
    def facts(self) -> InputFile:
        """What the dataset records."""
        file = self.file
        return InputFile(
            source=self.spec.name,
            file=file.path,
            url=self.place,
            bytes=file.bytes,
            sha256=self.sha256,
            format=file.format,
            compression=file.compression,
            encoding=file.encoding,
            adapter=file.adapter,
        )


def discover_inputs(mix: Mix, base: Path) -> list[Found]:
    """Return all files of all sources, in order of source and path.

    Raises
    ------
    corpus.config.ConfigError
        A path or glob matches nothing.
    """
    return [(order, spec, file) for order, spec in enumerate(mix.sources) for file in discover(spec, base)]


def hash_inputs(found: Sequence[Found], base: Path, executor: Executor) -> list[Input]:
    """Add the content hash of each file; `base` is the manifest's folder."""
    with ThreadPoolExecutor(16) as threads:
        stamps = list(threads.map(lambda item: stamp(item[2].url) if item[2].skipped is None else "", found))
    # By URL: a file that several sources read is hashed once.
    divided = {file.url for _, spec, file in found if is_divisible(spec, file)}
    steps = {
        file.url: HashFile(
            url=file.url,
            stamp=mark,
            shown=file.shown_url,
            range_bytes=content.RANGE_BYTES if file.url in divided else None,
        )
        for (_, _, file), mark in zip(found, stamps, strict=True)
        if not file.url.startswith(GENERATOR) and file.skipped is None
    }
    hashed = dict(zip(steps, executor.map(list(steps.values())), strict=True))
    nothing = Hashed(sha256=None)
    return [
        Input(
            order=order,
            spec=spec,
            file=file,
            stamp=mark,
            sha256=hashed.get(file.url, nothing).sha256,
            place=_place(spec, file, base),
            ranges=hashed.get(file.url, nothing).ranges if is_divisible(spec, file) else (),
        )
        for (order, spec, file), mark in zip(found, stamps, strict=True)
    ]


def _place(spec: SourceSpec, file: SourceFile, base: Path) -> str:
    entries = spec.path if isinstance(spec.path, list) else [spec.path or ""]
    if "://" in file.url or any(os.path.isabs(entry.removeprefix("file://")) for entry in entries):
        return file.shown_url
    return os.path.relpath(file.shown_url, os.path.abspath(base))


def lock_text(mix: Mix, inputs: Sequence[Input]) -> str:
    """Return the lock file: the manifest with all defaults, size and hash of every input file, and no credentials."""
    resolved = mix.model_dump(mode="json", exclude={"out"})
    for source in resolved["sources"]:
        path = source["path"]
        source["path"] = (
            [redact_location(e) for e in path] if isinstance(path, list) else path and redact_location(path)
        )
    files = [{"path" if key == "file" else key: fact for key, fact in asdict(item.facts).items()} for item in inputs]
    return yaml.safe_dump({"manifest": resolved, "inputs": files}, sort_keys=False, allow_unicode=True, width=1000)


def doubts(files: Sequence[SourceFile]) -> list[str]:
    """Return what is uncertain about how files are read, one message for the files of a source with one doubt."""
    by_doubt: dict[tuple[str, str], list[str]] = {}
    for file in files:
        if file.doubt is not None:
            by_doubt.setdefault((file.source, file.doubt), []).append(file.path)
    return [
        f"source {source!r}, {paths[0]}{f' and {len(paths) - 1:,} more files' if len(paths) > 1 else ''}: {doubt}"
        for (source, doubt), paths in by_doubt.items()
    ]


def text_bytes(files: Sequence[SourceFile]) -> float:
    """Estimate the bytes of text in input files, of which some are compressed."""
    return sum(
        file.bytes * (TEXT_PER_BYTE if file.compression or file.format in PACKED_FORMATS else 1.0) for file in files
    )


def disk_warning(files: Sequence[SourceFile], work: Path) -> str | None:
    """Return a warning if the disk of the existing folder `work` seems too small for a build of `files`.

    An estimate, and so not a reason to stop. Results of earlier runs in `work` need no further space.
    """
    text = text_bytes(files)
    needed = DISK_PER_TEXT * text - sum(path.lstat().st_size for path in work.rglob("*") if path.is_file())
    free = shutil.disk_usage(work).free
    if needed <= free:
        return None
    return (
        f"the inputs' {text / 1e9:.1f} GB of text (an estimate) need about {needed / 1e9:.1f} GB more in {work}, where "
        f"{free / 1e9:.1f} GB are free; --work names a folder on another disk"
    )
