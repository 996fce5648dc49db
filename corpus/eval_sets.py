"""Public evaluation sets by name: where their test questions are, on Hugging Face and in a folder of downloaded files.

    name ─ EVAL_SETS ─▶ URLs of the Hub, or globs below a folder ─▶ `path` of a source with role: eval, files of a task

A manifest's source names one with `set:`; the tasks of `trainer.benchmark` find their questions by the same globs.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact_location
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.store import Store

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Suffixes of files of questions; .gz or .zst may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSet:
    """The questions of one evaluation set."""

    hub: tuple[str, ...]
    """Globs of its files below hf://datasets/; none: it has no copy there."""
    files: tuple[str, ...]
    """Globs below a folder; the first that matches any file is used."""
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """End of a file's name to the keys of a manifest's source that such files need."""

    def keys_of(self, files: Sequence[str]) -> dict[str, Any]:
        """Return the keys that some files, all of one kind, need beside `path`."""
        ends = (end for end in self.keys if all(file.endswith(end) for file in files))
        return {**self.keys[end]} if (end := next(ends, None)) else {}


def usual(split: str, *folders: str) -> tuple[str, ...]:
    """Return patterns for the files of a split in the layouts of GitHub and Hugging Face repositories."""
    return tuple(
        f"{folder}/{pattern}"
        for folder in folders
        for pattern in (
            f"{split}.jsonl",
            f"{split}.json",
            f"{split}.csv",
            f"{split}-*.parquet",
            f"{split}.parquet",
            f"data/{split}-*.parquet",
            f"{split}.jsonl.*",
        )
    )


AIME = ("aime_2025", "aime2025", "aime25", "AIME2025")
AQUA = ("aqua", "AQuA", "*/AQuA", "aqua_rat", "aqua_rat/raw")
ARC = ("arc_c", "ARC-Challenge", "*/ARC-Challenge", "arc_challenge")
WINOGRANDE = ("winogrande", "winogrande/winogrande_debiased", "*/winogrande")
"""Folders of some sets, which their other splits have too."""

EVAL_SETS: Mapping[str, EvalSet] = {
    "aime": EvalSet(
        hub=("opencompass/AIME2025/aime2025-*.jsonl",),
        files=(*usual("test", *AIME), *usual("train", *AIME), "**/aime2025*.jsonl", "**/aime_2025*.jsonl"),
    ),
    "aqua": EvalSet(
        hub=("deepmind/aqua_rat/raw/test-*.parquet",), files=(*usual("test", *AQUA), *usual("AQuA", *AQUA))
    ),
    "arc_c": EvalSet(
        hub=("allenai/ai2_arc/ARC-Challenge/test-*.parquet",),
        files=(*usual("test", *ARC), "**/ARC-Challenge-Test.jsonl", "**/arc_challenge.jsonl"),
    ),
    "bbh": EvalSet(
        hub=("lukaemon/bbh/*/test-*.parquet",),
        files=("bbh/*.json", "bbh/*/test-*.parquet", "BIG-Bench-Hard/bbh/*.json"),
    ),
    "boolq": EvalSet(
        hub=("google/boolq/data/validation-*.parquet",),
        files=(
            *usual("validation", "boolq"),
            *usual("val", "boolq", "BoolQ"),
            *usual("dev", "boolq"),
            "**/boolq.jsonl*",
        ),
    ),
    "drop": EvalSet(
        hub=("ucinlp/drop/data/validation-*.parquet",),
        files=(*usual("validation", "drop", "DROP"), *usual("dev", "drop", "DROP"), "**/drop_dataset_dev.json"),
        keys={
            ".parquet": {"map": {"instruction": "{passage}\n\n{question}", "response": "{answers_spans.spans.*}"}},
        },
    ),
    "gsm8k": EvalSet(
        hub=("openai/gsm8k/main/test-*.parquet",),
        files=(*usual("test", "gsm8k", "gsm8k/main"), "**/gsm8k.jsonl"),
    ),
    "hellaswag": EvalSet(
        hub=("Rowan/hellaswag/data/validation-*.parquet",),
        files=(*usual("validation", "hellaswag"), "**/hellaswag_val.jsonl"),
        keys={".parquet": {"ignore": ("ctx_a", "ctx_b")}},  # ctx has both
    ),
    "humaneval": EvalSet(
        hub=("openai/openai_humaneval/openai_humaneval/test-*.parquet",),
        files=(
            *usual("test", "humaneval", "openai_humaneval", "openai_humaneval/openai_humaneval"),
            "**/HumanEval*.jsonl*",
            "**/human_eval.jsonl*",
        ),
    ),
    "math": EvalSet(
        hub=("EleutherAI/hendrycks_math/*/test-*.parquet",),
        files=(
            *usual("test", "math", "MATH", "hendrycks_math"),
            "MATH/test/**/*.json",
            "hendrycks_math/*/test-*.parquet",
            "**/symbolic_problem_solving/math.jsonl",
        ),
    ),
    "mawps": EvalSet(
        hub=(), files=(*usual("test", "mawps", "MAWPS", "*/mawps"), *usual("testset", "mawps", "*/mawps"))
    ),
    "mbpp": EvalSet(
        hub=("google-research-datasets/mbpp/sanitized/test-*.parquet",),
        files=(*usual("test", "mbpp", "mbpp/sanitized"), "**/mbpp_sanitized*.jsonl", "**/sanitized-mbpp.json"),
    ),
    "mmlu": EvalSet(
        hub=("cais/mmlu/all/test-*.parquet",),
        files=(
            "mmlu/test/*_test.csv",
            "test/*_test.csv",
            "mmlu/all/test-*.parquet",
            "mmlu/*/test-*.parquet",
            *usual("test", "mmlu"),
        ),
    ),
    "mmlu_pro": EvalSet(hub=("TIGER-Lab/MMLU-Pro/data/test-*.parquet",), files=usual("test", "mmlu_pro", "MMLU-Pro")),
    "svamp": EvalSet(
        hub=("ChilleD/SVAMP/data/test-*.parquet",),
        files=(*usual("test", "svamp", "SVAMP", "*/svamp", "*/SVAMP"), "**/SVAMP.json", "**/svamp.jsonl"),
    ),
    "winogrande": EvalSet(
        hub=("allenai/winogrande/winogrande_debiased/validation-*.parquet",),
        files=(
            *usual("validation", *WINOGRANDE),
            *usual("dev", *WINOGRANDE),
            "**/winogrande.jsonl",
            "llm_adapters/winogrande/test.json",
        ),
        keys={"winogrande.jsonl": {"map": {"instruction": "{context_options.0} {continuation}"}}},
    ),
}
"""Name, as that of a task of `trainer.benchmark`, to the set."""


@dataclass(frozen=True, kw_only=True)
class DataFolder:
    """A folder of data files, on this machine or at an fsspec URL."""

    location: str

    @property
    def shown(self) -> str:
        """The location without credentials."""
        return redact_location(self.location)

    def find(self, pattern: str) -> list[str]:
        """Return the paths of the files that a glob matches, relative to the folder and sorted.

        Raises
        ------
        OSError
            A URL cannot be listed.
        """
        if is_url(self.location):
            matches = re.compile(_expression(pattern)).fullmatch
            return [name for name in self._names if matches(name) and format_of(name)]
        folder = local_path(self.location)
        found = (path for path in folder.glob(pattern) if path.is_file() and format_of(path.name))
        return sorted(path.relative_to(folder).as_posix() for path in found)

    def find_first(self, patterns: Sequence[str]) -> list[str]:
        """Return the files that the first pattern with any matches; see `find`."""
        return next((found for pattern in patterns if (found := self.find(pattern))), [])

    @cached_property
    def _store(self) -> Store:
        return Store(self.location, attempts=INTERACTIVE_ATTEMPTS)

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self._store.list())


def format_of(name: str) -> str | None:
    """Return the suffix of a format in `FORMATS`, without that of a compression; None: the name has none."""
    suffixes = PurePosixPath(name).suffixes
    if suffixes[-1:] in ([".gz"], [".zst"]):
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def kinds_of(patterns: Sequence[str]) -> str:
    """List patterns for a message, once for all formats of a file."""
    return ", ".join(dict.fromkeys(re.sub(r"(-\*)?\.[\w.*]+$", ".*", pattern) for pattern in patterns))


def _expression(pattern: str) -> str:
    """Regular expression of a glob with `*` and `**/`."""
    parts = re.split(r"(\*\*/|\*)", pattern)
    return "".join({"**/": "(?:[^/]+/)*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)


def source_keys(name: str, folder: str | None) -> dict[str, Any]:
    """Return the keys `path`, `map` and `ignore` of a source that reads an evaluation set.

    Parameters
    ----------
    name
        One of `EVAL_SETS`.
    folder
        Folder or fsspec URL in which its files are searched for, or one of its files; None: Hugging Face.

    Raises
    ------
    ValueError
        The set has no copy on Hugging Face, or the folder has no file of it.
    """
    found = EVAL_SETS[name]
    if folder is None:
        if not found.hub:
            raise ValueError(f"the set {name!r} has no copy on Hugging Face: name the folder of its files in path")
        return {"path": [f"hf://datasets/{path}" for path in found.hub], **found.keys_of(found.hub)}
    if format_of(folder):
        return {"path": [folder], **found.keys_of([folder])}
    data = DataFolder(location=folder.rstrip("/") or "/")
    files = data.find_first(found.files)
    if not files:
        raise ValueError(f"no file of the set {name!r} below {data.shown}; expected one of {kinds_of(found.files)}")
    return {"path": [f"{data.location}/{glob.escape(file)}" for file in files], **found.keys_of(files)}
