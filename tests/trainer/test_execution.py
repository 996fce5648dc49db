"""Claims about the keys of a training manifest for the execution of a model."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import finish, log_of, run, start_ranks, steps

pytestmark = pytest.mark.slow  # trains models


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in steps(folder)]


def test_recomputing_activations_trains_bit_for_bit_like_keeping_them(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=12)
    assert run(manifest, f"out={tmp_path / 'kept'}") == 0
    for recompute in ("elementwise", "blocks"):
        assert run(manifest, f"recompute={recompute}", f"out={tmp_path / recompute}") == 0
        assert losses(tmp_path / recompute) == losses(tmp_path / "kept")


def test_run_with_moments_in_bf16_resumes_bit_for_bit_and_changes_to_fp32_with_consent(
    data: Path, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=9, schedule={"warmup_steps": 0, "k_ramp": 0.0})
    assert run(manifest, "optimizer.moments=bf16", f"out={tmp_path / 'whole'}") == 0
    for steps_done in (4, 9):
        assert run(manifest, "optimizer.moments=bf16", f"steps={steps_done}") == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert run(manifest, "steps=12") == 2
    assert "optimizer.moments was bf16 and is fp32" in log_of(manifest).read_text()
    assert run(manifest, "steps=12", "--allow") == 0
    assert len(losses(tmp_path / "run")) == 12


@pytest.mark.slow  # compiles C++ kernels
def test_compiled_sharded_blocks_train_like_eager_replicated_ones(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=6)
    assert run(manifest, f"out={tmp_path / 'eager'}") == 0
    changes = ("compile=true", "distribution=fsdp2", "batch.micro_rows=1")
    assert finish(start_ranks(2, manifest, *changes), manifest) == [0, 0]
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "eager"), abs=1e-4)
    assert [line["k"] for line in steps(tmp_path / "run")][::5] == [2, 5]
    (compiled,) = (line for line in log_of(manifest).read_text().splitlines() if "compiled " in line)
    assert compiled.startswith("compiled 3 graphs in "), "all graphs are compiled before the first step, none for a K"
    assert all(line["tflops"] > 0 and "mfu" not in line for line in steps(tmp_path / "run")), "a CPU's peak is unknown"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["attention=flex"], "attention: flex has no backward pass without a CUDA device; set attention=auto"),
        (["attention=sparse"], "attention"),
        (["recompute=blocks", "model.architecture=transformer"], "recompute: blocks is for the L stack, which transfo"),
        (["recompute=true"], "recompute"),
        (["float8=true"], "float8 is for precision=bf16, and precision is fp32"),
    ],
)
def test_unsupported_execution_is_refused_before_training(
    data: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    manifest = write_manifest(tmp_path, data, epochs=1)
    assert run(manifest, *overrides) == 2
    assert message in log_of(manifest).read_text()


@pytest.mark.skipif(find_spec("torchao") is not None, reason="torchao is installed here")
def test_float8_without_torchao_names_the_package_to_install(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=1)
    assert run(manifest, "float8=true", "precision=bf16") == 2
    assert "float8 needs torchao, which is not installed: pip install torchao" in log_of(manifest).read_text()
