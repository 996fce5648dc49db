"""The update of `trainer.optim` for one tensor as one Triton kernel: every number is read and written once.

    parameter, gradient, m, v, ema ─ update ─▶ parameter, m, v, ema in place, without temporary tensors

For each parameter with float32 moments the kernel moves 36 bytes: it reads five tensors and writes four. The nine
operations of torch that compute the same read and write whole tensors each, 92 bytes. With bfloat16 moments it is 28
instead of 116. All arithmetic is in float32, and offsets are in 64 bits.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Numbers per program of the kernel."""
_TOLERANCE = 1e-5
"""Largest accepted difference of a result of order 1 from torch's."""
_TAN_PI_8 = tl.constexpr(math.tan(math.pi / 8))
_PI_4 = tl.constexpr(math.pi / 4)
_PI_2 = tl.constexpr(math.pi / 2)


def update(
    parameter: Tensor,
    gradient: Tensor,
    m: Tensor,
    v: Tensor,
    ema: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    ema_decay: float,
) -> None:
    """Update a parameter, its moments and its moving average in place.

    Parameters
    ----------
    parameter, gradient, ema
        float32, contiguous, of the same shape, on one CUDA device.
    m, v
        Moments, likewise, in float32 or bfloat16.
    step
        Number of this update, from 1.
    lr, betas, weight_decay, ema_decay
        As for `trainer.optim.AdamAtan2`.

    Raises
    ------
    ValueError
        A tensor has another shape, dtype, layout or device.
    """
    tensors = {"parameter": parameter, "gradient": gradient, "m": m, "v": v, "ema": ema}
    for name, tensor in tensors.items():
        dtypes = (torch.float32, torch.bfloat16) if name in ("m", "v") else (torch.float32,)
        if tensor.dtype not in dtypes or not tensor.is_contiguous():
            raise ValueError(f"{name} is {tensor.dtype} with strides {tensor.stride()}; expected {dtypes}, contiguous")
        if tensor.shape != parameter.shape or tensor.device != parameter.device:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)} on {tensor.device}; expected {tuple(parameter.shape)} on "
                f"{parameter.device}, as the parameter"
            )
    numbers = parameter.numel()
    if numbers == 0:  # this rank's shard of a small parameter
        return
    c1, c2 = (1 - beta**step for beta in betas)
    _adam_atan2[(triton.cdiv(numbers, BLOCK),)](
        *tensors.values(),
        numbers,
        shrink=1 - lr * weight_decay,
        rate=lr / c1,
        to_m=1 - betas[0],
        keep_v=betas[1],
        to_v=1 - betas[1],
        scale=1 / math.sqrt(c2),
        to_ema=1 - ema_decay,
        BLOCK=BLOCK,
    )


def refusal(device: torch.device) -> str:
    """Why the kernel cannot be used on a device, empty if it can: it is run there, and compared with torch."""
    from trainer.optim import AdamAtan2

    results = []
    try:
        for fused in (True, False):
            parameter = torch.nn.Parameter(torch.linspace(-1, 1, BLOCK + 1, device=device))
            optimizer = AdamAtan2([parameter], lr=0.1, ema=0.5, fused=fused)
            for _ in range(2):
                parameter.grad = parameter.detach().sin()
                optimizer.step()
            state = optimizer.state[parameter]
            results.append(torch.cat([parameter.detach(), state["m"], state["v"], state["ema"]]))
        difference = (results[0] - results[1]).abs().max().item()
    except Exception as error:  # any failure is a reason not to use the kernel
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return "" if difference < _TOLERANCE else f"its results differ from those of torch by {difference:.1e}"


@triton.jit
def _adam_atan2(  # type: ignore[no-untyped-def]
    parameters,
    gradients,
    ms,
    vs,
    emas,
    numbers,
    shrink,
    rate,
    to_m,
    keep_v,
    to_v,
    scale,
    to_ema,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    g = tl.load(gradients + at, mask=inside, other=0.0)
    m = _lerp(tl.load(ms + at, mask=inside, other=0.0).to(tl.float32), g, to_m)
    v = tl.load(vs + at, mask=inside, other=0.0).to(tl.float32) * keep_v + to_v * g * g
    p = tl.load(parameters + at, mask=inside, other=0.0) * shrink - rate * _atan2(m, tl.sqrt_rn(v) * scale)
    ema = _lerp(tl.load(emas + at, mask=inside, other=0.0), p, to_ema)
    tl.store(ms + at, m.to(ms.dtype.element_ty), mask=inside)
    tl.store(vs + at, v.to(vs.dtype.element_ty), mask=inside)
    tl.store(parameters + at, p, mask=inside)
    tl.store(emas + at, ema, mask=inside)


@triton.jit
def _lerp(a, b, weight):  # type: ignore[no-untyped-def]
    """a + weight · (b - a), such that it is b where the weight is 1; as torch.lerp."""
    return tl.where(weight < 0.5, a + weight * (b - a), b - (1 - weight) * (b - a))


@triton.jit
def _atan2(y, x):  # type: ignore[no-untyped-def]
    """The angle of (x, y) for x ≥ 0, in [-π/2, π/2]; 0 at (0, 0).

    The slope, of the smaller to the larger one, is reduced to at most tan(π/8) by atan t = π/4 + atan((t - 1)/(t + 1)).
    There atan t / t is a polynomial in t² (interpolated at Chebyshev nodes, relative error 2.5e-9). It is not CUDA's
    function, because Triton's interpreter, which tests use, has none.
    """
    rise = tl.abs(y)
    is_steep = rise > x
    small = tl.where(is_steep, x, rise)
    large = tl.where(is_steep, rise, x)
    is_far = small > _TAN_PI_8 * large
    above = tl.where(is_far, small - large, small)
    below = tl.where(is_far, small + large, large)
    t = tl.div_rn(above, tl.where(below == 0.0, 1.0, below))
    z = t * t
    series = -0.06451928160230586 * z + 0.1074373147094983
    series = series * z - 0.14263955595196748
    series = series * z + 0.19999540483500192
    series = series * z - 0.33333331761166285
    angle = t + t * z * series
    angle = tl.where(is_far, _PI_4 + angle, angle)
    angle = tl.where(is_steep, _PI_2 - angle, angle)
    return tl.where(y < 0.0, -angle, angle)
