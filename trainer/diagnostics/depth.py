"""Effective depth: how much each application of a stack changes, and how soon its state says what the model will say.

Measured at the labelled positions of a batch, on what the applications write (HRM-Text, effective depth). Every stack
ends with a norm, so a state has ‖h‖ = √d; changes are given as ‖Δh‖ / √d: 0 for none, √2 for an orthogonal state, 2 for
the opposite one.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import IGNORE, PackedBatch
from model.hrm import HRM


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one state differs from another, as means over positions."""

    norm: float
    """‖Δh‖ / √d."""
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationDepth:
    """What one application does."""

    number: int
    """From 1, in the order they run."""
    stack: str
    """Name of the stack."""
    writes: str
    """State that it writes."""
    from_neighbour: Change | None
    """Against what the application before wrote; None for the first."""
    from_replaced: Change | None
    """Against the state that it replaces; None where no application has written that before."""
    lens_kl: float
    """KL(final ‖ this) in nats: the distribution of the next token if the head read this state, against the model's."""
    lens_agreement: float
    """Share of positions at which that has the same most likely token as the model."""


@torch.no_grad()
def effective_depth(model: HRM, batch: PackedBatch) -> list[ApplicationDepth]:
    """What each application of a model does, on the labelled positions of a batch.

    Parameters
    ----------
    model
        Any architecture.
    batch
        On the model's device, with at least one label.
    """
    states = _states(model, batch)
    final = F.log_softmax(model.lm_head(states[-1]).float(), -1)
    found = []
    written: dict[str, Tensor] = {}
    for number, (application, state) in enumerate(zip(model.config.schedule, states, strict=True), 1):
        lens = F.log_softmax(model.lm_head(state).float(), -1)
        replaced = written.get(application.writes)
        found.append(
            ApplicationDepth(
                number=number,
                stack=application.stack,
                writes=application.writes,
                from_neighbour=_change(states[number - 2], state) if number > 1 else None,
                from_replaced=None if replaced is None else _change(replaced, state),
                lens_kl=F.kl_div(lens, final, reduction="batchmean", log_target=True).item(),
                lens_agreement=(lens.argmax(-1) == final.argmax(-1)).float().mean().item(),
            )
        )
        written[application.writes] = state
    return found


def _states(model: HRM, batch: PackedBatch) -> list[Tensor]:
    """What each application writes at the labelled positions: [N, d] each."""
    labelled = batch.labels != IGNORE
    states: list[Tensor] = []

    def note(module: torch.nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
        states.append(output[labelled])

    hooks = [model.get_submodule(name).register_forward_hook(note) for name in model.config.stacks]
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
