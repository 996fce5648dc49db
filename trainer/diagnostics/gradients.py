"""Effect of truncated backpropagation on the gradient, for every K at the same weights and on the same batch.

The gradient is that of the mean loss over the labelled positions. Statistics are over all elements g of the stacks'
gradient (HRM-Text, gradient stability); its direction and norm are compared with those of full backpropagation for each
stack, the embedding and the head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.architectures import possible_depths
from model.batch import PackedBatch
from model.hrm import HRM

EPSILON = 1e-12
"""ε of log(|g| + ε)."""
TAIL = 0.999
"""Quantile of |g| that measures its tail."""

Parts = Mapping[str, Tensor | None]
"""Part of the model to its gradient, flat float32; None for a part without a gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """Truncated gradient compared with the full one."""

    cosine: float
    norm_ratio: float
    """Norm of the truncated gradient divided by that of the full one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientStatistics:
    """Statistics of the gradient through the last K applications."""

    k: int
    norm: float
    mean: float
    """Of |g|."""
    median: float
    """Of |g|."""
    log_spread: float
    """Std(log(|g| + ε)), in nats."""
    tail: float
    """The `TAIL` quantile of |g| divided by its median."""
    similarity: Mapping[str, Similarity | None]
    """Part of the model to the comparison; None for a part that this gradient does not reach."""


def gradient_statistics(model: HRM, batch: PackedBatch) -> list[GradientStatistics]:
    """Compute gradient statistics for every K of the architecture, from the smallest to all applications.

    The model's own `.grad` is neither read nor changed.

    Parameters
    ----------
    model
        Any architecture.
    batch
        On the model's device, with at least one label.
    """
    full = _gradient(model, batch, model.config.applications)
    depths = possible_depths(model.config.schedule)
    return [_statistics(k, full if k == depths[-1] else _gradient(model, batch, k), full) for k in depths]


def _gradient(model: HRM, batch: PackedBatch, k: int) -> Parts:
    names, parameters = zip(*model.named_parameters(), strict=True)
    with torch.enable_grad():
        nll, count = model(batch, k=k)
        gradients = torch.autograd.grad(nll / count, parameters, allow_unused=True)
    parts: dict[str, list[Tensor]] = {}
    for name, gradient in zip(names, gradients, strict=True):
        flat = parts.setdefault(name.partition(".")[0], [])
        if gradient is not None:
            flat.append(gradient.float().flatten())
    return {part: torch.cat(flat) if flat else None for part, flat in parts.items()}


def _statistics(k: int, parts: Parts, full: Parts) -> GradientStatistics:
    core = torch.cat([g for name, g in parts.items() if name.endswith("_module") and g is not None])
    size = core.abs()
    ranked = size.sort().values
    median = ranked[len(ranked) // 2].item()
    tail = ranked[math.ceil(TAIL * len(ranked)) - 1].item()
    return GradientStatistics(
        k=k,
        norm=torch.linalg.vector_norm(core).item(),
        mean=size.mean().item(),
        median=median,
        log_spread=(size + EPSILON).log().std().item(),
        tail=tail / median if median else math.inf,
        similarity={name: _similarity(gradient, full[name]) for name, gradient in parts.items()},
    )


def _similarity(truncated: Tensor | None, full: Tensor | None) -> Similarity | None:
    if truncated is None or full is None:
        return None
    norm, full_norm = (torch.linalg.vector_norm(g).item() for g in (truncated, full))
    if not norm or not full_norm:
        return None
    return Similarity(
        cosine=torch.dot(truncated, full).item() / (norm * full_norm),
        norm_ratio=norm / full_norm,
    )
