"""The texts of rows that a dataset does not keep, read again from its input files.

mix.lock.yaml ─▶ sources and their files as they were built from ─ discover, compare ─▶ read_pairs ─▶ Pair
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from corpus.config import ConfigError
from corpus.contract import LOCK, DatasetError
from corpus.dataset import Dataset
from corpus.discover import SourceFile, discover
from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec

HASHED_BYTES = 2**28
"""Input files up to this size are compared with the dataset by hash, larger and remote ones by size only."""


class OriginalError(Exception):
    """An input file is not there any more, or differs from the one that the dataset was built from."""


@dataclass(frozen=True, kw_only=True)
class Originals:
    """The input files of a dataset.

    Raises
    ------
    OriginalError
        From all members: an input cannot be found or is not the one that the dataset was built from.
    OSError
        From all members: it cannot be read.
    """

    dataset: Dataset
    base: Path
    """Folder that relative paths of inputs start from: the manifest's."""

    def text(self, source: str, file: str, row: int, part: int) -> Pair | None:
        """Return one pair as its adapter made it, before cleaning; None for a row that yields no such pair."""
        return next((pair for pair in self.pairs(source, file) if (pair.row, pair.part) == (row, part)), None)

    def pairs(self, source: str, file: str) -> Iterator[Pair]:
        """Yield all pairs of a file in its order, before cleaning."""
        spec, files = self._source(source)
        found = files.get(file)
        if found is None:
            raise OriginalError(f"source {source!r} has no file {file} now")
        self._compare(found)
        yield from (item for item in read_pairs(spec, found) if isinstance(item, Pair))

    @cached_property
    def _lock(self) -> dict[str, Any]:
        where = self.dataset.url(LOCK)
        try:
            lock = yaml.safe_load(self.dataset.read(LOCK))
            sources = {spec["name"]: spec for spec in lock["manifest"]["sources"]}
            inputs = {(item["source"], item["path"]): item for item in lock["inputs"]}
        except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise DatasetError(f"{where}: is not a lock file ({error}); build the dataset again") from None
        return {"sources": sources, "inputs": inputs}

    @cached_property
    def _known(self) -> dict[str, tuple[SourceSpec, dict[str, SourceFile]]]:
        return {}

    def _source(self, name: str) -> tuple[SourceSpec, dict[str, SourceFile]]:
        if name not in self._known:
            # The lock has a plugin as its reference and hash.
            stated = {
                key: value["reference"] if isinstance(value, dict) and "reference" in value else value
                for key, value in self._lock["sources"][name].items()
            }
            try:
                spec = SourceSpec.model_validate(stated, context={"base": self.base})
                files = {file.path: file for file in discover(spec, self.base)}
            except (ConfigError, ValueError) as error:
                raise OriginalError(str(error)) from None
            self._known[name] = spec, files
        return self._known[name]

    def _compare(self, file: SourceFile) -> None:
        built = self._lock["inputs"].get((file.source, file.path), {})
        if file.bytes != built.get("bytes"):
            raise OriginalError(
                f"{file.shown_url}: has {file.bytes:,} bytes; the dataset was built from {built.get('bytes', 0):,}"
            )
        if file.member is None and file.bytes <= HASHED_BYTES and (path := Path(file.url)).is_file():
            with path.open("rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != built["sha256"]:
                    raise OriginalError(f"{file.shown_url}: is not the file that the dataset was built from (its hash)")
