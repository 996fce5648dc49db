"""Claims about the optimizer, against scalar arithmetic."""

import math

import pytest
import torch
from torch import nn

from trainer.optim import AdamAtan2

BETAS, DECAY, EMA = (0.9, 0.95), 0.1, 0.99


class Parameters(nn.Module):
    def __init__(self, values: list[float]):
        super().__init__()
        self.first = nn.Parameter(torch.tensor(values[:2], dtype=torch.float64))
        self.second = nn.Parameter(torch.tensor([values[2:]], dtype=torch.float64))


def test_updates_follow_the_published_formula() -> None:
    values = [0.5, -1.0, 2.0, 0.0, 1e-3]
    model = Parameters(values)
    optimizer = AdamAtan2(model, betas=BETAS, weight_decay=DECAY, ema=EMA)
    m, v, ema = [0.0] * 5, [0.0] * 5, list(values)
    generator = torch.Generator().manual_seed(0)
    for t in range(1, 31):
        lr = 0.01 / t
        g = (torch.randn(5, generator=generator, dtype=torch.float64) * 10.0 ** (t % 7 - 3)).tolist()
        g[4] = 0.0
        optimizer.step([torch.tensor(g[:2], dtype=torch.float64), torch.tensor([g[2:]], dtype=torch.float64)], lr)
        c1, c2 = 1 - BETAS[0] ** t, 1 - BETAS[1] ** t
        for i in range(5):
            m[i] = BETAS[0] * m[i] + (1 - BETAS[0]) * g[i]
            v[i] = BETAS[1] * v[i] + (1 - BETAS[1]) * g[i] ** 2
            values[i] *= 1 - lr * DECAY
            values[i] -= lr / c1 * math.atan2(m[i], math.sqrt(v[i]) / math.sqrt(c2))
            ema[i] = EMA * ema[i] + (1 - EMA) * values[i]
    assert [*model.first.tolist(), *model.second[0].tolist()] == pytest.approx(values, rel=1e-12)
    assert [*optimizer.ema[0].tolist(), *optimizer.ema[1][0].tolist()] == pytest.approx(ema, rel=1e-12)


def test_scale_of_the_gradients_does_not_matter() -> None:
    models = [Parameters([1.0, 2.0, 3.0, 4.0, 5.0]) for _ in range(2)]
    for model, scale in zip(models, (1.0, 2.0**-40), strict=True):
        optimizer = AdamAtan2(model, betas=BETAS, weight_decay=0.0, ema=EMA)
        for t in range(5):
            optimizer.step([torch.full_like(p, (t - 1.5) * scale) for p in model.parameters()], 0.1)
    assert torch.allclose(models[0].first, models[1].first, rtol=1e-12)


def test_averaged_weights_are_there_inside_the_block_and_gone_after_it() -> None:
    model = Parameters([1.0, 2.0, 3.0, 4.0, 5.0])
    optimizer = AdamAtan2(model, betas=BETAS, weight_decay=DECAY, ema=EMA)
    optimizer.step([torch.ones_like(p) for p in model.parameters()], 0.1)
    before = model.first.detach().clone()
    with optimizer.averaged_weights():
        assert torch.equal(model.first, optimizer.ema[0])
    assert torch.equal(model.first, before)
