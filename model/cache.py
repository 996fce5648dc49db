"""Keys and values of positions already computed, of one attention layer in one application.

Earlier positions never see later ones of the response, so decoding computes only the new position and reads the rest
here. Slot j of a row holds its position j, whatever the lengths of the other rows.
"""

import torch
from torch import Tensor

from model.config import ModelConfig


class KeyValueCache:
    """Keys and values of a batch of rows, stored head by head as attention reads them."""

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
        row = torch.arange(len(positions), device=positions.device)[:, None]
        self.key[row, :, positions] = key
        self.value[row, :, positions] = value
        return self.key[:, :, :length].transpose(1, 2), self.value[:, :, :length].transpose(1, 2)

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self.key = self.key[rows]
        self.value = self.value[rows]
