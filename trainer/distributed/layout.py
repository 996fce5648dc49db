"""Distribution of weights, gradients and optimizer state over the ranks.

    zero_grad ─▶ forward and backward, once or per micro-batch ─▶ reduce_gradients ─▶ gradient_norm, scale ─▶ optimizer

`Replicated` (ddp): each rank has all weights. Gradients are one flat tensor that is summed over ranks at once after the
backward pass: the weights of a recurrent stack are used through most of the pass, so their gradients are complete only
at its end, and there is no computation left to overlap the sum with.

`Sharded` (fsdp2): each rank has a shard of each weight, gradient and moment. The weights of a block are gathered when
it is first applied and freed at the end of the step. Freeing them after each application, as is usual, would gather
them once per application in a recurrent model.

The loss of a rank is divided by the targets of the global batch, so gradients are summed, not averaged, and do not
depend on the number of ranks.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from model.blocks import Block
from model.hrm import HRM
from trainer.distributed.world import World
from trainer.optim import local


class WeightLayout(Protocol):
    """How the weights of a model, and the gradients in their `grad`, are distributed over the ranks."""

    def zero_grad(self) -> None:
        """Reset the gradients before the first backward pass of a step."""

    def reduce_gradients(self) -> None:
        """Sum the gradients over ranks after the last backward pass of a step."""

    def gradient_norm(self) -> float:
        """2-norm of all gradients together; the same on each rank."""

    def scale_gradients(self, factor: float) -> None:
        """Multiply the gradients by a factor."""

    def reshard(self) -> None:
        """Free gathered weights, after an evaluation and before the weights change."""


class Replicated:
    """Every rank has all weights.

    Parameters
    ----------
    model
        On the rank's device; the same on each rank.
    world
        The ranks.
    """

    def __init__(self, model: HRM, world: World):
        self._world = world
        self._flat = _flat_gradients(list(model.parameters()))

    def zero_grad(self) -> None:
        """See `WeightLayout.zero_grad`."""
        self._flat.zero_()

    def reduce_gradients(self) -> None:
        """See `WeightLayout.reduce_gradients`."""
        self._world.sum(self._flat)

    def gradient_norm(self) -> float:
        """See `WeightLayout.gradient_norm`."""
        return torch.linalg.vector_norm(self._flat).item()

    def scale_gradients(self, factor: float) -> None:
        """See `WeightLayout.scale_gradients`."""
        self._flat.mul_(factor)

    def reshard(self) -> None:
        """See `WeightLayout.reshard`; nothing is gathered."""


class Sharded:
    """Every rank has a shard of each weight; the model's parameters become DTensors.

    Parameters
    ----------
    model
        On the rank's device; the same on each rank.
    world
        The ranks, joined with `sharded=True`.
    dtype
        In which weights are gathered; None: their own. Gradients are summed in float32.
    """

    def __init__(self, model: HRM, world: World, *, dtype: torch.dtype | None):
        self._world = world
        mesh = init_device_mesh(world.device.type, (world.size,))
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for module in [*(block for block in model.modules() if isinstance(block, Block)), model]:
            fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
        register_fsdp_forward_method(model, "labelled_logits")
        self._modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for module in self._modules:
            module.set_reshard_after_backward(False, recurse=False)
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
        self._parameters = list(model.parameters())

    def zero_grad(self) -> None:
        """See `WeightLayout.zero_grad`."""
        for p in self._parameters:
            p.grad = None

    def reduce_gradients(self) -> None:
        """See `WeightLayout.reduce_gradients`; the backward pass has summed them."""
        self.reshard()
        for p in self._parameters:
            if p.grad is None:  # not used by an application that carries gradients
                p.grad = torch.zeros_like(p)

    def gradient_norm(self) -> float:
        """See `WeightLayout.gradient_norm`."""
        squares = torch.stack(torch._foreach_norm(self._gradients())).square().sum()
        self._world.sum(squares)
        return squares.sqrt().item()

    def scale_gradients(self, factor: float) -> None:
        """See `WeightLayout.scale_gradients`."""
        torch._foreach_mul_(self._gradients(), factor)

    def reshard(self) -> None:
        """See `WeightLayout.reshard`."""
        for module in self._modules:
            module.reshard()

    @torch.no_grad()
    def _gradients(self) -> list[Tensor]:
        """This rank's shards."""
        return local([p.grad for p in self._parameters if p.grad is not None])


def _flat_gradients(parameters: list[torch.nn.Parameter]) -> Tensor:
    """One tensor of which the gradients of all parameters are views."""
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    at = 0
    for p in parameters:
        p.grad = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    return flat
