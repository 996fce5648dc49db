"""Adam-atan2 with decoupled weight decay and an exponential moving average of the weights.

For a parameter p with gradient g at update t (from 1), c₁ = 1 - β₁ᵗ, c₂ = 1 - β₂ᵗ:

    m ← β₁ m + (1 - β₁) g        p ← p · (1 - lr · weight_decay)
    v ← β₂ v + (1 - β₂) g²       p ← p - (lr / c₁) · atan2(m, √v / √c₂)
    ema ← d · ema + (1 - d) · p

An update is bounded by lr·π/2 whatever the scale of the gradients, so there is no ε. Updates are elementwise, so a
sharded parameter is updated on the ranks that hold its shards. On CUDA an update is one kernel per parameter
(`trainer.fused`); elsewhere parameters are updated by torch's operations, a group at a time, so that temporary tensors
have the size of a group and not of the model.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

GROUP_NUMBERS = 1 << 26
"""Largest number of numbers that are updated at once, unless a single parameter has more."""


def local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """This rank's shards of sharded tensors and unsharded tensors unchanged, without a copy."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


class _Options(NamedTuple):
    """Options of a group of parameters."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    ema: float


class AdamAtan2(Optimizer):
    """Adam-atan2, see the formulas above.

    The state of a parameter is `m`, `v`, `ema` and `step`. It is allocated with the optimizer, so that a checkpoint can
    be read into it and averaged weights exist before the first update; `ema` starts as a copy of the parameter.

    Parameters
    ----------
    params
        Parameters, (name, parameter) pairs, or groups of them, which may have their own values of the options below.
    lr
        Learning rate.
    betas
        β₁ and β₂.
    weight_decay
        Decay per update, as a multiple of lr.
    ema
        Decay d of the moving average.
    moments
        Dtype in which m and v are stored; None: that of the parameter, in which updates are computed in any case.
    fused
        Update by one Triton kernel per parameter: float32 parameters on CUDA devices only. State and formulas are the
        same, the rounding is not.
    """

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
        ema: float = 0.9999,
        moments: torch.dtype | None = None,
        fused: bool = False,
    ):
        self._moments = moments
        self._fused = fused
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "ema": ema})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see `torch.optim.Optimizer.add_param_group`."""
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            value = p.detach()
            self.state[p] = {
                "step": torch.tensor(0.0),
                "m": torch.zeros_like(value, dtype=self._moments),
                "v": torch.zeros_like(value, dtype=self._moments),
                "ema": value.clone(),
            }

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; returns what the closure, if any, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        update = self._update_by_kernel if self._fused else self._update_by_operations
        for group in self.param_groups:
            by_step: dict[int, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["step"] += 1
                    by_step[int(self.state[p]["step"])].append(p)
            for step, parameters in by_step.items():
                for part in _in_groups(parameters):
                    update(part, step, _Options(**{name: group[name] for name in _Options._fields}))
        return loss

    def _update_by_kernel(self, params: list[Tensor], step: int, options: _Options) -> None:
        """One update of parameters that have the same step count, by the kernel."""
        from trainer.fused import update

        for p in params:
            state = self.state[p]
            tensors = [tensor for tensor in (p, p.grad, state["m"], state["v"], state["ema"]) if tensor is not None]
            update(
                *local(tensors),
                step=step,
                lr=options.lr,
                betas=options.betas,
                weight_decay=options.weight_decay,
                ema_decay=options.ema,
            )

    def _update_by_operations(self, params: list[Tensor], step: int, options: _Options) -> None:
        """One update of parameters that have the same step count, by operations of torch."""
        (beta1, beta2), (c1, c2) = options.betas, (1 - beta**step for beta in options.betas)
        gradients = local([p.grad for p in params if p.grad is not None])
        stored_ms, stored_vs, emas = (local([self.state[p][key] for p in params]) for key in ("m", "v", "ema"))
        parameters = local(params)
        # Copies only if moments are stored in another dtype.
        ms, vs = ([m.to(p.dtype) for m, p in zip(stored, params, strict=True)] for stored in (stored_ms, stored_vs))
        torch._foreach_lerp_(ms, gradients, 1 - beta1)
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, gradients, gradients, 1 - beta2)
        update = torch._foreach_sqrt(vs)
        torch._foreach_mul_(update, 1 / math.sqrt(c2))
        for m, u in zip(ms, update, strict=True):
            torch.atan2(m, u, out=u)
        torch._foreach_mul_(parameters, 1 - options.lr * options.weight_decay)
        torch._foreach_add_(parameters, update, alpha=-options.lr / c1)
        torch._foreach_lerp_(emas, parameters, 1 - options.ema)
        for stored, computed in ((stored_ms, ms), (stored_vs, vs)):
            if any(a is not b for a, b in zip(stored, computed, strict=True)):
                torch._foreach_copy_(stored, computed)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Replace the parameters by their moving averages inside the block, and restore them bit for bit after it."""
        params = [p for group in self.param_groups for p in group["params"]]
        with torch.no_grad():
            parameters, averages = local(params), local([self.state[p]["ema"] for p in params])
            last = [p.clone() for p in parameters]
            torch._foreach_copy_(parameters, averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, last)

    def named_state(self) -> dict[str, dict[str, Tensor]]:
        """The tensors `m`, `v` and `ema` by name of the parameter, as checkpoints store them; not copies.

        The optimizer must have been made of (name, parameter) pairs.
        """
        named = [
            pair for group in self.param_groups for pair in zip(group["param_names"], group["params"], strict=True)
        ]
        return {key: {name: self.state[p][key] for name, p in named} for key in ("m", "v", "ema")}


def _in_groups(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Split parameters, in order, into groups of at most `GROUP_NUMBERS` numbers of this rank; at least one each."""
    group: list[Tensor] = []
    size = 0
    for p, shard in zip(parameters, local(parameters), strict=True):
        if group and size + shard.numel() > GROUP_NUMBERS:
            yield group
            group, size = [], 0
        group.append(p)
        size += shard.numel()
    if group:
        yield group
