"""Batches of packed samples, the input of a model."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

IGNORE = -100
"""Label of a position that has no loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """Packed samples as tensors of R rows of T tokens.

    A position predicts the next token, so the label of the last prefix position is the sample's first response token,
    and the last token of a sample needs no position.
    """

    tokens: Tensor
    """int64 [R, T]."""
    labels: Tensor
    """int64 [R, T]; `IGNORE` for positions that have no loss."""
    position_ids: Tensor
    """int64 [R, T]: positions within the samples."""
    segments: Tensor
    """int32 [S, 4]: row, begin, prefix length and number of positions of each sample, ordered by (row, begin)."""

    def to(self, device: torch.device | str) -> "PackedBatch":
        """Copy all tensors to a device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return PackedBatch(**moved)

    def split(self, rows: int) -> "list[PackedBatch]":
        """Split into batches of at most `rows` rows."""
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
