"""How weights, gradients and optimizer state lie over the ranks, behind one pair of names.

    begin ─▶ forward and backward, once or in several parts ─▶ end ─▶ norm, scale, gradients ─▶ optimizer

`Replicated` (ddp): each rank has everything. The gradients are one flat tensor, which is summed over ranks in one go
when the backward pass is over: a weight of a recurrent stack takes part in most of the pass, so its gradient is whole
at the end only, and there is no computation left to hide the sum behind.

`Sharded` (fsdp2): each rank has a shard of each weight, gradient and moment. A block's weights are gathered when it is
first applied and given up at the end of the step. To give them up after each application, as is usual, would gather
them once for each of the applications of a recurrent model.

The loss of a rank is divided by the targets of the whole batch, so gradients are summed and never averaged: what they
are does not depend on how many ranks there are.
"""

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from model.blocks import Block
from model.hrm import HRM
from trainer.distributed.world import World
from trainer.optim import local


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
        self._parameters = list(model.parameters())
        self._flat = _flat_gradients(self._parameters)

    def begin(self) -> None:
        """Forget the gradients of the step before."""
        self._flat.zero_()

    def end(self) -> None:
        """Make the gradients those of the batch, after the last backward pass."""
        self._world.sum(self._flat)

    def norm(self) -> float:
        """2-norm of all gradients together; the same on each rank."""
        return torch.linalg.vector_norm(self._flat).item()

    def scale(self, factor: float) -> None:
        """Multiply the gradients."""
        self._flat.mul_(factor)

    @property
    def gradients(self) -> list[Tensor]:
        """In the order of the parameters."""
        return [p.grad for p in self._parameters if p.grad is not None]

    def weights_changed(self) -> None:
        """To be called when a pass is over and weights are about to be used with other values."""


class Sharded:
    """Every rank has a shard of each weight; the model's parameters become DTensors.

    Parameters
    ----------
    model
        On the rank's device; the same on each rank.
    world
        The ranks, joined with `sharded=True`.
    dtype
        What weights are gathered in; None: as they are. Gradients are summed in float32.
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

    def begin(self) -> None:
        """Forget the gradients of the step before."""
        for p in self._parameters:
            p.grad = None

    def end(self) -> None:
        """Make the gradients those of the batch, after the last backward pass."""
        self.weights_changed()
        for p in self._parameters:
            if p.grad is None:  # no application that carries gradients has used it
                p.grad = torch.zeros_like(p)

    def norm(self) -> float:
        """2-norm of all gradients together; the same on each rank."""
        squares = torch.stack(torch._foreach_norm(self.gradients)).square().sum()
        self._world.sum(squares)
        return squares.sqrt().item()

    def scale(self, factor: float) -> None:
        """Multiply the gradients."""
        torch._foreach_mul_(self.gradients, factor)

    @property
    @torch.no_grad()
    def gradients(self) -> list[Tensor]:
        """This rank's shards, in the order of the parameters."""
        return local([p.grad for p in self._parameters if p.grad is not None])

    def weights_changed(self) -> None:
        """To be called when a pass is over and weights are about to be used with other values."""
        for module in self._modules:
            module.reshard()


def _flat_gradients(parameters: list[torch.nn.Parameter]) -> Tensor:
    """One tensor that holds the gradients of all parameters, so that ranks sum them in one go."""
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    at = 0
    for p in parameters:
        p.grad = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    return flat
