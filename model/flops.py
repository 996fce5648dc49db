"""Floating-point operations of a model, counted from its configuration, and which runs cost the same.

    config, K ─ count ─▶ forward and backward of applications, head, attention ─ equal_tokens ─▶ tokens for equal cost

A multiplication and the addition that follows are two operations. Projections cost 2 per parameter and token forward
and 4 backward, for each application they cover; so a token of HRM costs (8 + 2K)·P_core + 6·V·d, P_core being the
parameters that are not in embedding and head (HRM-Text, tables 1 and 2). Attention's own products depend on how long
the samples are and stand apart. Norms, rotary embedding, softmax and the embedding's look-up are left out.

`python -m model.flops --size L --k 5` prints the architectures at equal training cost.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.architectures import ARCHITECTURES, carries_gradient
from model.config import SIZES, ModelConfig, config_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Operations of training, forward and backward."""

    core: float
    """Projections of all stack applications."""
    head: float
    """Head, over the positions with a label."""
    attention: float
    """Products of queries with keys and of weights with values, over the pairs that see each other."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.core + self.head + self.attention


def training_flops(
    config: ModelConfig, *, k: int, tokens: float = 1, targets: float | None = None, pairs: float = 0
) -> Flops:
    """Operations of one forward and backward pass.

    Parameters
    ----------
    config
        The model.
    k
        Applications that carry gradients.
    tokens
        Positions that are computed; 1 gives the cost of a token.
    targets
        Positions with a label, which alone go through the head; None: all of them.
    pairs
        (query, key) pairs over which attention is computed, of one head of one block; a causal sample of T tokens has
        T·(T + 1)/2, a kernel that does not skip what is masked computes T².

    Returns
    -------
    Flops
        Attention's backward is counted as twice its forward: what a kernel computes again is its own affair.

    Raises
    ------
    ValueError
        k is not possible for the model.
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


def causal_pairs(length: int) -> int:
    """(query, key) pairs of a causal sample: T·(T + 1)/2."""
    return length * (length + 1) // 2


def same_cost_layers(config: ModelConfig, reference: ModelConfig, *, k: int, reference_k: int) -> ModelConfig:
    """The model with the number of layers that brings its cost per token closest to the reference's."""
    wanted = training_flops(reference, k=reference_k).core
    step = config.num_layers // config.layers_per_stack
    one = training_flops(replace(config, num_layers=step), k=k).core
    return replace(config, num_layers=step * max(1, round(wanted / one)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m model.flops",
        description="Print the architectures at equal training cost: at the size's layers, how many times HRM's tokens "
        "each may see; at HRM's tokens, how many layers it may have.",
        epilog="example:\n  python -m model.flops --size L --k 5 --length 4096",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", default="L", choices=list(SIZES), help="of the models (default L)")
    parser.add_argument("--k", type=int, default=5, help="applications of HRM that carry gradients (default 5)")
    parser.add_argument("--vocab-size", type=int, default=65_536, metavar="V", help="tokens (default 65,536)")
    parser.add_argument(
        "--length", type=int, default=0, metavar="T", help="count attention over causal samples of T tokens (default 0)"
    )
    options = parser.parse_args(arguments)
    if options.length < 0:
        parser.error("--length must be at least 0")
    try:
        hrm = config_for(options.size, options.vocab_size)
        print(_table(options.size, hrm, options.k, options.length))
    except ValueError as error:
        parser.error(str(error))
    return 0


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
        "tokens: how many times HRM's tokens cost as much at the size's layers",
        "layers: the size's layers that cost as much a token as HRM's, head and attention aside",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
