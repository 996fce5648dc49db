"""What the build of a dataset found of a task's questions in its training data.

mix.lock.yaml: sha256 of the input files of eval sources ─ equal to that of a task's files ─▶ eval sources
report/contamination.parquet: counts of decontamination ─ by eval source ────────────────────▶ Contamination
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from corpus.contract import COMMIT, LOCK
from corpus.terminal import counted
from trainer.benchmarks.files import Folder, TaskDataError, rows_of

_COUNTS = "report/contamination.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """What decontamination found of one eval source."""

    eval_source: str
    items: int
    """Questions of the eval source."""
    looked_for: int
    """Those that have enough words to be searched for."""
    found: int
    """Those that some training record contains."""
    train_records: int
    """Training records that contain any, which were dropped."""

    def __str__(self) -> str:
        return (
            f"{self.found:,} of {self.looked_for:,} found in training data, "
            f"{counted(self.train_records, 'record')} dropped ({self.eval_source})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFindings:
    """The eval sources of a build: by the hash of their files, and what was found of them."""

    fingerprint: str
    """Identity of the dataset."""
    sources: Mapping[str, str]
    """sha256 of an input file to its eval source."""
    counts: Mapping[str, Contamination]
    """By eval source."""

    def of(self, data: Mapping[str, str]) -> list[Contamination]:
        """Return what was found of a task, given the hashes of its files; empty if the build did not look for it."""
        names = dict.fromkeys(self.sources[sha256] for sha256 in data.values() if sha256 in self.sources)
        return [self.counts[name] for name in names if name in self.counts]


def read_findings(dataset: str | Path) -> BuildFindings:
    """Read what the build of a dataset found.

    Parameters
    ----------
    dataset
        Folder or fsspec URL of a built dataset.

    Raises
    ------
    TaskDataError
        The folder has no lock file or no report of a build.
    """
    folder = Folder(location=str(dataset).rstrip("/"))
    try:
        lock = yaml.safe_load(folder.read(LOCK).decode())
        roles = {source["name"]: source["role"] for source in lock["manifest"]["sources"]}
        inputs: Sequence[Mapping[str, Any]] = lock["inputs"]
        hashes = {entry["sha256"]: entry["source"] for entry in inputs if roles.get(entry["source"]) == "eval"}
        content = json.loads(folder.read(COMMIT))
        fingerprint, files = str(content["fingerprint"]), content.get("files", {})
    except (TaskDataError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise TaskDataError(
            f"{folder.shown}: is not a built dataset ({error!r}); expected {LOCK} and {COMMIT}"
        ) from None
    hashes.pop(None, None)
    rows = rows_of(f"{folder.shown}/{_COUNTS}", folder.read(_COUNTS)) if _COUNTS in files else []
    return BuildFindings(
        fingerprint=fingerprint,
        sources=hashes,
        counts={row["eval_source"]: Contamination(**row) for row in rows},
    )
