"""Linear layers of the stacks, whose float32 weights are cast once per training pass.

A stack is applied many times in a pass. Autocast would cast its weights in each application of a compiled block, and
would sum their gradients over the applications in bfloat16 where it keeps the casts. Here:

    weight (float32) ─ cast_weights, once ─▶ copy (bfloat16) ─ all applications ─▶ gradients (bfloat16)
                                                          summed over the applications in float32 ─▶ weight.grad
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Linear(nn.Linear):
    """x Wᵀ. In training, W is replaced by the copy that `cast_weights` made, if there is one."""

    weight_cast: Tensor | None

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, bias=False)
        self.register_buffer("weight_cast", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training and self.weight_cast is not None:
            weight = _Cast.apply(weight, self.weight_cast)
        return F.linear(x, weight)


class _Cast(torch.autograd.Function):
    """The copy of a weight, with the weight's gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weight: Tensor, copy: Tensor) -> Tensor:
        return copy.view_as(copy)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].float(), None


@torch.no_grad()
def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Copy the weights of all `Linear` layers of a module in a dtype, before each pass of training.

    The copies replace those of the pass before, and are left out where the weights already have the dtype. So are those
    of sharded weights, which are cast when they are gathered.

    Parameters
    ----------
    module
        Model, stack or block.
    dtype
        Dtype of the matrix products.
    """
    for layer in module.modules():
        if isinstance(layer, Linear):
            weight = layer.weight
            is_cast = isinstance(weight, DTensor) or weight.dtype == dtype
            layer.weight_cast = None if is_cast else weight.to(dtype)
