"""Compilation of all kernels ahead of a first build: at the same time on several workers, and each kernel once.

    CompileKernels("near"), CompileKernels("decontaminate"), … ─▶ numba's cache ─▶ steps of the build

Otherwise the first step of each stage would compile its kernels while all other workers wait, or compile the same ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow as pa

from corpus.text_lines import TextLines
from pipeline import library
from pipeline.engine.step import NoResult, Step
from pipeline.manifest import Mix
from pipeline.text.folding import fold_pairs

_QUESTION = "Why does the moon look larger when it is near the horizon than when it is high up in the sky?"
_PAIRS = pl.DataFrame({"instruction": [_QUESTION, _QUESTION.lower()], "response": ["It only looks so."] * 2})


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileKernels(Step[NoResult]):
    """Run the kernels of some stages on two pairs, which compiles them."""

    stage: ClassVar[str] = "kernels"

    stages: str
    """A key of `_RUNS`."""
    build: str
    """A word that no other build has: what an earlier one compiled may not be in numba's cache any more."""

    @property
    def partition(self) -> str:
        return f"kernels of {self.stages}"

    def run(self, work: Path, out: Path) -> NoResult:
        _RUNS[self.stages]()
        return NoResult()


def kernels_of(mix: Mix, build: str) -> list[CompileKernels]:
    """Return the steps that compile the kernels which a mix needs; `build` is a word that no other build has."""
    stages = ["ingest"]
    if mix.decontaminate.enabled and any(source.role == "eval" for source in mix.sources):
        stages.insert(0, "decontaminate")
    if mix.near_dedup.enabled:
        stages.insert(0, "near")
    return [CompileKernels(stages=name, build=build) for name in stages]


def _ingest() -> None:
    TextLines(b'{"instruction": "x"}\n', 100).read(0, ["instruction"])
    fold_pairs(*(_PAIRS[name].to_arrow().cast(pa.large_string()) for name in ("instruction", "response")))
    library.apply_rules(library.clean(_PAIRS).kept)


_RUNS: Mapping[str, Callable[[], object]] = {
    "near": lambda: library.near_dedup(_PAIRS),
    "decontaminate": lambda: library.decontaminate(_PAIRS, evals=[_PAIRS]),
    "ingest": _ingest,
}
