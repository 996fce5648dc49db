"""Claims about the optimizer's kernel, under Triton's interpreter on a CPU and on a GPU where there is one."""

import importlib.util
import math
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from trainer.distributed.world import World
from trainer.optim import AdamAtan2

pytest.importorskip("triton")

OPTIONS: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "ema": 0.999}
KEYS = ("m", "v", "ema")


def _rounded_to_bfloat16(interpreter: Any, original: Any) -> Any:
    """Conversion from float32 to bfloat16 as GPUs round it; Triton's interpreter cuts the digits off."""
    import triton.language as tl

    def convert(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar != tl.float32 or target.scalar != tl.bfloat16:
            return original(self, source, target)
        nearest = torch.from_numpy(source.data.copy()).bfloat16().view(torch.int16).numpy().view("uint16")
        return interpreter.TensorHandle(nearest, tl.bfloat16)

    return convert


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernel(request: pytest.FixtureRequest) -> Iterator[tuple[ModuleType, torch.device]]:
    """The module of the kernel, interpreted on a CPU, and the device to use it on."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "cpu":
            from triton.runtime import interpreter

            patch.setenv("TRITON_INTERPRET", "1")
            builder = interpreter.InterpreterBuilder
            patch.setattr(builder, "cast_impl", _rounded_to_bfloat16(interpreter, builder.cast_impl))
            spec = importlib.util.find_spec("trainer.fused")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            patch.setitem(sys.modules, "trainer.fused", module)
        else:
            module = importlib.import_module("trainer.fused")
        yield module, torch.device(request.param)


def parameters_on(device: torch.device, dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    """Of more and less than a block, one of them empty, as a rank's shard of a small parameter can be."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1,), (0, 8), (3, 700), (32, 64)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator).to(device, dtype)) for s in shapes]


def train(parameters: list[torch.nn.Parameter], optimizer: AdamAtan2, steps: range) -> None:
    """Steps with gradients of very different sizes, some of them 0."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in parameters:
            g = torch.randn(p.shape, generator=generator) * 10.0 ** torch.randint(-15, 15, p.shape, generator=generator)
            p.grad = (g * (torch.rand(p.shape, generator=generator) < 0.9)).to(p)
        optimizer.param_groups[0]["lr"] = OPTIONS["lr"] / (step + 1)
        optimizer.step()


def values(parameters: list[torch.nn.Parameter], optimizer: AdamAtan2) -> list[torch.Tensor]:
    return [
        tensor.detach().double().flatten()
        for p in parameters
        for tensor in (p, *(optimizer.state[p][key] for key in KEYS))
    ]


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.0, 0.0)])
def test_an_update_is_exact_to_a_few_units_of_the_last_place(
    kernel: tuple[ModuleType, torch.device], betas: tuple[float, float]
) -> None:
    random = torch.Generator().manual_seed(0)
    found = []
    start = parameters_on(torch.device("cpu"))
    drawn = {
        key: [
            torch.randn(p.shape, generator=random) * 10.0 ** (5 * torch.randn(p.shape, generator=random)) for p in start
        ]
        for key in ("grad", *KEYS)
    }
    for dtype, fused in ((torch.float64, False), (torch.float32, True)):
        parameters = parameters_on(kernel[1], dtype)
        optimizer = AdamAtan2(parameters, **OPTIONS, betas=betas, fused=fused)
        for i, p in enumerate(parameters):
            p.grad = drawn["grad"][i].to(p)
            optimizer.state[p]["step"].fill_(2.0)
            for key in KEYS:
                optimizer.state[p][key].copy_(drawn[key][i].abs() if key == "v" else drawn[key][i])
        optimizer.step()
        found.append(values(parameters, optimizer))
    scales = [
        scale.flatten().to(kernel[1], torch.float64)
        for p, g, m, v, ema in zip(start, *drawn.values(), strict=True)
        for scale in (p.detach().abs() + OPTIONS["lr"], m.abs() + g.abs(), v.abs() + g.square(), ema.abs() + p.abs())
    ]
    for exact, fused_values, scale in zip(*found, scales, strict=True):
        assert ((fused_values - exact).abs() <= 5 * 2.0**-24 * scale).all()


def test_moments_in_bfloat16_are_rounded_as_by_the_operations_of_torch(
    kernel: tuple[ModuleType, torch.device],
) -> None:
    found = []
    for fused in (False, True):
        parameters = parameters_on(kernel[1])
        optimizer = AdamAtan2(parameters, **OPTIONS, moments=torch.bfloat16, fused=fused)
        train(parameters, optimizer, range(1))
        found.append(values(parameters, optimizer))
    for operations, fused_values in zip(*found, strict=True):
        assert torch.allclose(fused_values, operations, rtol=1e-6, atol=1e-30)


def test_the_angle_is_that_of_atan2_for_every_quotient(kernel: tuple[ModuleType, torch.device]) -> None:
    module, device = kernel
    sizes = torch.tensor([0.0, 1e-44, 1e-38, 1e-30, 1e-7, 0.4, 0.4143, 0.5, 0.9999999, 1.0, 2.4, 1e7, 1e30, 3e38])
    y = torch.cat((sizes, -sizes))[:, None].expand(-1, len(sizes)).reshape(-1)
    x = sizes.expand(2 * len(sizes), -1).reshape(-1)
    random = torch.Generator().manual_seed(0)
    y = torch.cat((y, torch.randn(3000, generator=random))).to(device)
    root = torch.cat((x, torch.randn(3000, generator=random).abs())).sqrt().to(device)
    v = root.square()
    angle, zero = torch.zeros_like(y), torch.zeros_like(y)
    # Arguments after the count: p ← 0·p + atan2(m, √v), moments stay.
    module._adam_atan2[(-(-len(y) // 1024),)](angle, zero, y, v, zero, len(y), 0.0, -1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1024)
    exact = torch.atan2(y.double(), v.sqrt().double())
    assert ((angle.double() - exact).abs() <= 3e-7 * exact.abs() + 1e-44).all()


def test_nan_in_a_gradient_or_moment_reaches_the_parameter(kernel: tuple[ModuleType, torch.device]) -> None:
    for key in ("grad", "m", "v"):
        p = torch.nn.Parameter(torch.ones(3, device=kernel[1]))
        optimizer = AdamAtan2([p], **OPTIONS, fused=True)
        p.grad = torch.ones_like(p)
        (p.grad if key == "grad" else optimizer.state[p][key])[1] = math.nan
        optimizer.step()
        assert p.isnan().tolist() == [False, True, False]


def test_a_stopped_optimizer_continues_bit_for_bit_and_in_place(kernel: tuple[ModuleType, torch.device]) -> None:
    whole, stopped, resumed = (parameters_on(kernel[1]) for _ in range(3))
    reference = AdamAtan2(whole, **OPTIONS, fused=True)
    train(whole, reference, range(3))
    first = AdamAtan2(stopped, **OPTIONS, fused=True)
    train(stopped, first, range(1))
    second = AdamAtan2(resumed, **OPTIONS, fused=True)
    second.load_state_dict(first.state_dict())
    for p, q in zip(stopped, resumed, strict=True):
        q.data.copy_(p)
    addresses = [p.data_ptr() for p in resumed] + [second.state[p][key].data_ptr() for p in resumed for key in KEYS]
    train(resumed, second, range(1, 3))
    assert all(torch.equal(*pair) for pair in zip(values(whole, reference), values(resumed, second), strict=True))
    after = [p.data_ptr() for p in resumed] + [second.state[p][key].data_ptr() for p in resumed for key in KEYS]
    assert after == addresses


def test_sharded_parameters_are_updated_on_the_ranks_that_hold_them(kernel: tuple[ModuleType, torch.device]) -> None:
    found = []
    world = World.join(kernel[1].type, sharded=True)
    try:
        mesh = init_device_mesh(kernel[1].type, (1,))
        for sharded in (False, True):
            parameters = parameters_on(kernel[1])
            if sharded:
                placements = [Shard(0), Shard(0), Shard(0), Replicate()]
                parameters = [
                    torch.nn.Parameter(distribute_tensor(p.detach(), mesh, [placement]))
                    for p, placement in zip(parameters, placements, strict=True)
                ]
            optimizer = AdamAtan2(parameters, **OPTIONS, fused=True)
            for p in parameters:
                p.grad = p.detach().sin()
            optimizer.step()
            states = [optimizer.state[p] for p in parameters]
            tensors = [*parameters, *(state[key] for state in states for key in KEYS)]
            found.append([t.full_tensor() if sharded else t for t in tensors])  # type: ignore[attr-defined]
    finally:
        world.leave()
    assert all(torch.equal(whole, shards) for whole, shards in zip(*found, strict=True))


def test_tensors_that_the_kernel_cannot_update_are_errors(kernel: tuple[ModuleType, torch.device]) -> None:
    for parameter, expected in (
        (torch.ones(4, dtype=torch.float64), "parameter is torch.float64"),
        (torch.ones(4, 3).T, r"parameter is torch.float32 with strides \(1, 3\)"),
    ):
        p = torch.nn.Parameter(parameter.to(kernel[1]))
        optimizer = AdamAtan2([p], **OPTIONS, fused=True)
        p.grad = torch.ones_like(p)
        with pytest.raises(ValueError, match=expected):
            optimizer.step()


def test_the_kernel_is_refused_where_its_results_are_not_those_of_torch(
    kernel: tuple[ModuleType, torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, device = kernel
    assert module.refusal(device) == ""
    kept = module.update
    monkeypatch.setattr(module, "update", lambda *tensors, lr, **options: kept(*tensors, lr=1.01 * lr, **options))
    assert "its results differ from those of torch by" in module.refusal(device)


@pytest.mark.parametrize("capability", [75, 90])
def test_the_kernel_compiles_for_gpus_and_reads_sixteen_bytes_at_a_time(capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from trainer import fused

    signature = dict.fromkeys(fused._adam_atan2.arg_names, "fp32")
    signature |= {"parameters": "*fp32", "gradients": "*fp32", "emas": "*fp32", "ms": "*bf16", "vs": "*bf16"}
    signature |= {"numbers": "i32", "BLOCK": "constexpr"}
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(6)}
    block = {(len(signature) - 1,): fused.BLOCK}
    source = ASTSource(fused._adam_atan2, signature, block, aligned)
    ptx = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
    assert ptx.count("ld.global.v4.b32") == 2 * 3 + 2, "three float32 tensors of 8 numbers a thread, two of bfloat16"
    assert ptx.count("st.global.v4.b32") == 2 * 2 + 2
    assert ".local" not in ptx, "no register is spilled"
    assert "cvt.rn.bf16" in ptx or capability < 90
