"""`python -m tests.benchmarks.resources`: registers and shared memory of the attention kernels, without a GPU.

    a block ─ tests.benchmarks.fusion ─▶ Triton source ─ triton, ptxas ─▶ code for a GPU ─▶ tiles per multiprocessor

The kernels are those that Inductor generates for an H100, compiled for other GPUs too and not run. A kernel whose
registers do not suffice keeps some values in memory (`stack`), and one that needs more shared memory than the GPU has
cannot be launched.
"""

import argparse
import importlib.util
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
import triton
from rich.console import Console
from rich.table import Table
from torch._inductor.runtime.hints import DeviceProperties
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver

from model.attention import Kernel
from model.config import SIZES
from tests.benchmarks.fusion import GeneratedKernel, kernels_of_block

SHARED = {80: 163, 86: 99, 89: 99, 90: 227}
"""KiB of shared memory that a kernel may use, by compute capability times ten; a multiprocessor has 1 KiB more."""
REGISTERS = 65_536
"""Of a multiprocessor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one tile (thread block) of a compiled kernel uses."""

    warps: int
    """Warps of 32 threads."""
    registers: int
    """32-bit registers of a thread."""
    stack: int
    """Bytes of a thread that did not fit into registers."""
    shared: int
    """Bytes of shared memory."""

    def tiles(self, capability: int) -> int:
        """Number of tiles that fit on a multiprocessor by registers and shared memory."""
        by_registers = REGISTERS // (self.registers * 32 * self.warps)
        return min(by_registers, (SHARED[capability] + 1) * 1024 // (self.shared + 1024))


class _Driver:
    """Replaces Triton's driver of the GPU."""

    def __init__(self, target: GPUTarget):
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target


def compiled(kernel: GeneratedKernel, capability: int) -> Resources:
    """Compile a kernel for GPUs of a compute capability times ten."""
    decorator = re.search(r"@triton_heuristics\.\w+\((.*?)\n\)\n(?=@triton\.jit)", kernel.source, re.DOTALL)
    meta = re.search(r"triton_meta=(\{.*\}),\s*inductor_meta", kernel.source, re.DOTALL)
    assert decorator is not None
    assert meta is not None
    properties = eval(meta[1], {"DeviceProperties": DeviceProperties})  # code of Inductor's, not data
    chosen = {name: int(n) for name, n in re.findall(r"^(num_warps|num_stages)=(\d+)", decorator[1], re.MULTILINE)}
    target = GPUTarget("cuda", capability, 32)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(driver, "_active", _Driver(target)):
        module, code = Path(folder) / "kernel.py", Path(folder) / "kernel.cubin"
        module.write_text(kernel.source.replace(decorator[0], ""))
        spec = importlib.util.spec_from_file_location("kernel", module)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        source = ASTSource(getattr(loaded, kernel.name), properties["signature"], {}, properties["configs"][0])
        built = triton.compile(source, target=target, options=chosen)
        code.write_bytes(built.asm["cubin"])
        tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
        usage = subprocess.run([tool, "-res-usage", code], capture_output=True, text=True, check=True).stdout
    used = {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", usage)}
    return Resources(
        warps=chosen["num_warps"], registers=used["REG"], stack=used["STACK"], shared=built.metadata.shared
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.resources",
        description="Registers and shared memory of the attention kernels of a block; needs no GPU.",
    )
    parser.add_argument("--size", default="L", choices=list(SIZES), help="size of the model (default: L)")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a row (default: 4,096)")
    parser.add_argument("--capability", type=int, nargs="+", default=[80, 89, 90], choices=SHARED, help="times ten")
    options = parser.parse_args(arguments)
    table = Table(
        title=f"size {options.size}, rows of {options.length:,} tokens, bf16; torch {torch.__version__}, triton "
        f"{triton.__version__}; compiled, not run",
        title_justify="left",
    )
    for column in ("kernel", "pass"):
        table.add_column(column)
    for column in ("capability", "warps", "registers", "stack", "shared", "allowed", "tiles"):
        table.add_column(column, justify="right")
    kernels: tuple[Kernel, ...] = ("flex", "flex64")
    for name in kernels:
        both = kernels_of_block(options.size, name, "none", 1, options.length)
        for direction, launched in zip(("forward", "backward"), both, strict=True):
            attention = [kernel for kernel in launched if kernel.name.startswith("triton_tem")]
            for kernel in attention:
                for capability in options.capability:
                    used = compiled(kernel, capability)
                    table.add_row(
                        name,
                        direction,
                        f"{capability / 10}",
                        *(f"{number:,}" for number in (used.warps, used.registers, used.stack)),
                        f"{used.shared / 1024:.0f} KiB",
                        f"{SHARED[capability]} KiB",
                        f"{used.tiles(capability)}",
                    )
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
