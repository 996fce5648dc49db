"""Kernels that a first build compiles ahead are those that its stages run."""

import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

from pipeline.engine.progress import Display
from pipeline.engine.step import complete
from pipeline.ingest.inputs import discover_inputs, hash_inputs, lock_text
from pipeline.kernels import kernels_of
from pipeline.manifest import load
from pipeline.stages import run_stages
from tests.in_process import InProcess
from tests.pipeline.conftest import write_mix

LATER = {"pipeline.shards.encode", "pipeline.shards.mds"}
"""Their kernels compile in half a second, and need a tokenizer."""


def compiled() -> set[tuple[str, str, str]]:
    """Module, name and signature of every kernel of this process."""
    names = [name for name in sys.modules if name.startswith(("corpus.", "pipeline.")) and name not in LATER]
    modules = [sys.modules[name] for name in names]
    kernels = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    return {(kernel.__module__, kernel.__name__, str(key)) for kernel in kernels for key in kernel.signatures}


@pytest.mark.slow  # builds a dataset
def test_stages_run_no_kernel_that_was_not_compiled_ahead(tmp_path: Path) -> None:
    manifest = write_mix(tmp_path / "mix", rows=30)
    mix = load(manifest)
    for step in kernels_of(mix, "first"):
        complete(step, tmp_path / "kernels", step.key)
    ahead = {kernel for kernel in compiled() if kernel[0] not in LATER}
    assert {module for module, _, _ in ahead} >= {
        "corpus.text_lines",
        "pipeline.dedup.near.compare",
        "pipeline.decontaminate.scan",
    }
    executor = InProcess(tmp_path / "work", Display())
    inputs = hash_inputs(discover_inputs(mix, manifest.parent), manifest.parent, executor)
    run_stages(mix, inputs, build_key="", lock=lock_text(mix, inputs), tokenizer=None, executor=executor)
    assert {kernel for kernel in compiled() if kernel[0] not in LATER} - ahead == set()


def test_no_kernel_is_compiled_ahead_for_a_stage_that_the_mix_leaves_out(tmp_path: Path) -> None:
    off = {"enabled": False}
    mix = load(write_mix(tmp_path / "mix", near_dedup=off, decontaminate=off))
    assert [step.stages for step in kernels_of(mix, "first")] == ["ingest"]
