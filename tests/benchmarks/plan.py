"""How fast a batch plan is made, how full its rows are, and how long a run waits for its first batch.

    python -m tests.benchmarks.plan --samples 60000000

For each mean length: writes lognormal lengths of the stated number of samples, in strata of very different sizes, to a
file, and plans from it, memory-mapped as in training, in a process of its own:

    start     from nothing to the first batch: lengths checked, first chunk made, rows of a rank chosen
    resume    the same for a batch in the middle of an epoch, without the files of the run that stopped
    epoch     all chunks of an epoch; each sample must be in it once

Balance is the greatest Σ length² of a rank over the mean of all ranks: of all batches together (what a step waits for,
summed, over what it would wait for in perfect balance), and its median, 99th percentile and worst batch. One sample of
T tokens can be more than a rank's mean by itself. Compiling the kernels, once on a machine, is shown apart.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from trainer.data.draw import Stratum
from trainer.data.pack import share_rows, square_sums
from trainer.data.plan import Plan, PlanInputs, fit_lengths

BATCH_TOKENS, ROW_TOKENS, RANKS, STRATA = 196_608, 4096, 8, 200
SPREAD = 1.0
"""Standard deviation of the logarithm of a sample's length."""
BALANCED_CHUNKS = 8
"""Chunks in which the balance of every batch is looked at."""
BALANCE = {"of all": "weighted", "median": 50.0, "99 %": 99.0, "worst": 100.0}


def write_lengths(path: Path, samples: int, mean: float) -> float:
    """Lengths [N, 2] of which a third is prefix, clipped to a row; returns their mean."""
    rng = np.random.default_rng(0)
    lengths = np.lib.format.open_memmap(path, "w+", np.uint16, (samples, 2))
    tokens = 0
    # Clipping cuts the mean of long ones: the logarithm's mean is moved until it is right.
    draw = rng.standard_normal(1 << 16)
    low, high = 0.0, 12.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        shorter = np.exp(middle + SPREAD * draw).clip(8, ROW_TOKENS).mean() < mean
        low, high = (middle, high) if shorter else (low, middle)
    for begin in range(0, samples, 1 << 20):
        part = lengths[begin : begin + (1 << 20)]
        total = np.exp(low + SPREAD * rng.standard_normal(len(part), np.float32)).clip(8, ROW_TOKENS).astype(np.uint16)
        part[:, 0], part[:, 1] = total // 3, total - total // 3
        tokens += int(total.sum(dtype=np.int64))
    lengths.flush()
    return tokens / samples


def strata_of(samples: int) -> list[Stratum]:
    """Strata of which the largest are a thousand times as large as the smallest."""
    share = 1 / np.arange(1, STRATA + 1) ** 1.3
    ends = np.round(np.cumsum(share) / share.sum() * samples).astype(int).tolist()
    begins = [0, *ends[:-1]]
    return [
        Stratum(source="made-up", task=str(number), begin=begin, end=end, max_per_epoch=None, repeat=1)
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]


def measure(path: Path, what: str, folder: Path) -> dict[str, Any]:
    """One of `start`, `resume` and `epoch`, in this process."""
    inputs = PlanInputs(fingerprint="", seed=1, batch_tokens=BATCH_TOKENS, row_tokens=ROW_TOKENS, truncate=False)
    began = time.perf_counter()
    lengths = fit_lengths(np.load(path, mmap_mode="r"), row_tokens=ROW_TOKENS, truncate=False)
    strata = strata_of(len(lengths))
    plan = Plan(inputs, strata, lengths, folder)
    batches = plan.batches  # schedules ask for them at once
    if what != "epoch":
        chunk = plan.chunk(0, 0) if what == "start" else plan.chunk(2, plan.chunks // 2)
        chunk.rows_of_rank(chunk.batches // 2 if what == "resume" else 0, lengths, rank=0, world_size=RANKS)
        return {"seconds": time.perf_counter() - began, "chunks": plan.chunks, "batches": batches}

    seen = np.zeros(len(lengths), np.uint8)
    seconds = 0.0
    batches, packed, memory = 0, 0, 0
    heaviest, means = [], []
    for number in range(plan.chunks):
        began = time.perf_counter()
        chunk = plan.chunk(1, number)
        seconds += time.perf_counter() - began
        memory = max(memory, own_memory())
        seen[chunk.samples] += 1
        batches += chunk.batches
        packed += int(lengths[chunk.samples].sum(dtype=np.int64)) - len(chunk.samples)
        if number % max(1, plan.chunks // BALANCED_CHUNKS) == 0:
            work = square_sums(chunk.samples, lengths, chunk.row_begins).reshape(chunk.batches, -1)
            loads = np.array([np.bincount(share_rows(rows, RANKS), rows, RANKS) for rows in work])
            heaviest.append(loads.max(axis=1))
            means.append(loads.mean(axis=1))
    all_heaviest, all_means = np.concatenate(heaviest), np.concatenate(means)
    ratios = all_heaviest / all_means
    balance = [
        float(all_heaviest.sum() / all_means.sum() if at == "weighted" else np.percentile(ratios, at))
        for at in BALANCE.values()
    ]
    return {
        "seconds": seconds,
        "once": bool((seen == 1).all()),
        "batches": batches,
        "fill": packed / (batches * BATCH_TOKENS),
        "balance": balance,
        "memory": memory - seen.nbytes,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def own_memory() -> int:
    """Bytes of this process that are not pages of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def in_a_process(path: Path, what: str, cache: Path | None = None) -> dict[str, Any]:
    """`measure` in a fresh interpreter, with an empty folder for chunks."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "tests.benchmarks.plan", "--measure", what, str(path), folder]
        environment = {**os.environ, **({"NUMBA_CACHE_DIR": str(cache)} if cache else {})}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.plan",
        description="Measure batch plans.",
        epilog="example: python -m tests.benchmarks.plan --samples 5000000 --means 237",
    )
    parser.add_argument("--samples", type=int, default=60_000_000, help="samples of an epoch (default: 60,000,000)")
    parser.add_argument("--means", type=float, nargs="+", default=[237, 2400], help="mean lengths (default: 237 2400)")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        what, path, folder = options.measure
        print(json.dumps(measure(Path(path), what, Path(folder))))
        return
    screen = Console(width=110, highlight=False)
    screen.print(
        f"{options.samples:,} samples in {STRATA} strata, G = {BATCH_TOKENS:,}, T = {ROW_TOKENS:,}, {RANKS} ranks; "
        f"{platform.machine()}, {os.cpu_count()} cores, one used, Python {platform.python_version()}\n"
    )
    table = Table(title="Batch plan", title_justify="left")
    for name in ("", *(f"mean {mean:,.0f}" for mean in options.means)):
        table.add_column(name, justify="right" if name else "left")
    columns = []
    with tempfile.TemporaryDirectory() as place:
        few = Path(place) / "few.npy"
        write_lengths(few, 10_000, 237)
        with tempfile.TemporaryDirectory() as cache:
            compiled = in_a_process(few, "start", Path(cache))["seconds"]
        in_a_process(few, "epoch")
        for mean in options.means:
            path = Path(place) / "lengths.npy"
            found_mean = write_lengths(path, options.samples, mean)
            start, resume, epoch = (in_a_process(path, what) for what in ("start", "resume", "epoch"))
            rows = {
                "mean length found": f"{found_mean:,.1f}",
                "first batch at start": f"{start['seconds']:.2f} s",
                "first batch in mid-epoch": f"{resume['seconds']:.2f} s",
                "chunks of an epoch": f"{start['chunks']:,}",
                "batches of an epoch": f"{epoch['batches']:,}",
                "batches that schedules expect": f"{start['batches']:,}",
                "whole epoch": f"{epoch['seconds']:.1f} s",
                "speed": f"{options.samples / epoch['seconds'] / 1e6:.1f} M samples/s",
                "every sample once": "yes" if epoch["once"] else "NO",
                "rows filled": f"{epoch['fill']:.2%}",
                **{
                    f"Σ length², balance, {name}": f"{value:.3f}"
                    for name, value in zip(BALANCE, epoch["balance"], strict=True)
                },
                "own memory, at most": f"{epoch['memory'] / 2**20:,.0f} MiB",
                "peak with lengths mapped": f"{epoch['peak'] / 2**20:,.0f} MiB",
                "   of it lengths.npy": f"{path.stat().st_size / 2**20:,.0f} MiB",
                "   of it this check's count": f"{options.samples / 2**20:,.0f} MiB",
            }
            columns.append(rows)
    for name in columns[0]:
        table.add_row(name, *(rows[name] for rows in columns))
    screen.print(table)
    screen.print(f"first start on a machine, kernels compiled: {compiled:.1f} s more")


if __name__ == "__main__":
    main()
