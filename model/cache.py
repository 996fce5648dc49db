"""Cache of keys and values of one attention layer in one application.

Positions never see later positions of the response, so a decoding step computes only the new position and reads the
keys and values of earlier ones from the cache. Slot j of a row holds position j of that row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import ModelConfig


class KeyValueCache:
    """Keys and values of a batch of rows, stored as [rows, heads, capacity, head_dim]."""

    def __init__(self, config: ModelConfig, *, rows: int, capacity: int, dtype: torch.dtype, device: torch.device):
        shape = (rows, config.num_heads, capacity, config.head_dim)
        self.key = torch.zeros(shape, dtype=dtype, device=device)
        self.value = torch.zeros(shape, dtype=dtype, device=device)

    def extend(self, key: Tensor, value: Tensor, positions: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Store new keys and values [R, T, h, head_dim] at positions [R, T].

        Returns
        -------
        key, value : Tensor
            The first `length` slots, [R, length, h, head_dim] each.
        """
        self.reserve(length)
        row = torch.arange(len(positions), device=positions.device)[:, None]
        self.key[row, :, positions] = key
        self.value[row, :, positions] = value
        return self.key[:, :, :length].transpose(1, 2), self.value[:, :, :length].transpose(1, 2)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows except these (int64 indices or a bool mask)."""
        self.key = self.key[rows]
        self.value = self.value[rows]

    def replace(self, rows: Tensor, other: "KeyValueCache") -> None:
        """Replace rows (int64 indices) by those of another cache; what it has no slots for keeps its values."""
        slots = other.key.shape[2]
        self.reserve(slots)
        self.key[rows, :, :slots] = other.key
        self.value[rows, :, :slots] = other.value

    @property
    def capacity(self) -> int:
        """Slots of a row."""
        return self.key.shape[2]

    def reserve(self, length: int) -> None:
        """Make room for at least `length` slots; where there is none, for half as many more, in new tensors."""
        if length > self.capacity:
            extra = max(length, self.capacity * 3 // 2) - self.capacity
            self.key, self.value = (F.pad(tensor, (0, 0, 0, extra)) for tensor in (self.key, self.value))
