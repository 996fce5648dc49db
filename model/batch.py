"""What a model sees: rows of packed samples, and where each sample lies in them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

IGNORE = -100
"""Label of a position without a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """Packed samples as tensors over rows R and row length T.

    A position predicts the token after it, so the label of the last prefix
    position is the sample's first response token. Padding belongs to no sample.
    """

    tokens: Tensor
    """int64 [R, T]."""
    labels: Tensor
    """int64 [R, T]; `IGNORE` where there is no loss."""
    position_ids: Tensor
    """int64 [R, T]; restart at 0 with each sample."""
    segments: Tensor
    """int32 [S, 4], one line a sample: row, begin, prefix length, total length; ordered by (row, begin)."""

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch with every tensor on `device`."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return PackedBatch(**moved)

    def split(self, rows: int) -> "list[PackedBatch]":
        """The same rows as batches of `rows` rows each; the last one may have fewer."""
        parts = []
        for first in range(0, len(self.tokens), rows):
            row = self.segments[:, 0]
            inside = self.segments[(row >= first) & (row < first + rows)].clone()
            inside[:, 0] -= first
            parts.append(
                PackedBatch(
                    tokens=self.tokens[first : first + rows],
                    labels=self.labels[first : first + rows],
                    position_ids=self.position_ids[first : first + rows],
                    segments=inside,
                )
            )
        return parts
