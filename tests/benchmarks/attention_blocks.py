"""`python -m tests.benchmarks.attention_blocks`: pairs that FlexAttention computes, against pairs that the mask shows.

    lengths of samples ─ trainer.data.plan ─▶ rows ─ model.attention, blocks of 128 and 64 ─▶ blocks computed

FlexAttention skips a block of queries × keys only if no pair of it is visible, and applies the mask in blocks that are
visible in part. Counted is a head of a layer in the forward pass; the backward pass computes the same blocks. Counts
say nothing about time: a kernel with smaller blocks does more work per pair. `model.kernels` measures that on a GPU.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from model.attention import BlockedMask, Kernel, mask_of
from model.flops import visible_pairs
from trainer.data.pack import pack_rows, positions

KERNELS: tuple[tuple[Kernel, int], ...] = (("flex", 128), ("flex64", 64))
BATCH_ROWS = 8


def drawn_lengths(mean: float, longest: int, samples: int) -> NDArray[np.uint16]:
    """Lognormal lengths [N, 2] of about this mean, a third of each the prefix."""
    rng = np.random.default_rng(0)
    total = np.clip(rng.lognormal(np.log(mean) - 0.5, 1.0, samples), 4, longest).astype(np.int64)
    prefix = -(-total // 3)
    return np.stack([prefix, total - prefix], 1).astype(np.uint16)


def packed(lengths: NDArray[np.uint16], row_tokens: int, rows: int) -> list[Tensor]:
    """Segments [S, 4] of batches of `BATCH_ROWS` rows, packed as in training from samples in random order."""
    order = np.random.default_rng(1).permutation(len(lengths)).astype(np.uint32)
    samples, row_ends = pack_rows(order, positions(order, lengths), BATCH_ROWS, row_tokens)
    begins = np.concatenate(([0], row_ends))
    batches = []
    # The last batch is filled in part.
    for first in range(0, min(rows, len(row_ends) - BATCH_ROWS), BATCH_ROWS):
        lines = []
        for row in range(BATCH_ROWS):
            at = 0
            for sample in samples[begins[first + row] : begins[first + row + 1]]:
                prefix, response = lengths[sample].tolist()
                lines.append((row, at, prefix, prefix + response - 1))
                at += prefix + response - 1
        batches.append(torch.tensor(lines, dtype=torch.int32))
    return batches


def counted(batches: Sequence[Tensor], row_tokens: int, kernel: Kernel) -> tuple[int, int]:
    """Number of blocks that are computed, and of those in which the mask is applied."""
    computed = partial = 0
    for segments in batches:
        mask = mask_of(segments, rows=BATCH_ROWS, length=row_tokens, dtype=torch.bfloat16, kernel=kernel)
        assert isinstance(mask, BlockedMask)
        masked, full = int(mask.blocks.kv_num_blocks.sum()), int(mask.blocks.full_kv_num_blocks.sum())
        computed, partial = computed + masked + full, partial + masked
    return computed, partial


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.attention_blocks")
    parser.add_argument(
        "--dataset", type=Path, help="built dataset whose lengths are used (default: lognormal lengths)"
    )
    parser.add_argument("--mean", type=float, default=237, help="mean of lognormal lengths (default: 237)")
    parser.add_argument("--row-tokens", type=int, nargs="+", default=[4096, 21_504], help="default: 4096 21504")
    parser.add_argument("--rows", type=int, default=64, help="rows that are counted (default: 64)")
    options = parser.parse_args(arguments)
    if options.dataset is None:
        lengths = drawn_lengths(options.mean, 4096, 40_000)
        source = f"lognormal lengths, mean {options.mean:g} asked for"
    else:
        lengths, source = np.load(options.dataset / "lengths.npy"), str(options.dataset)
    total = lengths.sum(1, dtype=np.int64)  # tokens, one more than the positions
    quartiles = ", ".join(f"{value:.0f}" for value in np.quantile(total, (0.25, 0.5, 0.75)))
    table = Table(title=f"{source}: mean {total.mean():.0f} tokens, quartiles {quartiles}", title_justify="left")
    columns = ("row", "block", "blocks", "masked", "pairs computed / token", "visible / token", "computed : visible")
    for column in columns:
        table.add_column(column, justify="right")
    for row_tokens in options.row_tokens:
        batches = packed(lengths[total <= row_tokens + 1], row_tokens, options.rows)
        every = torch.cat(batches)
        tokens = int(every[:, 3].sum())
        visible = visible_pairs(every[:, 2], every[:, 3], "prefix_lm")
        for kernel, block in KERNELS:
            computed, partial = counted(batches, row_tokens, kernel)
            pairs = computed * block**2
            table.add_row(
                *(f"{row_tokens:,}", f"{block}", f"{computed:,}", f"{partial / computed:.0%}"),
                *(f"{pairs / tokens:.0f}", f"{visible / tokens:.0f}", f"{pairs / visible:.2f}"),
            )
    Console(width=120, highlight=False).print(table)


if __name__ == "__main__":
    main()
