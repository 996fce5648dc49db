"""Claims about the fused head and loss."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import loss
from model.loss import label_nll


def made(n: int, vocabulary: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn((n, 12), generator=generator).to(dtype).requires_grad_()
    head = torch.randn((vocabulary, 12), generator=generator).requires_grad_()
    return states, head, torch.randint(0, vocabulary, (n,), generator=generator)


def exact(states: Tensor, head: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and both gradients in float64."""
    states, head = (tensor.detach().double().requires_grad_() for tensor in (states, head.to(states.dtype)))
    nll = F.cross_entropy(states @ head.T, labels, reduction="sum")
    nll.backward()
    assert states.grad is not None
    assert head.grad is not None
    return nll.detach(), states.grad, head.grad


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 30), st.integers(1, 400), st.floats(0.01, 10), st.integers(0, 99))
def test_loss_and_gradients_equal_float64_for_every_chunk_size(n, vocabulary, chunk, factor, seed):
    states, head, labels = made(n, vocabulary, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "CHUNK_LOGITS", chunk)
        nll = label_nll(states, head, labels)
    (nll * factor).backward()
    expected, d_states, d_head = exact(states, head, labels)
    torch.testing.assert_close(nll.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(states.grad.double(), d_states * factor, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(head.grad.double(), d_head * factor, rtol=1e-4, atol=1e-4)


def test_bf16_states_give_a_loss_in_fp32_and_gradients_as_exact_as_unchunked_ones(device, monkeypatch):
    monkeypatch.setattr(loss, "CHUNK_LOGITS", 500 * 64)
    states, head, labels = made(4000, 500, dtype=torch.bfloat16)
    there = [tensor.detach().to(device).requires_grad_() for tensor in (states, head)]
    nll = label_nll(*there, labels.to(device))
    assert nll.dtype == torch.float32
    nll.backward()
    expected, d_states, d_head = exact(states, head, labels)
    assert nll.item() == pytest.approx(expected.item(), rel=1e-3)
    assert there[1].grad.dtype == torch.float32
    for found, expected in ((there[0].grad, d_states), (there[1].grad, d_head)):
        assert (found.double().cpu() - expected).norm() < 5e-3 * expected.norm()


def test_factor_of_the_loss_is_not_rounded_to_the_dtype_of_the_states():
    gradients = []
    for targets in (1, 1537):  # 1/1537 in bfloat16 is 0.26 % too large
        states, head, labels = made(4000, 50, dtype=torch.bfloat16)
        (label_nll(states, head, labels) / targets).backward()
        gradients.append(states.grad.double() * targets)
    whole, divided = gradients
    assert ((divided * whole).sum() / (whole * whole).sum()).item() == pytest.approx(1, abs=1e-3)


def test_no_gradients_are_computed_without_grad_mode():
    states, head, labels = made(5, 7)
    with torch.no_grad():
        assert label_nll(states, head, labels).grad_fn is None


def test_no_tensor_has_more_elements_than_a_chunk_of_logits(monkeypatch):
    monkeypatch.setattr(loss, "CHUNK_LOGITS", 1000)
    states, head, labels = made(500, 100)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with Largest():
        label_nll(states, head, labels).backward()
    assert largest == max(states.numel(), head.numel())
