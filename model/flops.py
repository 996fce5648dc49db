"""`python -m model.flops`: training cost of the architectures, and runs of equal cost.

    config, K ─ training_flops ─▶ operations of applications, head and attention ─ same_cost_layers ─▶ layers

A multiply-add counts as two operations. A projection costs 2 operations per parameter and token in the forward pass
and 4 in the backward pass, per application; a token of HRM costs (8 + 2K)·P_core + 6·V·d, where P_core is the number
of parameters outside of embedding and head (HRM-Text, tables 1 and 2). The products inside attention depend on the
lengths of the samples and are counted separately. Norms, rotary embedding, softmax and embedding look-up are ignored.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from model.architectures import ARCHITECTURES, carries_gradient
from model.command import run
from model.config import Mask, ModelConfig, Size, config_for

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

EXAMPLE = """example:
  python -m model.flops --size L --k 5 --length 4096"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Floating-point operations of forward and backward pass."""

    core: float
    """Projections of all stack applications."""
    head: float
    """Head, over the labelled positions."""
    attention: float
    """Products of queries with keys and of attention weights with values."""

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return self.core + self.head + self.attention


def training_flops(
    config: ModelConfig, *, k: int, tokens: float = 1, targets: float | None = None, pairs: float = 0
) -> Flops:
    """Count the operations of one forward and backward pass.

    Parameters
    ----------
    config
        The model.
    k
        Number of applications that carry gradients.
    tokens
        Number of positions; 1 gives the cost per token.
    targets
        Number of labelled positions, the only ones that go through the head; None: all positions.
    pairs
        Number of (query, key) pairs per head and block. A causal sample of T tokens has T·(T + 1)/2; a kernel that
        does not skip masked pairs computes T².

    Returns
    -------
    Flops
        The backward pass of attention counts as twice its forward pass, whatever a kernel recomputes.

    Raises
    ------
    ValueError
        The model does not allow this k.
    """
    carrying = sum(carries_gradient(config.schedule, k))
    passes = 2 * config.applications + 4 * carrying
    parameters = config.core_parameters / len(config.stacks)
    products = 2 * config.layers_per_stack * config.num_heads * config.head_dim
    return Flops(
        core=passes * parameters * tokens,
        head=6.0 * config.vocab_size * config.hidden_size * (tokens if targets is None else targets),
        attention=float(passes * products * pairs),
    )


def visible_pairs(prefix: "Tensor", total: "Tensor", mask: Mask) -> float:
    """Number of (query, key) pairs per head and block that a mask lets see each other.

    Parameters
    ----------
    prefix, total
        int [N]: tokens of the prefix, and of the whole sample.
    mask
        prefix_lm: a prefix of p tokens has p² pairs, and the response tokens after it see all up to themselves.
        causal: a sample of T tokens has T·(T + 1)/2.
    """
    prefix, total = prefix.double(), total.double()
    pairs = total * (total + 1) / 2
    if mask == "prefix_lm":
        pairs += prefix * (prefix - 1) / 2
    return float(pairs.sum())


PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12}
"""Dense bf16 operations per second by NVIDIA's data sheets, for device names that contain the words of the key."""


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 operations per second of a device by its data sheet; None if it is not one of `PEAKS`."""
    return next((peak for known, peak in PEAKS.items() if all(word in device_name for word in known.split())), None)


def causal_pairs(length: int) -> int:
    """Number of (query, key) pairs of a causal sample of T tokens: T·(T + 1)/2."""
    return length * (length + 1) // 2


def same_cost_layers(config: ModelConfig, reference: ModelConfig, *, k: int, reference_k: int) -> ModelConfig:
    """Set the number of layers so that the cost per token is as close as possible to that of a reference model."""
    target = training_flops(reference, k=reference_k).core
    step = config.num_layers // config.layers_per_stack
    one = training_flops(replace(config, num_layers=step), k=k).core
    return replace(config, num_layers=step * max(1, round(target / one)))


def _compare(
    size: Annotated[Size, typer.Option(help="Size of the models.")] = "L",
    k: Annotated[int, typer.Option(help="Number of HRM's applications that carry gradients.")] = 5,
    vocab_size: Annotated[int, typer.Option(metavar="V", help="Number of token ids.")] = 65_536,
    length: Annotated[
        int, typer.Option(metavar="T", min=0, help="Count attention over causal samples of T tokens.")
    ] = 0,
) -> None:
    """Compare the architectures at equal training cost.

    Prints how many times HRM's tokens each may see with the layers of its size, and how many layers it may have with
    HRM's tokens.
    """
    try:
        print(_table(size, config_for(size, vocab_size), k, length))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Run the command and return its exit code."""
    return run(_compare, arguments, program=program or "python -m model.flops", epilog=EXAMPLE)


def _table(size: str, hrm: ModelConfig, hrm_k: int, length: int) -> str:
    per_token = causal_pairs(length) / length if length else 0.0
    reference = training_flops(hrm, k=hrm_k, pairs=per_token).total
    lines = [
        f"size {size}: {hrm.num_layers} layers, width {hrm.hidden_size}, vocabulary {hrm.vocab_size:,}; "
        + (f"attention over causal samples of {length:,} tokens" if length else "attention not counted"),
        "",
        f"{'architecture':<13}{'stacks':>7}{'blocks':>7}{'runs':>6}{'K':>3}{'core params':>14}"
        f"{'MFLOPs/token:':>15}{'core':>10}{'head':>9}{'attention':>11}{'tokens':>9}{'layers':>8}",
    ]
    for name in ARCHITECTURES:
        config = replace(hrm, architecture=name)
        k = hrm_k if name in ("hrm", "trm_h2l3") else config.depths[1]
        flops = training_flops(config, k=k, pairs=per_token)
        deep = same_cost_layers(config, hrm, k=k, reference_k=hrm_k)
        lines.append(
            f"{name:<13}{len(config.stacks):>7}{config.layers_per_stack:>7}{config.applications:>6}{k:>3}"
            f"{config.core_parameters:>14,}{flops.total / 1e6:>15,.1f}{flops.core / 1e6:>10,.1f}"
            f"{flops.head / 1e6:>9,.1f}{flops.attention / 1e6:>11,.1f}"
            f"{reference / flops.total:>8.2f}×{deep.num_layers:>8}"
        )
    lines += [
        "",
        "tokens: multiple of HRM's tokens that costs as much as HRM, with the layers of the size",
        "layers: value of num_layers at which a token costs as much as in HRM, without head and attention",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
