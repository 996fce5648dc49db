"""Select the fastest attention kernel by measuring each on the device, on rows like those of the run.

available kernels ─ measure: forward and backward pass of one layer ─▶ a Timing each ─ fastest ─▶ kernel
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.attention import KERNELS, Kernel, attend, mask_of
from model.config import ModelConfig

_WARM_UP, _REPEATS = 3, 5
_DIFFERENCE = 0.02
"""Largest accepted distance of output or gradient from those of the dense kernel, relative to their norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Measured time of one kernel, or the reason why it cannot be used."""

    kernel: Kernel
    milliseconds: float | None
    """Median time of the forward and backward pass of one layer; None if the kernel cannot be used."""
    refused: str = ""
    """Why it cannot be used."""


def unavailable(kernel: Kernel, *, device: torch.device, dtype: torch.dtype) -> str:
    """Why a kernel cannot be used for training on a device with queries of a dtype; empty if no reason is known."""
    low = dtype in (torch.bfloat16, torch.float16)
    if kernel == "dense":
        return ""
    if device.type != "cuda":
        return (
            "needs a CUDA device" if kernel not in ("flex", "flex64") else "has no backward pass without a CUDA device"
        )
    if kernel in ("flex", "flex64"):
        return "" if importlib.util.find_spec("triton") else "needs triton"
    if not low:
        return f"supports bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if kernel == "flash" and not _has_flash():
        return "needs FlashAttention 4 (flash_attn.cute)"
    return ""


def measure(
    config: ModelConfig, *, rows: int, length: int, sample_tokens: int, device: torch.device, dtype: torch.dtype
) -> list[Timing]:
    """Time each kernel.

    Parameters
    ----------
    config
        Model whose number and size of heads are used.
    rows, length
        Shape of the batch of one rank.
    sample_tokens
        Length of the samples that fill the rows; half of each is its prefix.
    device, dtype
        Device and dtype of the queries.

    Returns
    -------
    list of Timing
        One for each of `KERNELS`, dense first. A kernel whose results differ from those of dense is refused.
    """
    per_row = max(1, length // sample_tokens)
    whole = min(sample_tokens, length)
    lines = [(row, number * whole, -(-whole // 2), whole) for row in range(rows) for number in range(per_row)]
    segments = torch.tensor(lines, dtype=torch.int32, device=device)
    shape = (3, rows, length, config.num_heads, config.head_dim)
    qkv = torch.randn(shape, device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(0))
    upstream = torch.randn(shape[1:], device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(1))
    timings: list[Timing] = []
    exact: list[Tensor] = []
    for kernel in KERNELS:
        refused = unavailable(kernel, device=device, dtype=dtype)
        milliseconds = None
        if not refused:
            try:
                step = _step(kernel, qkv, segments, upstream)
                found = step()
                exact = exact or found
                off = max(((a - b).norm() / b.norm()).item() for a, b in zip(found, exact, strict=True))
                if off <= _DIFFERENCE:
                    milliseconds = _time(step, device)
                else:
                    refused = f"differs from dense by {off:.1e} of its norm"
            except Exception as error:  # any failure is a reason not to use the kernel
                refused = f"{type(error).__name__}: {error}".splitlines()[0]
        timings.append(Timing(kernel=kernel, milliseconds=milliseconds, refused=refused))
    return timings


def fastest(timings: Sequence[Timing]) -> Kernel:
    """The kernel with the smallest time."""
    return min(timings, key=lambda timing: timing.milliseconds or float("inf")).kernel


def describe(timings: Sequence[Timing]) -> str:
    """Describe the timings in one line."""
    return ", ".join(
        f"{timing.kernel} {timing.refused if timing.milliseconds is None else f'{timing.milliseconds:.2f} ms'}"
        for timing in timings
    )


def _step(kernel: Kernel, qkv: Tensor, segments: Tensor, upstream: Tensor) -> Callable[[], list[Tensor]]:
    _, rows, length, _, _ = qkv.shape
    mask = mask_of(segments, rows=rows, length=length, dtype=qkv.dtype, kernel=kernel)
    leaf = qkv.detach().requires_grad_()

    def step() -> list[Tensor]:
        query, key, value = leaf.unbind(0)
        attended = attend(query, key, value, mask)
        (gradient,) = torch.autograd.grad(attended, leaf, upstream)
        return [attended.detach(), gradient]

    return step


def _time(step: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(_WARM_UP + _REPEATS):
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append((time.perf_counter() - began) * 1e3)
    return sorted(taken[_WARM_UP:])[_REPEATS // 2]


def _has_flash() -> bool:
    return (
        importlib.util.find_spec("flash_attn") is not None and importlib.util.find_spec("flash_attn.cute") is not None
    )
