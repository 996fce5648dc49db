"""HRM and the models it is compared with, as data: which stacks there are, and in which order they are applied to what.

Every model has the same two states, z_H (at first the scaled embedding x) and z_L (at first the fixed vector z⁰), and
the same embedding, head and blocks. An application adds up the states it reads, applies a stack, and writes one state;
what the last one writes goes to the head. `model.hrm` runs such a schedule, `model.flops` counts it.

    hrm          2 × (3 × z_L ← L(z_L + z_H), then z_H ← H(z_H + z_L))     L and H: half of the blocks each
    transformer  z_H ← R(z_H)                                               R: all blocks
    looped       4 × z_L ← R(z_L + z_H)                                     R: all blocks; z_H stays x
    rins         7 × z_L ← L(z_L + z_H), then z_H ← H(z_L)                  L and H: half of the blocks each
    trm_h2l1     2 × (z_L ← R(z_L + z_H), then z_H ← R(z_H + z_L))          R: all blocks; HRM's parameters
    trm_h2l3     2 × (3 × z_L ← R(z_L + z_H), then z_H ← R(z_H + z_L))      R: half of the blocks; HRM's applications

Source: HRM-Text (arXiv 2605.20613), tables 1 and 2.
"""

from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["z_H", "z_L"]
Name = Literal["hrm", "transformer", "looped", "rins", "trm_h2l1", "trm_h2l3"]
ARCHITECTURES: tuple[Name, ...] = get_args(Name)


@dataclass(frozen=True, slots=True)
class Application:
    """One application of a stack."""

    stack: str
    """Name of the stack, which is its name in the module too."""
    reads: tuple[State, ...]
    """The stack is applied to the sum of these."""
    writes: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What sets one model apart from the others."""

    stacks: tuple[str, ...]
    layer_share: int
    """A stack has the size's layers divided by this."""
    schedule: tuple[Application, ...]
    depths: tuple[int, int]
    """K, the number of applications that carry gradients, at the start of training and after its ramp."""


def architecture_of(name: Name, *, H_cycles: int, L_cycles: int) -> Architecture:
    """The architecture of that name; the cycles are HRM's, the others have their own."""
    low = Application("L_module", ("z_L", "z_H"), "z_L")
    high = Application("H_module", ("z_H", "z_L"), "z_H")
    shared_low = Application("R_module", ("z_L", "z_H"), "z_L")
    shared_high = Application("R_module", ("z_H", "z_L"), "z_H")
    one, two = ("R_module",), ("L_module", "H_module")
    match name:
        case "hrm":
            schedule = H_cycles * (*L_cycles * (low,), high)
            return Architecture(stacks=two, layer_share=2, schedule=schedule, depths=(2, 5))
        case "transformer":
            schedule = (Application("R_module", ("z_H",), "z_H"),)
            return Architecture(stacks=one, layer_share=1, schedule=schedule, depths=(1, 1))
        case "looped":
            return Architecture(stacks=one, layer_share=1, schedule=4 * (shared_low,), depths=(2, 2))
        case "rins":
            schedule = (*7 * (low,), Application("H_module", ("z_L",), "z_H"))
            return Architecture(stacks=two, layer_share=2, schedule=schedule, depths=(5, 5))
        case "trm_h2l1":
            return Architecture(stacks=one, layer_share=1, schedule=2 * (shared_low, shared_high), depths=(2, 2))
        case "trm_h2l3":
            schedule = 2 * (*3 * (shared_low,), shared_high)
            return Architecture(stacks=one, layer_share=2, schedule=schedule, depths=(2, 5))


def possible_depths(schedule: tuple[Application, ...]) -> range:
    """The K that a schedule can have: from one application of each state it writes to all of them."""
    return range(len({application.writes for application in schedule}), len(schedule) + 1)


def carries_gradient(schedule: tuple[Application, ...], k: int) -> tuple[bool, ...]:
    """Which applications carry gradients, in the order they run.

    Of k applications, one at least goes to the inner ones (those that write another state than the output) and as many
    as possible to the outer ones, which write the output; of both kinds the last ones. HRM's H is outer, its L inner:
    min(H_cycles, k - 1) of H, the rest of L. Where all write one state, it is the last k.

    Parameters
    ----------
    schedule
        Of an `Architecture`.
    k
        How many of them.

    Raises
    ------
    ValueError
        k leaves a kind without any, or asks for more applications than there are.
    """
    outer = [application.writes == schedule[-1].writes for application in schedule]
    depths = possible_depths(schedule)
    if k not in depths:
        span = f"from {depths[0]} to {depths[-1]}" if len(depths) > 1 else f"{depths[0]}"
        raise ValueError(f"k is {k}; expected a whole number {span}, the model's applications")
    k_outer = k if all(outer) else min(sum(outer), k - 1)
    left = {True: k_outer, False: k - k_outer}
    carries = []
    for kind in reversed(outer):
        carries.append(left[kind] > 0)
        left[kind] -= 1
    return tuple(reversed(carries))
