"""The head and the loss in one: negative log-likelihood of labels, without all logits at once.

    states [N, d] ─ chunk by chunk: logits, softmax, and at once the gradients of states and head ─▶ sum

Logits of a chunk are in the states' dtype, everything after them in float32. The gradients are made on the way forward,
where the chunk's softmax is at hand, so the head is multiplied three times a step and not four.

torch.nn.functional.linear_cross_entropy (torch 2.15) does the same, but returns the loss and sums the head's gradient
in the dtype of the states; a sum in bfloat16 has eight bits. So it is not used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = 1 << 26
"""Logits that exist at once: 256 MiB in float32."""


def label_nll(states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of labels under softmax(states · headᵀ), summed.

    Parameters
    ----------
    states
        [N, d], in the dtype of the matrix products.
    head
        [V, d]; its gradient is summed in float32.
    labels
        int64 [N].

    Returns
    -------
    Tensor
        float32 scalar, in nats; 0 for N = 0. Can be differentiated once.
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
        # In float32: rounded to bfloat16, the factor would be off by up to 0.4 % for all that lies below the head.
        return (d_states.float() * gradient).to(d_states.dtype), d_head * gradient, None, None
