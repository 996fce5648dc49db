"""Claims about the layers whose weights are cast once per pass."""

import pytest
import torch

from model.config import config_for
from model.hrm import HRM
from model.linear import Linear, cast_weights
from tests.model.packing import Sample, pack

BATCH = pack([[Sample((1, 2, 3, 4, 5), 2)]], 8)
BF16 = {"device_type": "cpu", "dtype": torch.bfloat16}


def layers(model: HRM) -> list[Linear]:
    return [layer for layer in model.modules() if isinstance(layer, Linear)]


def test_gradients_of_many_applications_are_summed_in_float32() -> None:
    layer = Linear(8, 8)
    cast_weights(layer, torch.bfloat16)
    x = torch.randn(4, 8, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    layer(x).sum().backward()
    once, layer.weight.grad = layer.weight.grad, None
    torch.stack([layer(x).sum() for _ in range(1000)]).sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, 1000 * once, rtol=1e-5, atol=0)


def test_each_pass_uses_the_weights_as_they_are_then() -> None:
    model, changed = (HRM(config_for("tiny", 16), seed=seed) for seed in (1, 2))
    with torch.autocast(**BF16):
        model(BATCH, k=2)
        with torch.no_grad():
            for p, q in zip(model.parameters(), changed.parameters(), strict=True):
                p.copy_(q)
        model.z_L_init.copy_(changed.z_L_init)
        assert model(BATCH, k=2)[0].item() == changed(BATCH, k=2)[0].item()
        model.eval(), changed.eval()
        with torch.no_grad():
            layers(model)[0].weight.zero_()
            layers(changed)[0].weight.zero_()
        assert model(BATCH, k=2)[0].item() == changed(BATCH, k=2)[0].item()


def test_no_copy_exists_where_weights_have_the_dtype_of_the_products() -> None:
    model = HRM(config_for("tiny", 16), seed=1)
    names = set(model.state_dict())
    with torch.autocast(**BF16):
        model(BATCH, k=2)
    assert all(layer.weight_cast is not None and layer.weight_cast.dtype == torch.bfloat16 for layer in layers(model))
    assert set(model.state_dict()) == names
    model(BATCH, k=2)
    assert all(layer.weight_cast is None for layer in layers(model))
    model.bfloat16()
    with torch.autocast(**BF16):
        model(BATCH, k=2)
    assert all(layer.weight_cast is None for layer in layers(model))


@pytest.mark.parametrize("k", [2, 5, 8])
def test_gradients_point_where_those_of_float32_do(k: int) -> None:
    exact, cast = (HRM(config_for("tiny", 16), seed=1) for _ in range(2))
    exact(BATCH, k=k)[0].backward()
    with torch.autocast(**BF16):
        cast(BATCH, k=k)[0].backward()
    for (name, p), q in zip(exact.named_parameters(), cast.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if (
            p.grad is None
        ):  # embeddings are used by the first applications only, which carry gradients with the largest K
            continue
        assert torch.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0) > 0.98, name
