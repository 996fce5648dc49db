"""Where the time of a training step goes: kernels by group, for `tests.benchmarks.model --profile`.

    steps under torch.profiler ─ kernel_times ─▶ milliseconds by kernel ─ group_of ─▶ milliseconds by group

On a GPU these are the kernels that ran there, on a CPU the operations without those they call.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

GROUPS: Mapping[str, re.Pattern[str]] = {
    "communication": re.compile(r"nccl|gloo|all_?reduce|all_?gather|reduce_?scatter", re.IGNORECASE),
    "fused elementwise": re.compile(r"^triton_(poi|red|per|for|mix|unk)_|cpp_fused"),
    "attention": re.compile(r"attention|attn|flash|fmha", re.IGNORECASE),
    "optimizer": re.compile(r"multi_tensor|foreach|atan2|lerp|optimizer", re.IGNORECASE),
    "matrix products": re.compile(
        r"gemm|gemv|nvjet|cutlass|cublas|xmma|(^|::|_)(add|b)?mm(_|$)|_scaled_mm|triton_tem|splitK", re.IGNORECASE
    ),
    "softmax and loss": re.compile(r"softmax|gather|index_put|nll", re.IGNORECASE),
    "copies and casts": re.compile(r"copy|memcpy|memset|convert|fill|zero_", re.IGNORECASE),
    "other elementwise": re.compile(
        r"elementwise|vectorized|reduce|::(mul|add|sub|div|silu|sigmoid|neg|sum|pow|rsqrt|sqrt|cat|exp|sin|cos|where|"
        r"linalg_vector_norm|mul_|add_|sub_|div_|\w+_backward)$",
        re.IGNORECASE,
    ),
}
"""Patterns of kernel names by group, in the order in which they are tried."""


def group_of(kernel: str) -> str:
    """The group of a kernel or operation by its name; `rest` if no pattern matches."""
    return next((group for group, pattern in GROUPS.items() if pattern.search(kernel)), "rest")


def kernel_times(step: Callable[[], object], device: torch.device, steps: int) -> dict[str, float]:
    """Run a step several times under the profiler; milliseconds per step by kernel."""
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize(device)
    found: dict[str, float] = defaultdict(float)
    for entry in profiled.key_averages():
        if gpu and entry.device_type == DeviceType.CUDA:
            found[entry.key] += entry.self_device_time_total / 1e3 / steps
        elif not gpu:
            found[entry.key] += entry.self_cpu_time_total / 1e3 / steps
    return {name: time for name, time in found.items() if time > 0}


def table_of(times: Mapping[str, float], wall: float) -> Table:
    """Table of groups with their largest kernels.

    Parameters
    ----------
    times
        From `kernel_times`.
    wall
        Milliseconds of a step without the profiler.
    """
    total = sum(times.values())
    by_group: dict[str, dict[str, float]] = defaultdict(dict)
    for name, time in times.items():
        by_group[group_of(name)][name] = time
    title = f"kernels of a step by group: {total:,.1f} ms, in {wall:,.1f} ms of a step that is not profiled"
    table = Table(title=title, title_justify="left")
    for column, justify in (("group", "left"), ("ms", "right"), ("share", "right"), ("largest, ms", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for group, kernels in sorted(by_group.items(), key=lambda item: -sum(item[1].values())):
        time = sum(kernels.values())
        largest = sorted(kernels.items(), key=lambda item: -item[1])[:3]
        names = ", ".join(f"{name[:40]} {milliseconds:,.1f}" for name, milliseconds in largest)
        table.add_row(group, f"{time:,.1f}", f"{time / total:.1%}", names)
    return table
