"""Memory of a rank by arithmetic: weights, optimizer state and activations, and how many rows fit into a pass.

    TrainConfig, ModelConfig, ranks ─ memory_of ─▶ MemoryPlan: bytes by group, the largest `micro_rows`

`model.memory` counts the activations. Not counted are CUDA's context, libraries, buffers of collectives and what the
allocator cannot use; `RESERVED` is set aside for them.
"""

from dataclasses import dataclass

from model.attention import Kernel
from model.config import ModelConfig
from model.memory import ActivationMemory, activation_memory
from trainer.config import TrainConfig
from trainer.optim import GROUP_NUMBERS

RESERVED = 0.06
"""Share of a device's memory that is left to what is not counted; an assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Memory of one rank."""

    state: dict[str, float]
    """Bytes by group that are allocated for the whole run, or the whole step."""
    update: float
    """Bytes of the temporary tensors of the optimizer, which exist when the activations are freed; on CUDA none."""
    activations: ActivationMemory
    row_tokens: int
    targets: float
    """Share of the positions that are labelled."""
    rows: int
    """Rows of a rank in a batch."""
    micro_rows: int
    """Rows of a forward and backward pass, as configured."""

    def peak(self, micro_rows: int | None = None) -> float:
        """Largest number of bytes at any moment of a step with this many rows in a pass; None: as configured."""
        tokens = (micro_rows or self.micro_rows) * self.row_tokens
        passes = self.activations.peak(tokens, round(tokens * self.targets))
        return sum(self.state.values()) + max(passes, self.update)

    def groups(self) -> dict[str, float]:
        """Bytes by group at the peak of a step, as configured."""
        tokens = self.micro_rows * self.row_tokens
        kept = self.activations.kept(tokens, round(tokens * self.targets))
        workspace = self.peak() - sum(self.state.values()) - kept
        return {**self.state, "activations": kept, "workspace": max(0.0, workspace)}

    def largest_micro_rows(self, device_bytes: float) -> int:
        """Largest number of rows of a pass that fits into a device of this many bytes; 0 if not even one does."""
        fitting = [rows for rows in range(1, self.rows + 1) if self.peak(rows) <= (1 - RESERVED) * device_bytes]
        return max(fitting, default=0)


def memory_of(config: TrainConfig, model: ModelConfig, *, ranks: int, targets: float, on_gpu: bool) -> MemoryPlan:
    """Compute the memory that a rank needs.

    Parameters
    ----------
    config, model
        The run and its model.
    ranks
        Number of ranks, which share the rows of a batch.
    targets
        Share of the positions that are labelled.
    on_gpu
        Whether `attention: auto` is taken for FlexAttention, which wins there, or dense attention, and the optimizer
        updates by its kernel.
    """
    number = 2 if config.precision == "bf16" else 4
    sharded = config.distribution == "fsdp2"
    share = model.parameters / (ranks if sharded else 1)
    moment = 2 if config.optimizer.moments == "bf16" else 4
    state = {
        "weights": 4 * share,
        "gradients": 4 * share,
        "moments": 2 * moment * share,
        "averaged weights": 4 * share,
    }
    if sharded:
        state["gathered weights"] = number * model.parameters
    kernel: Kernel = config.attention if config.attention != "auto" else "flex" if on_gpu else "dense"
    rows = max(1, config.batch.tokens // config.batch.row_tokens // ranks)
    largest = model.vocab_size * model.hidden_size / (ranks if sharded else 1)
    copies = 4 + (8 if config.optimizer.moments == "bf16" else 0)
    return MemoryPlan(
        state=state,
        update=0 if on_gpu else copies * min(share, max(largest, GROUP_NUMBERS)),
        activations=activation_memory(
            model,
            k=config.depths(model)[1],
            row_tokens=config.batch.row_tokens,
            number_bytes=number,
            recompute=config.recompute,
            compiled=config.compile,
            kernel=kernel,
            casts_weights=config.precision == "bf16" and not sharded,
        ),
        row_tokens=config.batch.row_tokens,
        targets=targets,
        rows=rows,
        micro_rows=min(rows, config.batch.micro_rows or rows),
    )


def describe(plan: MemoryPlan, *, ranks: int, k: int, device_bytes: float | None) -> list[str]:
    """Describe the memory of a rank in lines of text.

    Parameters
    ----------
    plan
        From `memory_of`.
    ranks, k
        For the text.
    device_bytes
        Memory of a device; None: unknown.
    """
    groups = ", ".join(f"{name} {_gigabytes(size)}" for name, size in plan.groups().items())
    tokens = plan.micro_rows * plan.row_tokens
    each = "each of " if ranks > 1 else ""
    lines = [
        f"{_gigabytes(plan.peak())} GB on {each}{ranks} rank{'s' if ranks > 1 else ''} by arithmetic, K = {k}, "
        f"{plan.micro_rows} of {plan.rows} rows ({tokens:,} tokens) in a pass",
        f"GB: {groups}",
    ]
    if device_bytes is not None:
        fits = plan.largest_micro_rows(device_bytes)
        device = f"a device of {_gigabytes(device_bytes)} GB, {RESERVED:.0%} of it set aside"
        if fits >= plan.rows:
            lines.append(f"all {plan.rows} rows of a rank in one pass fit into {device}")
        elif fits:
            lines.append(f"at most {fits} of {plan.rows} rows in a pass fit into {device}: batch.micro_rows={fits}")
        else:
            lines.append(f"not even one row in a pass fits into {device}: {_remedy(plan)}")
    return lines


def _remedy(plan: MemoryPlan) -> str:
    if plan.peak(1) - sum(plan.state.values()) < sum(plan.state.values()):
        return "set distribution=fsdp2 on more ranks, or optimizer.moments=bf16"
    return "set recompute=elementwise or blocks, or a smaller batch.row_tokens"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f}" if size >= 5e7 else f"{size / 1e9:.3f}"
