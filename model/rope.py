"""Rotary position embedding ("rotate-half": channel i is paired with channel i + head_dim/2), in float32."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotations of a batch of positions, computed once per forward pass."""

    positions: Tensor
    """int [R, T]: positions within the samples."""
    cos: Tensor
    """float32 [R, T, 1, head_dim]."""
    sin: Tensor
    """float32 [R, T, 1, head_dim]; the first half is negated."""

    @classmethod
    def at(cls, positions: Tensor, head_dim: int, theta: float) -> "Rope":
        """Compute the rotations of int positions [R, T]: pair i rotates by position · theta^(-2i / head_dim)."""
        exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
        angle = positions[..., None, None].float() * theta**-exponent
        cos, sin = angle.cos(), angle.sin()
        return cls(positions, torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1))

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate x [R, T, heads, head_dim]; computed in float32, returned in the dtype of x."""
        full = x.float()
        first, second = full.chunk(2, -1)
        return (full * self.cos + torch.cat((second, first), -1) * self.sin).to(x.dtype)
