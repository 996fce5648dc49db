"""HRM and its baselines as data: the stacks of each architecture, and the schedule in which they are applied.

Every model has two states, z_H (initially the scaled embedding x) and z_L (initially the fixed vector z⁰), and the same
embedding, head and blocks. An application sums the states it reads, applies a stack, and writes one state; the head
reads the state written last. `model.hrm` runs the schedule, `model.flops` counts its operations.

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
    """Name of the stack and of its submodule."""
    reads: tuple[State, ...]
    """States whose sum is the input."""
    writes: State
    """State that the output replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Stacks, schedule and gradient depths of one architecture."""

    stacks: tuple[str, ...]
    """Names of the stacks."""
    layer_share: int
    """The layers of a stack are `num_layers` divided by this."""
    schedule: tuple[Application, ...]
    """Stack applications of one forward pass, in order."""
    depths: tuple[int, int]
    """K, the number of applications that carry gradients, at the start of training and after the ramp."""


def architecture_of(name: Name, *, H_cycles: int, L_cycles: int) -> Architecture:
    """Build an architecture by name; the numbers of cycles apply to HRM only, the baselines have fixed schedules."""
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
    """Valid values of K for a schedule: from the number of states it writes to the number of applications."""
    return range(len({application.writes for application in schedule}), len(schedule) + 1)


def carries_gradient(schedule: tuple[Application, ...], k: int) -> tuple[bool, ...]:
    """Select the k applications that carry gradients.

    Outer applications write the state that the head reads, inner ones the other state. As many outer applications as
    possible carry gradients, but at least one inner one; of each kind, the last ones do. In HRM, H is outer and L
    inner: min(H_cycles, k - 1) applications of H and the rest of L. Without inner applications the last k do.

    Parameters
    ----------
    schedule
        Schedule of an `Architecture`.
    k
        Number of applications that carry gradients.

    Returns
    -------
    tuple of bool
        For each application, in order.

    Raises
    ------
    ValueError
        k is not one of `possible_depths`.
    """
    outer = [application.writes == schedule[-1].writes for application in schedule]
    depths = possible_depths(schedule)
    if k not in depths:
        span = f"from {depths[0]} to {depths[-1]}" if len(depths) > 1 else f"{depths[0]}"
        raise ValueError(f"k is {k}; expected a whole number {span} for this model's applications")
    k_outer = k if all(outer) else min(sum(outer), k - 1)
    left = {True: k_outer, False: k - k_outer}
    carries = []
    for kind in reversed(outer):
        carries.append(left[kind] > 0)
        left[kind] -= 1
    return tuple(reversed(carries))
