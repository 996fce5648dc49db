"""What truncating backpropagation does to the gradient, for every K at the same weights and on the same batch.

The gradient is that of the mean loss over the labelled positions. Its statistics are over all elements g of the stacks'
parameters (HRM-Text, gradient stability); its direction and length are compared with those of full backpropagation
for each stack, the embedding and the head.
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
"""Quantile of |g| that stands for its tail."""

Parts = Mapping[str, Tensor | None]
"""Gradient by part of the model, flat float32; None for a part that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """A truncated gradient beside the full one."""

    cosine: float
    norm_ratio: float
    """Truncated by full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientStatistics:
    """The gradient that K applications carry."""

    k: int
    norm: float
    mean: float
    """Of |g|."""
    median: float
    """Of |g|."""
    log_spread: float
    """Std(log(|g| + ε)), in nats."""
    tail: float
    """The `TAIL` quantile of |g| by its median."""
    likeness: Mapping[str, Likeness | None]
    """By part of the model; None for a part that this gradient does not reach."""


def gradient_statistics(model: HRM, batch: PackedBatch) -> list[GradientStatistics]:
    """The gradient for every K that the architecture has, from the least to all of its applications.

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
        reached = parts.setdefault(name.partition(".")[0], [])
        if gradient is not None:
            reached.append(gradient.float().flatten())
    return {part: torch.cat(reached) if reached else None for part, reached in parts.items()}


def _statistics(k: int, parts: Parts, full: Parts) -> GradientStatistics:
    core = torch.cat([g for name, g in parts.items() if name.endswith("_module") and g is not None])
    size = core.abs()
    ranked = size.sort().values
    middle = ranked[len(ranked) // 2].item()
    tail = ranked[math.ceil(TAIL * len(ranked)) - 1].item()
    return GradientStatistics(
        k=k,
        norm=torch.linalg.vector_norm(core).item(),
        mean=size.mean().item(),
        median=middle,
        log_spread=(size + EPSILON).log().std().item(),
        tail=tail / middle if middle else math.inf,
        likeness={name: _likeness(gradient, full[name]) for name, gradient in parts.items()},
    )


def _likeness(truncated: Tensor | None, full: Tensor | None) -> Likeness | None:
    if truncated is None or full is None:
        return None
    length, reference = (torch.linalg.vector_norm(g).item() for g in (truncated, full))
    if not length or not reference:
        return None
    return Likeness(
        cosine=torch.dot(truncated, full).item() / (length * reference),
        norm_ratio=length / reference,
    )
