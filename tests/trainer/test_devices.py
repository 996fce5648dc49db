"""Claims about what each kind of device is asked for, and about its failures in words."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import trainer.launch
from corpus.config import ConfigError
from tests.trainer.fixtures import write_manifest
from trainer.config import TrainConfig
from trainer.devices import Gpu, check_device, device_failure
from trainer.distributed.world import World, _device_of
from trainer.train import main

H100 = Gpu(name="NVIDIA H100 80GB HBM3", capability=(9, 0), is_nvidia=True)
L4 = Gpu(name="NVIDIA L4", capability=(8, 9), is_nvidia=True)
A100 = Gpu(name="NVIDIA A100-SXM4-80GB", capability=(8, 0), is_nvidia=True)
T4 = Gpu(name="Tesla T4", capability=(7, 5), is_nvidia=True)
MI250 = Gpu(name="AMD Instinct MI250X", capability=(9, 0), is_nvidia=False)
BATCH = {"tokens": 64, "row_tokens": 32}


def config(**options: Any) -> TrainConfig:
    return TrainConfig.model_construct(**{"precision": "fp32", "recompute": "none", "float8": False, **options})


@pytest.mark.parametrize(
    ("gpu", "options", "refused"),
    [
        (None, {"precision": "bf16", "recompute": "elementwise"}, None),
        (None, {"precision": "bf16", "float8": True}, "this device is a CPU: remove it"),
        (T4, {}, None),
        (T4, {"precision": "bf16"}, r"this device is Tesla T4 \(compute capability 7.5\): set precision=fp32"),
        (A100, {"precision": "bf16"}, None),
        (A100, {"precision": "bf16", "float8": True}, "8.9 or above; this device is NVIDIA A100"),
        (L4, {"precision": "bf16", "float8": True}, None),
        (H100, {"precision": "bf16", "float8": True, "recompute": "elementwise", "compile": True}, None),
        (H100, {"precision": "bf16", "recompute": "elementwise"}, "set compile=true"),
        (MI250, {"precision": "bf16"}, None),
        (MI250, {"precision": "bf16", "float8": True}, r"this device is AMD Instinct MI250X \(ROCm\)"),
    ],
)
def test_what_a_device_cannot_compute_is_refused_with_its_name(
    gpu: Gpu | None, options: dict[str, Any], refused: str | None
) -> None:
    asked = config(**{"compile": False, **options})
    if refused is None:
        check_device(asked, gpu)
    else:
        with pytest.raises(ConfigError, match=refused):
            check_device(asked, gpu)


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert _device_of(1, 2) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=r"torch finds 2 \(CUDA_VISIBLE_DEVICES is 0,1\): start with --nproc-per-nod"):
        _device_of(2, 2)


@pytest.mark.parametrize("device", ["mps", "xpu", "cuda:1", "tpu"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu or cuda"):
        World.join(device)


def test_a_build_of_torch_without_the_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_backend_available", lambda backend: False)
    with pytest.raises(ConfigError, match="has no gloo, which several ranks and fsdp2 need on cpu"):
        World.join("cpu", sharded=True)


def compiler_error() -> Exception:
    """An error of torch.compile, from its own compiler."""

    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("out of resource: shared memory")

    try:
        torch.compile(lambda x: x + 1, backend=broken)(torch.ones(1))
    except Exception as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
            "no memory is left on the device: set a smaller batch.micro_rows",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "no memory is left on the device"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "has no code for this"),
        (compiler_error(), "torch.compile failed: set compile=false"),
    ],
)
def test_failures_of_a_device_are_one_line_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, error: Exception, said: str
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(trainer.launch, "train", fail)
    assert main([str(write_manifest(tmp_path, tmp_path, epochs=1, batch=BATCH))]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_other_errors_are_not_taken_for_failures_of_the_device() -> None:
    assert device_failure(RuntimeError("shapes cannot be multiplied")) is None
