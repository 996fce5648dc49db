"""Configuration of a model, and the published sizes by name.

`config_for("L", vocab_size=65_536)` returns the configuration of a size; keywords replace single fields. A checkpoint
stores `dataclasses.asdict(config)`, which `ModelConfig(**stored)` restores.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from model.architectures import ARCHITECTURES, Application, Architecture, Name, architecture_of

Mask = Literal["prefix_lm", "causal"]


def intermediate_size_for(hidden_size: int) -> int:
    """Default inner width of SwiGLU: round(4·d·2/3), rounded up to a multiple of 256."""
    return -(-round(4 * hidden_size * 2 / 3) // 256) * 256


_CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({"architecture": ARCHITECTURES, "mask": get_args(Mask)})


_LARGEST: Mapping[str, int] = MappingProxyType(
    {"vocab_size": 2**24, "num_layers": 1024, "num_heads": 4096, "head_dim": 4096, "H_cycles": 64, "L_cycles": 64}
)
"""Largest value of some counts, far above those of a model that has been trained."""
_LARGEST_WIDTH = 2**18


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
    if value > (largest := _LARGEST.get(name, _LARGEST_WIDTH)):
        raise ValueError(f"{name} is {value:,}; expected at most {largest:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Hyperparameters of an HRM or of one of its baselines.

    Raises
    ------
    ValueError
        A field has an invalid value; the message names the field and a valid value.
    """

    vocab_size: int
    """Number of token ids: rows of the embedding and of the head."""
    num_layers: int
    """Blocks of the H and the L stack together, half of them each. For the stacks of other architectures see
    `model.architectures`."""
    hidden_size: int
    """Width d of the states z_H and z_L."""
    num_heads: int
    head_dim: int
    """Width of one attention head; even, because RoPE rotates pairs of channels."""
    intermediate_size: int
    """Inner width of SwiGLU."""
    H_cycles: int = 2
    """Applications of the H stack in one forward pass."""
    L_cycles: int = 3
    """Applications of the L stack before each application of the H stack."""
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    architecture: Name = "hrm"
    """Name of an architecture of `model.architectures`."""
    mask: Mask = "prefix_lm"
    """Whether a prefix position sees the whole prefix, or (causal) only the positions up to itself."""

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in _CHOICES:
                if value not in _CHOICES[name]:
                    raise ValueError(f"{name} is {value!r}; expected one of {', '.join(_CHOICES[name])}")
            elif field.type is float:
                if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
                    raise ValueError(f"{name} is {value!r}; expected a number above 0")
            else:
                _check_count(name, value)
        if self.num_layers % self._architecture.layer_share:
            raise ValueError(
                f"num_layers is {self.num_layers}; it counts the H and the L stack together, so it must be even: "
                f"try {self.num_layers + 1}"
            )
        if self.architecture != "hrm" and (self.H_cycles, self.L_cycles) != (2, 3):
            raise ValueError(
                f"H_cycles is {self.H_cycles} and L_cycles {self.L_cycles}; {self.architecture} has its own schedule, "
                f"which they do not affect: remove them, or set architecture to hrm"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim is {self.head_dim}; rotary position embedding needs an even number: try {self.head_dim + 1}"
            )

    @property
    def _architecture(self) -> Architecture:
        return architecture_of(self.architecture, H_cycles=self.H_cycles, L_cycles=self.L_cycles)

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks."""
        return self._architecture.stacks

    @property
    def layers_per_stack(self) -> int:
        """Number of blocks per stack."""
        return self.num_layers // self._architecture.layer_share

    @property
    def schedule(self) -> tuple[Application, ...]:
        """Stack applications of one forward pass, in order."""
        return self._architecture.schedule

    @property
    def applications(self) -> int:
        """Number of stack applications per forward pass; H_cycles · (L_cycles + 1) for HRM."""
        return len(self.schedule)

    @property
    def depths(self) -> tuple[int, int]:
        """K, the number of applications that carry gradients, at the start of training and after the ramp."""
        return self._architecture.depths

    @property
    def core_parameters(self) -> int:
        """Number of trained parameters outside of embedding and head."""
        attention = 5 * self.hidden_size * self.num_heads * self.head_dim
        swiglu = 3 * self.hidden_size * self.intermediate_size
        return len(self.stacks) * self.layers_per_stack * (attention + swiglu)

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return self.core_parameters + 2 * self.vocab_size * self.hidden_size


def _size(num_layers: int, hidden_size: int, num_heads: int, head_dim: int = 128) -> Mapping[str, int]:
    return MappingProxyType(
        {"num_layers": num_layers, "hidden_size": hidden_size, "num_heads": num_heads, "head_dim": head_dim}
    )


Size = Literal["tiny", "B", "L", "XL", "XXL", "XXL-wide"]
SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "tiny": _size(2, 96, 3, head_dim=32),
        "B": _size(12, 1024, 8),
        "L": _size(24, 1280, 10),
        "XL": _size(32, 1536, 12),
        "XXL": _size(72, 1792, 14),
        "XXL-wide": _size(32, 2560, 20),
    }
)
"""Fields of each named size; the inner width follows from the hidden size."""


def config_for(size: str, vocab_size: int, **overrides: Any) -> ModelConfig:
    """Build the configuration of a named size.

    Parameters
    ----------
    size
        A key of `SIZES`.
    vocab_size
        Number of token ids.
    **overrides
        Fields of `ModelConfig` that replace those of the size. Unless given, `intermediate_size` follows from
        `hidden_size` (`intermediate_size_for`).

    Raises
    ------
    ValueError
        A size or field is unknown, or has an invalid value.
    """
    if size not in SIZES:
        raise ValueError(f"unknown model size {size!r}; known sizes: {', '.join(SIZES)}")
    known = ModelConfig.__dataclass_fields__
    unknown = [name for name in overrides if name not in known]
    if unknown:
        closest = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {closest[0]!r}?" if closest else f"known fields: {', '.join(known)}"
        raise ValueError(f"unknown model field {unknown[0]!r}; {hint}")
    chosen = {"vocab_size": vocab_size, **SIZES[size], **overrides}
    _check_count("hidden_size", chosen["hidden_size"])
    chosen.setdefault("intermediate_size", intermediate_size_for(chosen["hidden_size"]))
    return ModelConfig(**chosen)
