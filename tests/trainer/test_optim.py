"""Claims about the optimizer, against scalar arithmetic."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainer.optim import AdamAtan2

BETAS, DECAY, EMA = (0.9, 0.95), 0.1, 0.99


class Parameters(nn.Module):
    def __init__(self, values: list[float]):
        super().__init__()
        self.first = nn.Parameter(torch.tensor(values[:2], dtype=torch.float64))
        self.second = nn.Parameter(torch.tensor([values[2:]], dtype=torch.float64))


def set_gradients(model: nn.Module, value: float) -> None:
    for p in model.parameters():
        p.grad = torch.full_like(p, value)


def test_updates_follow_the_published_formula() -> None:
    values = [0.5, -1.0, 2.0, 0.0, 1e-3]
    model = Parameters(values)
    optimizer = AdamAtan2(model.named_parameters(), lr=0.1, betas=BETAS, weight_decay=DECAY, ema=EMA)
    m, v, ema = [0.0] * 5, [0.0] * 5, list(values)
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 31):
        lr = 0.01 / t
        g = (torch.randn(5, generator=generator, dtype=torch.float64) * 10.0 ** (t % 7 - 3)).tolist()
        g[4] = 0.0
        model.first.grad = torch.tensor(g[:2], dtype=torch.float64)
        model.second.grad = torch.tensor([g[2:]], dtype=torch.float64)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        c1, c2 = 1 - BETAS[0] ** t, 1 - BETAS[1] ** t
        for i in range(5):
            m[i] = BETAS[0] * m[i] + (1 - BETAS[0]) * g[i]
            v[i] = BETAS[1] * v[i] + (1 - BETAS[1]) * g[i] ** 2
            values[i] *= 1 - lr * DECAY
            values[i] -= lr / c1 * math.atan2(m[i], math.sqrt(v[i]) / math.sqrt(c2))
            ema[i] = EMA * ema[i] + (1 - EMA) * values[i]
    assert [*model.first.tolist(), *model.second[0].tolist()] == pytest.approx(values, rel=1e-12)
    first, second = (optimizer.state[p]["ema"] for p in model.parameters())
    assert [*first.tolist(), *second[0].tolist()] == pytest.approx(ema, rel=1e-12)


def test_scale_of_the_gradients_does_not_matter() -> None:
    models = [Parameters([1.0, 2.0, 3.0, 4.0, 5.0]) for _ in range(2)]
    for model, scale in zip(models, (1.0, 2.0**-40), strict=True):
        optimizer = AdamAtan2(model.parameters(), lr=0.1, betas=BETAS, weight_decay=0.0, ema=EMA)
        for t in range(5):
            set_gradients(model, (t - 1.5) * scale)
            optimizer.step()
    assert torch.allclose(models[0].first, models[1].first, rtol=1e-12)


def test_averaged_weights_replace_the_last_ones_inside_the_block_only() -> None:
    model = Parameters([1.0, 2.0, 3.0, 4.0, 5.0])
    optimizer = AdamAtan2(model.named_parameters(), lr=0.1, betas=BETAS, weight_decay=DECAY, ema=EMA)
    set_gradients(model, 1.0)
    optimizer.step()
    before = model.first.detach().clone()
    with optimizer.averaged_weights():
        assert torch.equal(model.first, optimizer.state[model.first]["ema"])
    assert torch.equal(model.first, before)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        set_gradients(model, step - 2.5)
        optimizer.step()


def test_optimizer_loaded_from_its_state_dict_continues_bit_for_bit(tmp_path: Path) -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    whole, stopped, resumed = Parameters(values), Parameters(values), Parameters(values)
    reference = AdamAtan2(whole.parameters(), lr=0.1)
    trained(whole, reference, range(8))
    first = AdamAtan2(stopped.parameters(), lr=0.1)
    trained(stopped, first, range(5))
    torch.save({"model": stopped.state_dict(), "optimizer": first.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    second = AdamAtan2(resumed.parameters(), lr=9.0)
    resumed.load_state_dict(state["model"])
    second.load_state_dict(state["optimizer"])
    assert second.param_groups[0]["lr"] == 0.1
    trained(resumed, second, range(5, 8))
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
        assert all(torch.equal(reference.state[p][key], second.state[q][key]) for key in ("m", "v", "ema", "step"))


def test_groups_have_options_of_their_own_and_parameters_without_gradient_stay() -> None:
    model = Parameters([1.0, 2.0, 3.0, 4.0, 5.0])
    groups = [{"params": [model.first], "weight_decay": 0.0}, {"params": [model.second], "lr": 0.0}]
    optimizer = AdamAtan2(groups, lr=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    set_gradients(model, 1.0)
    model.first.grad = None
    optimizer.step()
    assert torch.equal(model.first, before[0])
    assert torch.equal(model.second, before[1])
    set_gradients(model, 1.0)
    optimizer.step()
    # The first update of a parameter with gradient 1 is lr / c₁ · atan2(c₁, 1), and c₁ = 0.1 is lr here.
    assert torch.allclose(model.first, before[0] - math.atan(0.1), rtol=1e-12)
    assert [int(optimizer.state[p]["step"]) for p in model.parameters()] == [1, 2]


def test_closure_is_evaluated_with_gradients_and_its_loss_is_returned() -> None:
    model = Parameters([1.0, 2.0, 3.0, 4.0, 5.0])
    optimizer = AdamAtan2(model.parameters(), lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in model.parameters())
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == 55.0


def test_updates_in_groups_are_those_of_all_parameters_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(numbers: int) -> list[torch.Tensor]:
        monkeypatch.setattr("trainer.optim.GROUP_NUMBERS", numbers)
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(width, 7) for width in (3, 7, 7, 7)))
        optimizer = AdamAtan2(model.parameters(), lr=0.1, betas=BETAS, weight_decay=DECAY, ema=EMA)
        for _ in range(3):
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            optimizer.step()
        return [optimizer.state[p][key] for p in model.parameters() for key in ("m", "v", "ema")]

    whole = trained(1 << 26)
    for numbers in (1, 30, 56):
        assert all(torch.equal(a, b) for a, b in zip(trained(numbers), whole, strict=True))


class NewStorages(TorchDispatchMode):
    """Counts the bytes of storages that operations have made and that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                storage = tensor.untyped_storage()
                self._made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        alive = sum(size for storage, size in self._made.values() if not storage.expired())
        self.largest = max(self.largest, alive)
        return result


@pytest.mark.parametrize(("moments", "copies"), [(None, 1), (torch.bfloat16, 3)])
def test_temporary_tensors_of_an_update_have_the_size_of_a_group_of_parameters(
    monkeypatch: pytest.MonkeyPatch, moments: torch.dtype | None, copies: int
) -> None:
    monkeypatch.setattr("trainer.optim.GROUP_NUMBERS", 2000)
    parameters = [nn.Parameter(torch.ones(1000)) for _ in range(20)]
    optimizer = AdamAtan2(parameters, lr=0.1, betas=BETAS, weight_decay=DECAY, ema=EMA, moments=moments)
    for p in parameters:
        p.grad = torch.ones_like(p)
    before = [p.data_ptr() for p in parameters] + [s[key].data_ptr() for s in optimizer.state.values() for key in "mv"]
    with NewStorages() as storages:
        optimizer.step()
    assert 4 * 2000 * copies <= storages.largest <= 4 * 2000 * copies + 100, "not of all 20,000 numbers"
    after = [p.data_ptr() for p in parameters] + [s[key].data_ptr() for s in optimizer.state.values() for key in "mv"]
    assert after == before


def test_moments_in_bfloat16_follow_those_in_float32() -> None:
    def trained(moments: torch.dtype | None) -> tuple[AdamAtan2, torch.Tensor]:
        torch.manual_seed(0)
        weight = nn.Parameter(torch.zeros(2000))
        optimizer = AdamAtan2([weight], lr=0.01, betas=BETAS, weight_decay=0.0, ema=EMA, moments=moments)
        for _ in range(100):
            weight.grad = 1.0 + torch.randn(2000)
            optimizer.step()
        return optimizer, weight.detach()

    (optimizer, low), (_, full) = trained(torch.bfloat16), trained(None)
    (state,) = optimizer.state.values()
    assert (state["m"].dtype, state["v"].dtype, state["ema"].dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert full.mean() < -0.4
    assert (low - full).norm() < 0.02 * full.norm()
