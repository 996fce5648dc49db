"""PrefixLM attention: what each position may see, and the kernels that compute it.

In every packing the keys that a position sees are one contiguous interval of its row: a prefix position sees its
sample's whole prefix, a response position everything from its sample's begin up to itself, padding nothing. So all
that a kernel needs to know about the packing is [begin, end) per query, or where the samples lie:

    segments ─ key_intervals ─▶ begin, end [R, T] ─ dense_mask ───▶ DenseMask     any device; the reference
                                                  ─ blocked_mask ─▶ BlockedMask   FlexAttention
             ─ pieces_mask ───────────────────────────────────────▶ PiecesMask    packed variable-length attention

    attend(query, key, value, mask) ─▶ [R, T, h, head_dim]

A mask is made once per batch, on its device and without waiting for it, and used by every block of every application.
A cached decoding step is dense attention with fewer queries than keys. `model.kernels` chooses between the kernels.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn

Kernel = Literal["dense", "flex", "flash", "varlen"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
"""dense: scaled_dot_product_attention with a bias. flex: FlexAttention's Triton kernels. flash: FlexAttention by
FlashAttention 4. varlen: torch's packed variable-length attention."""

_BLOCK = 128
"""Queries, and keys, of a block of FlexAttention."""


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


@dataclass(frozen=True, slots=True)
class BlockedMask:
    """Which blocks of keys each block of queries sees, wholly or in part; padding sees itself, unread by anybody."""

    blocks: BlockMask
    sighted: Tensor
    """As of `DenseMask`."""
    by_flash: bool
    """FlashAttention 4 instead of Triton."""


@dataclass(frozen=True, slots=True)
class PiecesMask:
    """The batch as one long row, cut into sequences for two calls of a kernel that takes such.

    The first call lets the positions of a sequence see each other, the second only what is not after them. Of the first
    one the prefixes are used, of the second one the responses.
    """

    prefixes: Tensor
    """int32 [n + 1]: bounds of prefixes, responses and padding, ascending; the last one may be repeated."""
    samples: Tensor
    """int32 [m + 1]: the same of whole samples and padding."""
    longest: int
    """No sequence is longer: T."""
    looks_ahead: Tensor
    """bool [R, T, 1, 1]: positions that see one after themselves."""
    sighted: Tensor
    """As of `DenseMask`."""


Mask = DenseMask | BlockedMask | PiecesMask


def mask_of(segments: Tensor, *, rows: int, length: int, dtype: torch.dtype, kernel: Kernel = "dense") -> Mask:
    """The mask of a packed batch for a kernel.

    Parameters
    ----------
    segments, rows, length
        As for `key_intervals`.
    dtype
        Of the queries.
    kernel
        Which will use it.
    """
    begin, end = key_intervals(segments, rows, length)
    match kernel:
        case "dense":
            return dense_mask(begin, end, length, dtype)
        case "flex" | "flash":
            return blocked_mask(begin, end, dtype, by_flash=kernel == "flash")
        case "varlen":
            return pieces_mask(segments, begin, end, dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Scaled dot-product attention.

    Parameters
    ----------
    query
        [R, queries, h, head_dim].
    key, value
        [R, keys, h, head_dim].
    mask
        What each query sees; all but `DenseMask` are for as many queries as keys.

    Returns
    -------
    Tensor
        [R, queries, h, head_dim]; 0 for a query that sees no key.
    """
    if isinstance(mask, DenseMask):
        attended = _dense(query, key, value, mask)
    elif isinstance(mask, BlockedMask):
        attended = _blocked(query, key, value, mask)
    else:
        attended = _pieces(query, key, value, mask)
    return attended * mask.sighted


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


# --- Dense -------------------------------------------------------------------------------------------------------


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


def _dense(query: Tensor, key: Tensor, value: Tensor, mask: DenseMask) -> Tensor:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.bias).transpose(1, 2)


# --- FlexAttention -----------------------------------------------------------------------------------------------


def blocked_mask(begin: Tensor, end: Tensor, dtype: torch.dtype, *, by_flash: bool = False) -> BlockedMask:
    """Mask of intervals for FlexAttention.

    The intervals of successive positions touch, except at padding, which sees itself here. So the keys that a block of
    queries sees are one range, and so are those that all of its queries see: both follow from the least and greatest
    bounds in the block, and no score is looked at.

    Parameters
    ----------
    begin, end
        int [R, T], as `key_intervals` returns them.
    dtype
        Of the queries.
    by_flash
        For FlashAttention 4.
    """
    rows, length = begin.shape
    padding = begin >= end
    position = torch.arange(length, device=begin.device)
    first, last = torch.where(padding, position, begin), torch.where(padding, position + 1, end)
    blocks = -(-length // _BLOCK)
    rest = blocks * _BLOCK - length
    # Queries beyond the row do not exist: they see what the row's last one sees.
    beyond = position[-1:].expand(rest)
    first_of, last_of = (torch.cat((bound, bound[:, beyond]), 1).view(rows, blocks, _BLOCK) for bound in (first, last))
    seen = first_of.amin(-1) // _BLOCK, -(-last_of.amax(-1) // _BLOCK)
    # A block that ends beyond the row is never whole.
    whole = -(-first_of.amax(-1) // _BLOCK), last_of.amin(-1) // _BLOCK
    block = torch.arange(blocks, device=begin.device)
    touched = (block >= seen[0][..., None]) & (block < seen[1][..., None])
    full = (block >= whole[0][..., None]) & (block < whole[1][..., None])

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[row, query]) & (key < last[row, query])

    mask = BlockMask.from_kv_blocks(
        *_listed(touched & ~full),
        *_listed(full),
        BLOCK_SIZE=_BLOCK,
        mask_mod=sees,
        seq_lengths=(length, length),
    )
    return BlockedMask(mask, (~padding)[..., None, None].to(dtype), by_flash)


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers [R, 1, blocks] and indices [R, 1, blocks, blocks] of the chosen blocks [R, blocks, blocks]."""
    order = chosen.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=False)


def _blocked(query: Tensor, key: Tensor, value: Tensor, mask: BlockedMask) -> Tensor:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    options = {"BACKEND": "FLASH"} if mask.by_flash else None
    # FlexAttention has a kernel only when it is compiled; inside of a compiled block it is part of that.
    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled_flex()
    return flex(query, key, value, block_mask=mask.blocks, kernel_options=options).transpose(1, 2)


# --- Variable-length sequences -----------------------------------------------------------------------------------


def pieces_mask(segments: Tensor, begin: Tensor, end: Tensor, dtype: torch.dtype) -> PiecesMask:
    """Mask of a packed batch for attention over variable-length sequences.

    Parameters
    ----------
    segments
        As for `key_intervals`.
    begin, end
        What that returns.
    dtype
        Of the queries.
    """
    rows, length = begin.shape
    row, offset, prefix, total = segments.long().unbind(1)
    start = row * length + offset
    # Padding at the end of one row and an empty row after it are two sequences, so that none is longer than a row.
    edges = torch.arange(rows + 1, device=segments.device) * length
    sees = end - torch.arange(1, length + 1, device=segments.device)
    return PiecesMask(
        prefixes=_bounds(start, start + prefix, start + total, edges),
        samples=_bounds(start, start + total, edges),
        longest=length,
        looks_ahead=(sees > 0)[..., None, None],
        sighted=(begin < end)[..., None, None].to(dtype),
    )


def _bounds(*positions: Tensor) -> Tensor:
    """Positions int32, ascending, each once but for the last one, which takes the place of what was there twice."""
    bounds = torch.cat(positions).sort().values
    again = F.pad(bounds[1:] == bounds[:-1], (1, 0))
    bounds = torch.where(again, bounds[-1], bounds).sort().values.int()
    # Every batch has another number of samples; what is compiled must not depend on it.
    torch._dynamo.mark_dynamic(bounds, 0)
    return bounds


def _pieces(query: Tensor, key: Tensor, value: Tensor, mask: PiecesMask) -> Tensor:
    flat = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))

    def call(bounds: Tensor, ahead: int) -> Tensor:
        out = varlen_attn(*flat, bounds, bounds, mask.longest, mask.longest, window_size=(-1, ahead))
        assert isinstance(out, Tensor)
        return out.view_as(query)

    return torch.where(mask.looks_ahead, call(mask.prefixes, -1), call(mask.samples, 0))
