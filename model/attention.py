"""PrefixLM attention over packed rows: which keys each position sees, and the kernels that compute it.

The keys that a position sees are always one contiguous interval of its row: a prefix position sees the whole prefix of
its sample, a response position everything from the start of its sample to itself, a padding position nothing. A kernel
therefore needs only [begin, end) per query, or the bounds of the samples:

    segments ─ key_intervals ─▶ begin, end [R, T] ─ dense_mask ───▶ DenseMask     any device; the reference
                                                  ─ blocked_mask ─▶ BlockedMask   FlexAttention
             ─ varlen_mask ───────────────────────────────────────▶ VarlenMask    packed variable-length attention

    attend(query, key, value, mask) ─▶ [R, T, h, head_dim]

A mask is built once per batch, on its device and without synchronization, and used by every block of every
application. A cached decoding step is dense attention with fewer queries than keys. `model.kernels` selects the kernel.
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

Kernel = Literal["dense", "flex", "flex64", "flash", "varlen"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
"""dense: scaled_dot_product_attention with a bias. flex, flex64: FlexAttention's Triton kernels, with blocks of 128 and
64 positions. flash: FlexAttention by FlashAttention 4. varlen: torch's packed variable-length attention."""

_BLOCK_OF: dict[Kernel, int] = {"flex": 128, "flex64": 64, "flash": 128}
"""Queries, and keys, per block of FlexAttention. `tests.benchmarks.attention_blocks` counts the pairs in both."""
_TILES_OF_64 = {"fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64, "fwd_num_warps": 4, "fwd_num_stages": 2}
"""Forward pass for blocks of 64. Older versions of torch do not choose such tiles by themselves, and 8 warps divide the
keys of a tile among them; by `tests.benchmarks.resources`, two tiles of 4 warps fit on a multiprocessor."""


@dataclass(frozen=True, slots=True)
class DenseMask:
    """Visible keys of each query as a bias on the attention scores.

    Some kernels return NaN for a query whose bias is -inf everywhere. Queries that see no key therefore have a bias
    of 0, and their output is multiplied by 0 afterwards (`sees_any`).
    """

    bias: Tensor
    """[R, 1, queries, keys] in the dtype of the queries: 0 for visible keys, -inf for others."""
    sees_any: Tensor
    """[R, queries, 1, 1] in the dtype of the queries: 1 for a query that sees at least one key, 0 otherwise."""

    @property
    def keys(self) -> int:
        """Number of keys per row."""
        return self.bias.shape[-1]


@dataclass(frozen=True, slots=True)
class BlockedMask:
    """Blocks of keys that each block of queries sees, fully or partially; a padding position sees itself."""

    blocks: BlockMask
    sees_any: Tensor
    """As in `DenseMask`."""
    options: dict[str, Any] | None
    """FlexAttention's kernel options."""


@dataclass(frozen=True, slots=True)
class VarlenMask:
    """The batch as one long row, cut into sequences for two calls of a variable-length kernel.

    The first call is bidirectional and cut at prefixes; its outputs are used at prefix positions. The second call is
    causal and cut at samples; its outputs are used at response positions.
    """

    prefixes: Tensor
    """int32 [n + 1]: ascending bounds of prefixes, responses and padding; the last one may be repeated."""
    samples: Tensor
    """int32 [m + 1]: ascending bounds of samples and padding; the last one may be repeated."""
    max_length: int
    """Upper bound T on the length of a sequence."""
    is_bidirectional: Tensor
    """bool [R, T, 1, 1]: positions that see a later one."""
    sees_any: Tensor
    """As in `DenseMask`."""


Mask = DenseMask | BlockedMask | VarlenMask


def mask_of(segments: Tensor, *, rows: int, length: int, dtype: torch.dtype, kernel: Kernel = "dense") -> Mask:
    """Build the mask of a packed batch for a kernel.

    Parameters
    ----------
    segments, rows, length
        As for `key_intervals`.
    dtype
        Dtype of the queries.
    kernel
        Kernel that will use the mask.
    """
    begin, end = key_intervals(segments, rows, length)
    match kernel:
        case "dense":
            return dense_mask(begin, end, length, dtype)
        case "flex" | "flex64" | "flash":
            options = {"flex": None, "flex64": _TILES_OF_64, "flash": {"BACKEND": "FLASH"}}[kernel]
            return blocked_mask(begin, end, dtype, block=_BLOCK_OF[kernel], options=options)
        case "varlen":
            return varlen_mask(segments, begin, end, dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Scaled dot-product attention.

    Parameters
    ----------
    query
        [R, queries, h, head_dim].
    key, value
        [R, keys, h, head_dim].
    mask
        Visible keys of each query; all masks but `DenseMask` require as many queries as keys.

    Returns
    -------
    Tensor
        [R, queries, h, head_dim]; 0 for queries that see no key.
    """
    if isinstance(mask, DenseMask):
        attended = _dense(query, key, value, mask)
    elif isinstance(mask, BlockedMask):
        attended = _blocked(query, key, value, mask)
    else:
        attended = _varlen(query, key, value, mask)
    return attended * mask.sees_any


def key_intervals(segments: Tensor, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Compute the interval of keys that each position of a packed batch sees.

    Parameters
    ----------
    segments
        int [S, 4]: row, begin, prefix length and total length (at least 1) of each sample, ordered by (row, begin).
    rows, length
        Shape R × T of the batch.

    Returns
    -------
    begin, end : Tensor
        int64 [R, T] each: a position sees keys begin ≤ j < end of its row; both are 0 for padding.
    """
    flat = torch.arange(rows * length, device=segments.device)
    if len(segments) == 0:
        empty = torch.zeros_like(flat).view(rows, length)
        return empty, empty
    row, begin, prefix, total = segments.long().unbind(1)
    start = row * length + begin
    is_start = torch.zeros_like(flat).scatter_(0, start, 1)
    sample = (is_start.cumsum(0) - 1).clamp(min=0)  # the last sample that starts at or before a position
    position = flat - start[sample]
    inside = (position >= 0) & (position < total[sample])
    seen = torch.maximum(prefix[sample], position + 1)
    first = torch.where(inside, begin[sample], 0)
    last = torch.where(inside, begin[sample] + seen, 0)
    return first.view(rows, length), last.view(rows, length)


# --- Dense -------------------------------------------------------------------------------------------------------


def dense_mask(begin: Tensor, end: Tensor, keys: int, dtype: torch.dtype) -> DenseMask:
    """Build a dense mask from intervals.

    Parameters
    ----------
    begin, end
        int [R, queries]: query i of row r sees keys begin[r, i] ≤ j < end[r, i].
    keys
        Number of keys per row.
    dtype
        Dtype of the queries.
    """
    key = torch.arange(keys, device=begin.device)
    begin, end = begin[..., None], end[..., None]
    sees_any = begin < end
    hidden = ((key < begin) | (key >= end)) & sees_any
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))
    return DenseMask(bias[:, None], sees_any[..., None].to(dtype))


def _dense(query: Tensor, key: Tensor, value: Tensor, mask: DenseMask) -> Tensor:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.bias).transpose(1, 2)


# --- FlexAttention -----------------------------------------------------------------------------------------------


def blocked_mask(
    begin: Tensor, end: Tensor, dtype: torch.dtype, *, block: int = 128, options: dict[str, Any] | None = None
) -> BlockedMask:
    """Build a FlexAttention mask from intervals.

    The intervals of successive positions touch (a padding position sees itself here), so the keys that any query of a
    block sees form one range, and so do the keys that all of them see. Both ranges follow from the extremes of `begin`
    and `end` in the block, without evaluating the mask per score.

    Parameters
    ----------
    begin, end
        int [R, T], from `key_intervals`.
    dtype
        Dtype of the queries.
    block
        Queries, and keys, per block.
    options
        FlexAttention's kernel options.
    """
    rows, length = begin.shape
    padding = begin >= end
    position = torch.arange(length, device=begin.device)
    first, last = torch.where(padding, position, begin), torch.where(padding, position + 1, end)
    blocks = -(-length // block)
    rest = blocks * block - length
    # Fill the last block up with copies of the row's last query.
    fill = position[-1:].expand(rest)
    first_of, last_of = (torch.cat((bound, bound[:, fill]), 1).view(rows, blocks, block) for bound in (first, last))
    visible = first_of.amin(-1) // block, -(-last_of.amax(-1) // block)
    # A block of keys that extends past the end of the row is never full.
    whole = -(-first_of.amax(-1) // block), last_of.amin(-1) // block
    number = torch.arange(blocks, device=begin.device)
    touched = (number >= visible[0][..., None]) & (number < visible[1][..., None])
    full = (number >= whole[0][..., None]) & (number < whole[1][..., None])

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[row, query]) & (key < last[row, query])

    mask = BlockMask.from_kv_blocks(
        *_block_lists(touched & ~full),
        *_block_lists(full),
        BLOCK_SIZE=block,
        mask_mod=sees,
        seq_lengths=(length, length),
    )
    return BlockedMask(mask, (~padding)[..., None, None].to(dtype), options)


def _block_lists(selected: Tensor) -> tuple[Tensor, Tensor]:
    """Counts [R, 1, blocks] and indices [R, 1, blocks, blocks] of the selected blocks, bool [R, blocks, blocks]."""
    order = selected.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    return selected.sum(-1, dtype=torch.int32)[:, None], order.to(torch.int32)[:, None]


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=False)


def _blocked(query: Tensor, key: Tensor, value: Tensor, mask: BlockedMask) -> Tensor:
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    # FlexAttention needs torch.compile; inside of a compiled block it is compiled with the block.
    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled_flex()
    return flex(query, key, value, block_mask=mask.blocks, kernel_options=mask.options).transpose(1, 2)


# --- Variable-length sequences -----------------------------------------------------------------------------------


def varlen_mask(segments: Tensor, begin: Tensor, end: Tensor, dtype: torch.dtype) -> VarlenMask:
    """Build a mask for variable-length attention.

    Parameters
    ----------
    segments
        As for `key_intervals`.
    begin, end
        int [R, T], from `key_intervals`.
    dtype
        Dtype of the queries.
    """
    rows, length = begin.shape
    row, offset, prefix, total = segments.long().unbind(1)
    start = row * length + offset
    # Cut at the ends of rows too, so that no sequence of padding is longer than a row.
    edges = torch.arange(rows + 1, device=segments.device) * length
    later_keys = end - torch.arange(1, length + 1, device=segments.device)
    return VarlenMask(
        prefixes=_bounds(start, start + prefix, start + total, edges),
        samples=_bounds(start, start + total, edges),
        max_length=length,
        is_bidirectional=(later_keys > 0)[..., None, None],
        sees_any=(begin < end)[..., None, None].to(dtype),
    )


def _bounds(*positions: Tensor) -> Tensor:
    """Sorted positions as int32; duplicates are replaced by the last position, so that the size is known in advance."""
    bounds = torch.cat(positions).sort().values
    duplicate = F.pad(bounds[1:] == bounds[:-1], (1, 0))
    bounds = torch.where(duplicate, bounds[-1], bounds).sort().values.int()
    # The number of samples varies from batch to batch; compiled code must not specialize on it.
    torch._dynamo.mark_dynamic(bounds, 0)
    return bounds


def _varlen(query: Tensor, key: Tensor, value: Tensor, mask: VarlenMask) -> Tensor:
    flat = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))

    def call(bounds: Tensor, ahead: int) -> Tensor:
        out = varlen_attn(*flat, bounds, bounds, mask.max_length, mask.max_length, window_size=(-1, ahead))
        assert isinstance(out, Tensor)
        return out.view_as(query)

    return torch.where(mask.is_bidirectional, call(mask.prefixes, -1), call(mask.samples, 0))
