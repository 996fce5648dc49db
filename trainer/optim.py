"""Adam-atan2 with decoupled weight decay, and the running average of the weights.

For a parameter p with gradient g at update t (from 1), c₁ = 1 - β₁ᵗ, c₂ = 1 - β₂ᵗ:

    m ← β₁ m + (1 - β₁) g        p ← p · (1 - lr · weight_decay)
    v ← β₂ v + (1 - β₂) g²       p ← p - (lr / c₁) · atan2(m, √v / √c₂)
    ema ← d · ema + (1 - d) · p

The update is bounded by lr·π/2 whatever the scale of the gradients, so there is no ε. It is element by element, so a
parameter that is sharded over ranks is updated where its shards lie.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

StateDict = dict[str, dict[str, Tensor]]


def local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """This rank's shards of sharded tensors; other tensors as they are. Nothing is copied."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


class AdamAtan2:
    """Optimizer of a module's trained parameters.

    Parameters
    ----------
    model
        All of its parameters are trained; `ema` starts as a copy of them.
    betas
        β₁ and β₂.
    weight_decay
        Share of lr by which a parameter shrinks at each update.
    ema
        d above.
    """

    def __init__(self, model: nn.Module, *, betas: tuple[float, float], weight_decay: float, ema: float):
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters: list[Tensor] = [p.detach() for p in model.parameters()]
        self.betas = betas
        self.weight_decay = weight_decay
        self.ema_decay = ema
        self.updates = 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]
        self.ema = [p.clone() for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[Tensor], lr: float) -> None:
        """One update; `gradients` in the order of `model.parameters()`, of sharded ones this rank's shards."""
        beta1, beta2 = self.betas
        parameters, ms, vs, emas = local(self.parameters), local(self.m), local(self.v), local(self.ema)
        self.updates += 1
        c1, c2 = 1 - beta1**self.updates, 1 - beta2**self.updates
        torch._foreach_lerp_(ms, gradients, 1 - beta1)
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, gradients, gradients, 1 - beta2)
        update = torch._foreach_sqrt(vs)
        torch._foreach_mul_(update, 1 / math.sqrt(c2))
        for m, u in zip(ms, update, strict=True):
            torch.atan2(m, u, out=u)
        torch._foreach_mul_(parameters, 1 - lr * self.weight_decay)
        torch._foreach_add_(parameters, update, alpha=-lr / c1)
        torch._foreach_lerp_(emas, parameters, 1 - self.ema_decay)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights; afterwards its own again, bit for bit."""
        parameters = local(self.parameters)
        own = [p.clone() for p in parameters]
        torch._foreach_copy_(parameters, local(self.ema))
        try:
            yield
        finally:
            torch._foreach_copy_(parameters, own)

    def state_dict(self) -> StateDict:
        """Moments and averages by parameter name (the tensors themselves, not copies); `updates` is not in it."""
        return {key: dict(zip(self.names, getattr(self, key), strict=True)) for key in ("m", "v", "ema")}
