"""`python -m tests.benchmarks.model`: training speed of a model on this device, and the time of a step by part.

    python -m tests.benchmarks.model --size L

For each attention kernel and each K, whole training steps (forward, backward, optimizer) are timed on synthetic rows of
packed samples. Operations are those of `model.flops`: projections of all positions, the head at labelled positions,
attention over visible pairs; further operations of a kernel are not counted.

Then the parts of one step: the attention kernel, the four projections of a block, and the head with the loss are timed
separately, forward and backward, and multiplied by their number per step; the optimizer is timed once. The rest is
norms, gates, rotary embedding, conversions and waiting. `--profile` lists the kernels of whole steps by group instead.
"""

import argparse
import functools
import platform
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from model.architectures import carries_gradient
from model.attention import KERNELS, Kernel, attend, mask_of
from model.batch import IGNORE, PackedBatch
from model.blocks import RECOMPUTE, Block, Recompute
from model.config import SIZES, ModelConfig, config_for
from model.execution import Execution, prepare
from model.flops import peak_flops, training_flops, visible_pairs
from model.hrm import HRM
from model.kernels import unavailable
from model.loss import label_nll
from tests.benchmarks.profiling import kernel_times, table_of
from trainer.optim import AdamAtan2

WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Settings shared by all measurements."""

    config: ModelConfig
    batch: PackedBatch
    device: torch.device
    dtype: torch.dtype
    """Dtype of matrix products."""
    steps: int
    compile: bool
    recompute: Recompute
    float8: bool

    @property
    def tokens(self) -> int:
        """Number of positions of the batch."""
        return self.batch.tokens.numel()

    def precision(self) -> AbstractContextManager[object]:
        """Autocast if products are in bf16."""
        low = self.dtype == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext()

    def flops(self, k: int) -> float:
        """Number of operations per step."""
        _, _, prefix, total = self.batch.segments.unbind(1)
        pairs = visible_pairs(prefix, total, self.config.mask)
        targets = int((self.batch.labels != IGNORE).sum())
        return training_flops(self.config, k=k, tokens=self.tokens, targets=targets, pairs=pairs).total


def batch_of(rows: int, length: int, sample_tokens: int, vocab_size: int) -> PackedBatch:
    """Rows filled with samples whose lengths are lognormal with about this mean; a third of each is its prefix."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(0, vocab_size, (rows, length)))
    labels, positions = torch.full_like(tokens, IGNORE), torch.zeros_like(tokens)
    segments = []
    for row in range(rows):
        begin = 0
        while begin < length:
            drawn = int(np.clip(rng.lognormal(np.log(sample_tokens) - 0.5, 1.0), 4, length))
            total = min(drawn, length - begin)
            prefix = -(-total // 3)
            segments.append((row, begin, prefix, total))
            positions[row, begin : begin + total] = torch.arange(total)
            answer = slice(begin + prefix - 1, begin + total - 1)
            labels[row, answer] = tokens[row, begin + prefix : begin + total]
            begin += total
    return PackedBatch(
        tokens=tokens, labels=labels, position_ids=positions, segments=torch.tensor(segments, dtype=torch.int32)
    )


@functools.cache
def updates_by_kernel(device: torch.device) -> bool:
    """Whether the optimizer's kernel runs on the device; says why it does not on a GPU."""
    if device.type != "cuda":
        return False
    from trainer.fused import refusal

    if reason := refusal(device):
        print(f"optimizer: updates by operations of torch ({reason})")
    return not reason


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call, after some calls to warm up."""
    seconds = []
    for _ in range(WARM_UP + repeats):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return median(seconds[WARM_UP:])


def training_step(setup: Setup, kernel: Kernel, k: int) -> Callable[[], None]:
    """A function that does one training step of a new model."""
    torch._dynamo.reset()  # compiled graphs of other kernels count towards the limit per function
    model = HRM(setup.config).to(setup.device)
    execution = Execution(attention=kernel, compile=setup.compile, recompute=setup.recompute, float8=setup.float8)
    prepare(model, execution)
    optimizer = AdamAtan2(model.parameters(), lr=1e-4, fused=updates_by_kernel(setup.device))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]

    def step() -> None:
        torch._foreach_zero_(gradients)
        with setup.precision():
            nll, count = model(setup.batch, k=k)
        (nll / count).backward()
        optimizer.step()

    return step


def whole_step(setup: Setup, kernel: Kernel, k: int) -> tuple[float, int]:
    """Seconds per training step, and the peak memory of the device in bytes (0 on a CPU)."""
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setup.device)
    seconds = timed(training_step(setup, kernel, k), setup.device, setup.steps)
    return seconds, torch.cuda.max_memory_allocated(setup.device) if setup.device.type == "cuda" else 0


def forward_and_backward(setup: Setup, work: Callable[..., Tensor], *inputs: Tensor) -> tuple[float, float]:
    """Seconds of the forward pass without a graph, and of the backward pass to inputs and weights."""
    leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in inputs]
    with torch.no_grad():
        upstream = torch.randn_like(work(*leaves))
        forward = timed(lambda: work(*leaves), setup.device, setup.steps)
    both = timed(lambda: work(*leaves).backward(upstream), setup.device, setup.steps)
    return forward, max(0.0, both - forward)


def parts_of_step(setup: Setup, kernel: Kernel, k: int) -> dict[str, float]:
    """Seconds per step of each part, measured separately."""
    config, batch = setup.config, setup.batch
    rows, length = batch.tokens.shape
    options = {"device": setup.device, "dtype": setup.dtype}
    applied, carrying = config.applications, sum(carries_gradient(config.schedule, k))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        qkv = torch.randn(3, rows, length, config.num_heads, config.head_dim, **options)
        narrow = torch.randn(setup.tokens, config.hidden_size, **options)
        heads = torch.randn(setup.tokens, config.num_heads * config.head_dim, **options)
        inner = torch.randn(setup.tokens, config.intermediate_size, **options)
    mask = mask_of(batch.segments, rows=rows, length=length, dtype=setup.dtype, kernel=kernel)
    block = Block(config).to(**options)
    block_parts = {
        "attention": [(lambda q, k, v: attend(q, k, v, mask), qkv.unbind(0))],
        "linears": [
            (block.attn.gqkv_proj, (narrow,)),
            (block.attn.o_proj, (heads,)),
            (block.mlp.gate_up_proj, (narrow,)),
            (block.mlp.down_proj, (inner,)),
        ],
    }
    found = {}
    for name, works in block_parts.items():
        found[name] = 0.0
        for work, inputs in works:
            forward, backward = forward_and_backward(setup, work, *inputs)
            # Recomputed operations are counted once.
            found[name] += config.layers_per_stack * (applied * forward + carrying * backward)
    labels = batch.labels[batch.labels != IGNORE]
    head = torch.randn(config.vocab_size, config.hidden_size, device=setup.device).requires_grad_()
    states = narrow[: len(labels)].detach().requires_grad_()
    found["head"] = timed(lambda: label_nll(states, head, labels).backward(), setup.device, setup.steps)
    model = HRM(config).to(setup.device)
    optimizer = AdamAtan2(model.parameters(), lr=1e-4, fused=updates_by_kernel(setup.device))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    found["optimizer"] = timed(optimizer.step, setup.device, setup.steps)
    return found


def peak_of(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """Peak operations per second of the device, and the source of that number."""
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        if known := peak_flops(name):
            return known, f"{known / 1e12:,.0f} TFLOP/s by the data sheet of {name}"
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    peak = 2 * size**3 / timed(lambda: a @ a, device, 5)
    return peak, f"{peak / 1e12:,.3g} TFLOP/s, measured with a product of two {size}² matrices"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.model",
        description="Measure training steps of a model: speed by attention kernel and K, memory, parts of a step.",
        epilog="example: python -m tests.benchmarks.model --size XL --compile --rows 6 --length 4096",
    )
    parser.add_argument("--size", default="tiny", choices=list(SIZES), help="size of the model (default: tiny)")
    parser.add_argument("--rows", type=int, help="rows per batch (default: 6 on a GPU, 8 on a CPU)")
    parser.add_argument("--length", type=int, help="tokens per row (default: 4,096 on a GPU, 128 on a CPU)")
    parser.add_argument("--sample-tokens", type=int, default=237, metavar="N", help="mean sample length (default: 237)")
    parser.add_argument("--vocab-size", type=int, default=65_536, metavar="V", help="vocabulary (default: 65,536)")
    parser.add_argument("--k", type=int, nargs="+", default=[2, 5], help="applications with gradients (default: 2 5)")
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=list(KERNELS), help="default: all")
    parser.add_argument("--steps", type=int, default=5, help="steps per measurement (default: 5)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: auto")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--compile", action="store_true", help="compile blocks with torch.compile")
    parser.add_argument("--recompute", default="none", choices=RECOMPUTE, help="in the backward pass (default: none)")
    parser.add_argument("--profile", action="store_true", help="list the kernels of the fastest step by group")
    parser.add_argument("--float8", action="store_true", help="linear layers in float8 (torchao)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    chosen = "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"
    if options.device == "cuda" and chosen == "cpu":
        parser.error("--device is cuda, but torch finds no CUDA device here")
    device = torch.device(chosen)
    gpu = chosen == "cuda"
    rows, length = options.rows or (6 if gpu else 8), options.length or (4096 if gpu else 128)
    precision = options.precision or ("bf16" if gpu else "fp32")
    setup = Setup(
        config=config_for(options.size, options.vocab_size),
        batch=batch_of(rows, length, min(options.sample_tokens, length), options.vocab_size).to(device),
        device=device,
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        steps=options.steps,
        compile=options.compile,
        recompute=options.recompute,
        float8=options.float8,
    )
    peak, source = peak_of(device, setup.dtype)
    console = Console(width=120, highlight=False)
    name = torch.cuda.get_device_name() if gpu else f"{options.threads} threads of {platform.machine()}"
    how = "".join(f", {word}" for word in ("compile", "float8") if getattr(options, word))
    how += f", recompute {options.recompute}" if options.recompute != "none" else ""
    console.print(
        f"size {options.size}, {setup.config.parameters:,} parameters; {rows} rows of {length:,} tokens, "
        f"{len(setup.batch.segments):,} samples; {precision}{how}\n"
        f"{name}, torch {torch.__version__}; peak: {source}"
    )
    fastest = show_steps(setup, console, options.kernels, options.k, peak)
    if fastest is not None and options.profile:
        kernel, seconds = fastest
        step = training_step(setup, kernel, max(options.k))
        for _ in range(WARM_UP):
            step()
        console.print(f"{kernel}, K = {max(options.k)}")
        console.print(table_of(kernel_times(step, device, options.steps), seconds * 1e3))
    elif fastest is not None:
        show_parts(setup, console, *fastest, k=max(options.k))
    if not gpu:
        console.print(
            f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
        )


def show_steps(
    setup: Setup, console: Console, kernels: Sequence[Kernel], depths: Sequence[int], peak: float
) -> tuple[Kernel, float] | None:
    """Measure and print whole steps; returns the fastest kernel at the greatest K, and its seconds."""
    table = Table(title="training step", title_justify="left")
    table.add_column("attention")
    for column in ("K", "ms", "tokens/s", "TFLOP/s", "of peak", "memory, GiB"):
        table.add_column(column, justify="right")
    seconds_of: dict[Kernel, float] = {}
    for kernel in kernels:
        if refused := unavailable(kernel, device=setup.device, dtype=setup.dtype):
            console.print(f"{kernel} {refused}")
            continue
        for k in sorted(depths):
            try:
                seconds, memory = whole_step(setup, kernel, k)
            except torch.OutOfMemoryError:
                table.add_row(kernel, str(k), "does not fit")
                continue
            if k == max(depths):
                seconds_of[kernel] = seconds
            speed = setup.flops(k) / seconds
            table.add_row(
                kernel,
                str(k),
                f"{seconds * 1e3:,.1f}",
                f"{setup.tokens / seconds:,.0f}",
                f"{speed / 1e12:,.3g}",
                f"{speed / peak:.1%}",
                f"{memory / 2**30:.1f}" if memory else "–",
            )
    console.print(table)
    return min(seconds_of.items(), key=lambda item: item[1]) if seconds_of else None


def show_parts(setup: Setup, console: Console, kernel: Kernel, whole: float, *, k: int) -> None:
    """Measure and print the parts of a step."""
    parts = parts_of_step(setup, kernel, k)
    parts["rest"] = whole - sum(parts.values())
    table = Table(title=f"time of a step, {kernel}, K = {k}; parts measured separately", title_justify="left")
    table.add_column("part")
    for column in ("ms", "share"):
        table.add_column(column, justify="right")
    for name, seconds in {**parts, "step": whole}.items():
        table.add_row(name, f"{seconds * 1e3:,.1f}", f"{seconds / whole:.1%}")
    console.print(table)


if __name__ == "__main__":
    main()
