"""Fused head and loss: negative log-likelihood of labels without materializing all logits.

    states [N, d] ─ per chunk: logits, softmax, gradients of states and head ─▶ sum

The logits of a chunk are in the dtype of the states, everything after them is in float32. The gradients are computed
in the forward pass, which already has the softmax of the chunk; that saves one of four products with the head.

torch.nn.functional.linear_cross_entropy (torch 2.15) is not used: it returns the loss and accumulates the head's
gradient in the dtype of the states, which loses precision in bfloat16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = 1 << 26
"""Logits per chunk: 256 MiB in float32."""


def label_nll(states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Sum of the negative log-likelihoods of labels under softmax(states · headᵀ).

    Parameters
    ----------
    states
        [N, d], in the dtype of the matrix products.
    head
        [V, d]; its gradient is accumulated in float32.
    labels
        int64 [N].

    Returns
    -------
    Tensor
        float32 scalar in nats; 0 for N = 0. Only first derivatives are available.
    """
    needs_gradient = torch.is_grad_enabled() and (states.requires_grad or head.requires_grad)
    nll: Tensor = _LabelNLL.apply(states, head, labels, needs_gradient)
    return nll


class _LabelNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, states: Tensor, head: Tensor, labels: Tensor, needs_gradient: bool
    ) -> Tensor:
        weight = head.to(states.dtype)
        rows = max(1, CHUNK_LOGITS // len(head))
        nll = torch.zeros((), dtype=torch.float32, device=states.device)
        d_states = torch.empty_like(states) if needs_gradient else None
        d_head = torch.zeros_like(head, dtype=torch.float32) if needs_gradient else None
        for begin in range(0, len(states), rows):
            part, label = states[begin : begin + rows], labels[begin : begin + rows]
            logits = F.linear(part, weight).float()
            chances = logits.log_softmax(-1)
            nll -= chances.gather(1, label[:, None]).sum()
            if d_states is not None and d_head is not None:
                d_logits = chances.exp_()
                d_logits[torch.arange(len(label), device=label.device), label] -= 1
                d_logits = d_logits.to(states.dtype)
                d_states[begin : begin + rows] = d_logits @ weight
                d_head += d_logits.T @ part
        ctx.save_for_backward(*() if d_states is None or d_head is None else (d_states, d_head.to(head.dtype)))
        return nll

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_states, d_head = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        # In float32: rounding the factor to bfloat16 would change all gradients below the head by up to 0.4 %.
        return (d_states.float() * gradient).to(d_states.dtype), d_head * gradient, None, None
