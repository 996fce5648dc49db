"""Rotary position embedding: channel i of a head turns with channel i + head_dim/2 ("rotate-half"), in fp32."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """The turn at each position, made once per forward pass."""

    positions: Tensor
    """int [R, T]: positions inside the samples."""
    cos: Tensor
    """float32 [R, T, 1, head_dim]."""
    sin: Tensor
    """float32 [R, T, 1, head_dim], its first half negated."""

    @classmethod
    def at(cls, positions: Tensor, head_dim: int, theta: float) -> "Rope":
        """The turns for int positions [R, T]: pair i of a head turns by position · theta^(-2i / head_dim)."""
        exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
        angle = positions[..., None, None].float() * theta**-exponent
        cos, sin = angle.cos(), angle.sin()
        return cls(positions, torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1))

    def turn(self, x: Tensor) -> Tensor:
        """Turn x [R, T, heads, head_dim]; computed in fp32, returned in the dtype of x."""
        full = x.float()
        first, second = full.chunk(2, -1)
        return (full * self.cos + torch.cat((second, first), -1) * self.sin).to(x.dtype)
