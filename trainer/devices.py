"""What the device of a run can compute, and failures of devices in words.

torch.device ─ gpu_of ─▶ Gpu | None ─ check_device ─▶ ConfigError, or the run may start
error of torch ─ device_failure ─▶ what is wrong and what to do
"""

from dataclasses import dataclass

import torch

from corpus.config import ConfigError
from trainer.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as torch describes it."""

    name: str
    capability: tuple[int, int]
    """Compute capability; of another meaning with ROCm."""
    is_nvidia: bool
    """False for AMD's, which torch calls CUDA devices too."""

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name} (compute capability {major}.{minor})" if self.is_nvidia else f"{self.name} (ROCm)"

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bf16; older ones emulate it, slower than fp32 and not in every kernel."""
        return not self.is_nvidia or self.capability >= (8, 0)

    @property
    def has_float8(self) -> bool:
        """Whether it multiplies float8 matrices."""
        return self.is_nvidia and self.capability >= (8, 9)


def gpu_of(device: torch.device) -> Gpu | None:
    """Describe a CUDA device; None for others."""
    if device.type != "cuda":
        return None
    return Gpu(
        name=torch.cuda.get_device_name(device),
        capability=torch.cuda.get_device_capability(device),
        is_nvidia=torch.version.hip is None,
    )


def has_bf16(device: torch.device) -> bool:
    """Whether the device is a GPU that computes in bf16."""
    gpu = gpu_of(device)
    return gpu is not None and gpu.has_bf16


def check_device(config: TrainConfig, gpu: Gpu | None) -> None:
    """Refuse a config that asks for what the device does not have.

    Raises
    ------
    ConfigError
        It has no float8 or no bf16, or the blocks must be compiled and are not.
    """
    if config.float8 and (gpu is None or not gpu.has_float8):
        raise ConfigError(
            "float8 needs an NVIDIA GPU of compute capability 8.9 or above; this device is "
            f"{'a CPU' if gpu is None else gpu}: remove it"
        )
    if gpu is None:
        return
    if config.precision == "bf16" and not gpu.has_bf16:
        raise ConfigError(
            f"precision is bf16, which needs a GPU of compute capability 8.0 or above; this device is {gpu}: "
            "set precision=fp32"
        )
    if config.recompute == "elementwise" and not config.compile:
        raise ConfigError("recompute: elementwise needs compiled blocks on a GPU: set compile=true")


def device_failure(error: BaseException) -> str | None:
    """Say in one line what failed on a device and what to do; None if the error means something else."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return (
            "no memory is left on the device: set a smaller batch.micro_rows, recompute=elementwise with compile=true, "
            "optimizer.moments=bf16, or distribution=fsdp2 on several ranks; --dry-run prints what fits; other "
            f"programs may use the same device ({first})"
        )
    if "no kernel image is available" in text:
        return (
            f"this build of torch ({torch.__version__}) has no code for this GPU: install one that has, or set "
            f"device=cpu ({first})"
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return f"torch.compile failed: set compile=false, and attention=dense if it fails still ({first})"
    return None
