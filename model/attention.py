"""PrefixLM attention: what each position may see, and the kernel that computes it.

In every packing the keys that a position sees are one contiguous interval of its row: a prefix position sees its
sample's whole prefix, a response position everything from its sample's begin up to itself, padding nothing. So all
that a kernel needs to know about the packing is [begin, end) per query:

    segments ─ key_intervals ─▶ begin, end [R, T] ─ dense_mask ─▶ DenseMask ─ attend ─▶ [R, T, h, head_dim]

A mask is made once per batch and used by every block of every application. A cached decoding step is the same with
fewer queries than keys.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DenseMask:
    """Which keys each query sees, as a bias on the attention scores.

    A row of -inf alone is not a number to some kernels, forward or backward. So the row of a query that sees nothing
    is 0 in `bias`, and `sighted` takes what the kernel makes of it away.
    """

    bias: Tensor
    """[R, 1, queries, keys] in the dtype of the queries: 0 where a key is seen, -inf elsewhere."""
    sighted: Tensor
    """[R, queries, 1, 1] in the dtype of the queries: 1 for a query that sees any key, 0 for one that sees none."""

    @property
    def keys(self) -> int:
        """Number of keys in a row."""
        return self.bias.shape[-1]


def key_intervals(segments: Tensor, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """The keys that each position of a packed batch sees.

    Parameters
    ----------
    segments
        int [S, 4]: row, begin, prefix length and total length (at least 1) of each sample, ordered by (row, begin).
    rows, length
        Shape R × T of the batch.

    Returns
    -------
    begin, end : Tensor
        int64 [R, T] each: a position sees keys begin ≤ j < end of its row; for padding both are 0.
    """
    flat = torch.arange(rows * length, device=segments.device)
    if len(segments) == 0:
        nothing = torch.zeros_like(flat).view(rows, length)
        return nothing, nothing
    row, begin, prefix, total = segments.long().unbind(1)
    start = row * length + begin
    begins_here = torch.zeros_like(flat).scatter_(0, start, 1)
    sample = (begins_here.cumsum(0) - 1).clamp(min=0)  # the last sample that begins at or before a position
    position = flat - start[sample]
    inside = (position >= 0) & (position < total[sample])
    seen = torch.maximum(prefix[sample], position + 1)
    first = torch.where(inside, begin[sample], 0)
    last = torch.where(inside, begin[sample] + seen, 0)
    return first.view(rows, length), last.view(rows, length)


def dense_mask(begin: Tensor, end: Tensor, keys: int, dtype: torch.dtype) -> DenseMask:
    """Mask of intervals as a dense bias.

    Parameters
    ----------
    begin, end
        int [R, queries]: query i of row r sees keys begin[r, i] ≤ j < end[r, i].
    keys
        Number of keys in a row.
    dtype
        Of the queries.
    """
    key = torch.arange(keys, device=begin.device)
    begin, end = begin[..., None], end[..., None]
    sighted = begin < end
    hidden = ((key < begin) | (key >= end)) & sighted
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
    return DenseMask(bias[:, None], sighted[..., None].to(dtype))


def attend(query: Tensor, key: Tensor, value: Tensor, mask: DenseMask) -> Tensor:
    """Scaled dot-product attention.

    Parameters
    ----------
    query
        [R, queries, h, head_dim].
    key, value
        [R, keys, h, head_dim].
    mask
        What each query sees.

    Returns
    -------
    Tensor
        [R, queries, h, head_dim]; 0 for a query that sees no key.
    """
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.bias).transpose(1, 2) * mask.sighted
