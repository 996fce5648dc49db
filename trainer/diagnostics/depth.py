"""Effective depth: how much each application of a stack changes its state, and how early states predict the output.

Measured at the labelled positions of a batch, on the states that the applications write (HRM-Text, effective depth).
Every stack ends with a norm on the residual stream, so a state has ‖h‖ = √d; changes are given as ‖Δh‖ / √d: 0 for no
change, √2 for an orthogonal state, 2 for the opposite state.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import IGNORE, PackedBatch
from model.hrm import HRM


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Difference between two states, as means over positions."""

    norm: float
    """‖Δh‖ / √d."""
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationDepth:
    """Effect of one application."""

    number: int
    """From 1, in execution order."""
    stack: str
    """Name of the stack."""
    writes: str
    """Name of the state that it writes."""
    from_previous: Change | None
    """Difference from the state written by the previous application; None for the first."""
    from_replaced: Change | None
    """Difference from the state that it overwrites; None where no application has written that one before."""
    lens_kl: float
    """KL(final ‖ this) in nats, between the model's next-token distribution and the head's applied to this state."""
    lens_agreement: float
    """Share of positions at which both distributions have the same most likely token."""


@torch.no_grad()
def effective_depth(model: HRM, batch: PackedBatch) -> list[ApplicationDepth]:
    """Measure the effect of each application at the labelled positions of a batch.

    Parameters
    ----------
    model
        Any architecture.
    batch
        On the model's device, with at least one label.
    """
    states = _states(model, batch)
    final = F.log_softmax(model.lm_head(states[-1]).float(), -1)
    measured = []
    written: dict[str, Tensor] = {}
    for number, (application, state) in enumerate(zip(model.config.schedule, states, strict=True), 1):
        lens = F.log_softmax(model.lm_head(state).float(), -1)
        replaced = written.get(application.writes)
        measured.append(
            ApplicationDepth(
                number=number,
                stack=application.stack,
                writes=application.writes,
                from_previous=_change(states[number - 2], state) if number > 1 else None,
                from_replaced=None if replaced is None else _change(replaced, state),
                lens_kl=F.kl_div(lens, final, reduction="batchmean", log_target=True).item(),
                lens_agreement=(lens.argmax(-1) == final.argmax(-1)).float().mean().item(),
            )
        )
        written[application.writes] = state
    return measured


def _states(model: HRM, batch: PackedBatch) -> list[Tensor]:
    """Return the state that each application writes at the labelled positions: [N, d] each."""
    labelled = batch.labels != IGNORE
    states: list[Tensor] = []

    def record(module: torch.nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        states.append(output[labelled])

    hooks = [model.get_submodule(name).register_forward_hook(record) for name in model.config.stacks]
    try:
        model.labelled_logits(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return states


def _change(before: Tensor, after: Tensor) -> Change:
    before, after = before.float(), after.float()
    norm = torch.linalg.vector_norm(after - before, dim=-1) / before.shape[-1] ** 0.5
    return Change(norm=norm.mean().item(), cosine=F.cosine_similarity(before, after, dim=-1).mean().item())
