"""`python -m tests.benchmarks.fusion`: kernels that torch.compile generates for a block, without a GPU.

    block on a CPU ─ graphs of forward and backward pass ─ as if on an H100 ─▶ Inductor's Triton kernels, bytes moved

The graphs are captured and partitioned as Inductor does it, the device of their tensors is replaced by a CUDA device
whose properties are stated here, and code is generated but not compiled. The kernels, what each of them fuses and the
bytes of the tensors it reads and writes are those of the installed torch on an H100; nothing is timed. It replaces
internals of torch and was written for torch 2.15.
"""

import argparse
import contextlib
import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, fx
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.device_interface import CudaInterface
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.scheduler import ExternKernelSchedulerNode, NopKernelSchedulerNode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from model.attention import Kernel, mask_of
from model.blocks import RECOMPUTE, Block, Recompute
from model.config import SIZES, config_for
from model.rope import Rope

DEVICE = torch.device("cuda", 0)
PROPERTIES = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    warp_size=32,
    shared_memory_per_block=49_152,
    shared_memory_per_block_optin=232_448,
    shared_memory_per_multiprocessor=233_472,
    L2_cache_size=50 << 20,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedKernel:
    """One launch of a kernel."""

    name: str
    bytes: float
    """Bytes of the tensors that it reads and writes, each counted once and whole, also if only a part is read."""
    source: str
    """Python module with the Triton kernel."""


class _CodeGeneratedError(Exception):
    """Ends Inductor's work once it has generated the code."""


class _Driver:
    """Replaces Triton's driver of the GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return DEVICE

    def get_device_interface(self) -> Any:
        return torch.cuda


@contextlib.contextmanager
def as_if_on_a_gpu(found: list[list[GeneratedKernel]]) -> Iterator[None]:
    """Let Inductor generate code for `DEVICE`; appends the kernels of each graph to a list."""

    def generate(graph: GraphLowering) -> None:
        code, _ = graph.codegen()
        text = getattr(code, "value", code)
        nodes = [
            node
            for node in graph.scheduler.nodes
            if not isinstance(node, (ExternKernelSchedulerNode, NopKernelSchedulerNode))
        ]
        names = re.findall(r"^\s+(triton_\w+)\.run\(", text, re.MULTILINE)
        sizes = [node.get_read_write_buffers_sizes() for node in nodes]
        sources = dict(
            re.findall(r"^(\w+) = async_compile\.triton\('\w+', '{3}\n(.*?)^'{3}", text, re.MULTILINE | re.DOTALL)
        )
        found.append(
            [
                GeneratedKernel(name=name, bytes=size, source=sources[name])
                for name, size in zip(names, sizes, strict=True)
            ]
        )
        raise _CodeGeneratedError

    def properties(*_: object) -> SimpleNamespace:
        return PROPERTIES

    with contextlib.ExitStack() as patches:
        for target, value in {
            "torch.cuda.get_device_properties": properties,
            "torch.cuda.get_device_capability": lambda *_: (9, 0),
            "torch.cuda.device_count": lambda: 1,
            "torch.cuda.current_device": lambda: 0,
            "torch.cuda._lazy_init": lambda: None,
            "torch._inductor.compile_fx._check_triton_bf16_support": lambda _: None,
            "torch._inductor.scheduler.has_triton": lambda *_: True,
            "torch.utils._triton.has_triton": lambda *_: True,
        }.items():
            patches.enter_context(mock.patch(target, value))
        patches.enter_context(mock.patch.object(driver, "_active", _Driver()))
        patches.enter_context(mock.patch("torch.cuda._get_device_properties", properties, create=True))
        patches.enter_context(mock.patch.object(GraphLowering, "compile_to_module", generate))
        patches.enter_context(mock.patch.object(CudaInterface.Worker, "get_device_properties", properties))
        patches.enter_context(mock.patch.object(CudaInterface, "get_compute_capability", return_value=90))
        yield


def partition(graph: fx.GraphModule, inputs: Sequence[Any], **options: Any) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Divide a joint graph into forward and backward graph as Inductor does."""
    joint_graph_passes(graph)
    return min_cut_rematerialization_partition(graph, inputs, compiler="inductor", **options)


def kernels_of_block(
    size: str, kernel: Kernel, recompute: Recompute, rows: int, length: int
) -> list[list[GeneratedKernel]]:
    """Kernels of the forward and of the backward pass of a block in bf16, each in the order of their launch."""
    config = config_for(size, 1024)
    found: list[list[GeneratedKernel]] = []

    def compiler(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        moved, arguments = _moved(graph, inputs)
        with as_if_on_a_gpu(found):
            try:
                compile_fx_inner(moved, arguments, is_backward=len(found) == 1, cudagraphs=False)
            except Exception as error:
                if not isinstance(error, _CodeGeneratedError) and "_CodeGeneratedError" not in f"{error!r}":
                    raise
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=compiler, partition_fn=partition, decompositions=select_decomp_table())
    torch._dynamo.reset()
    with (
        mock.patch("torch.nn.attention.flex_attention._validate_device", _unchecked),
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.autocast("cpu", torch.bfloat16),
    ):
        block = Block(config)
        block.recompute = recompute
        block.compile_training(backend=backend)
        state = torch.empty(rows, length, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
        rope = Rope.at(torch.empty(rows, length, dtype=torch.long), config.head_dim, config.rope_theta)
        segments = torch.empty(rows * 16, 4, dtype=torch.int32)
        mask = mask_of(segments, rows=rows, length=length, dtype=torch.bfloat16, kernel=kernel)
        block(state, rope, mask).backward(torch.empty_like(state))
    return found


def _unchecked(*_: Tensor) -> None:
    """Replaces FlexAttention's refusal to differentiate on a CPU."""


def _moved(graph: fx.GraphModule, inputs: Sequence[Any]) -> tuple[fx.GraphModule, list[Any]]:
    """Copy of a graph whose tensors are on `DEVICE`, and of its inputs."""
    graph = copy.deepcopy(graph)
    mode = next(value.fake_mode for value in inputs if hasattr(value, "fake_mode"))

    def moved(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=DEVICE)

    with mode:
        arguments = [moved(value) for value in inputs]
        for part in graph.modules():
            if isinstance(part, fx.GraphModule):
                for node in part.graph.nodes:
                    if node.kwargs.get("device") is not None:
                        node.kwargs = {**node.kwargs, "device": DEVICE}
                    if part is not graph and "val" in node.meta:
                        node.meta["val"] = moved(node.meta["val"])
                part.recompile()
        FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*arguments)
    return graph, arguments


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.fusion",
        description="List the kernels that torch.compile generates for a block on an H100; needs no GPU.",
    )
    parser.add_argument("--size", default="L", choices=list(SIZES), help="size of the model (default: L)")
    parser.add_argument("--recompute", default="none", choices=RECOMPUTE[:2], help="in the backward pass")
    parser.add_argument("--rows", type=int, default=4, help="rows of the batch (default: 4)")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a row (default: 4,096)")
    options = parser.parse_args(arguments)
    tokens = options.rows * options.length
    both = kernels_of_block(options.size, "flex", options.recompute, options.rows, options.length)
    table = Table(
        title=f"size {options.size}, {options.rows} rows of {options.length:,} tokens, bf16, flex, recompute "
        f"{options.recompute}; torch {torch.__version__}",
        title_justify="left",
    )
    table.add_column("pass")
    table.add_column("kernel")
    table.add_column("bytes/token", justify="right")
    for name, kernels in zip(("forward", "backward"), both, strict=True):
        for kernel in kernels:
            short = re.sub(r"^triton_|fused_+|_\d+$", "", kernel.name)[:84]
            table.add_row(name, short, f"{kernel.bytes / tokens:,.0f}")
        of_tokens = [kernel for kernel in kernels if "_tem_" not in kernel.name and not _is_cast(kernel.name)]
        total = sum(kernel.bytes for kernel in of_tokens) / tokens
        table.add_row(name, f"{len(of_tokens)} besides attention and casts of weights", f"{total:,.0f}", style="bold")
    Console(width=120, highlight=False).print(table)


def _is_cast(name: str) -> bool:
    """Whether a kernel only converts a weight to bf16 or a gradient of one to float32."""
    return re.fullmatch(r"triton_poi_fused__to_copy(_t)?_\d+", name) is not None


if __name__ == "__main__":
    main()
