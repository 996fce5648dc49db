"""How a build's time, memory and disk grow with its data, and what that says about 40 billion tokens.

    python -m tests.benchmarks.scale                          # 1x, 4x, 16x: 0.26, 1, 4.2 GB of text
    python -m tests.benchmarks.scale --unit-mb 16 --factors 1 # a small one
    python -m tests.benchmarks.scale --rows 1M 10M            # short pairs instead (tests.benchmarks.rows)

Pairs with planted exact and near duplicates (tests.benchmarks.texts), half of
them in JSON lines and half in Parquet, go through every stage, with an eval set
that a few of them leak. Per size: seconds of each stage, MB of text per second
and core, the peak of the resident memory of all processes together (shared
pages count for each), and of disk. A small build goes before, so that compiled
kernels are in their cache.
"""

import argparse
import math
import os
import platform
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import yaml
from pydantic import ByteSize, TypeAdapter
from rich.console import Console
from rich.table import Table

from pipeline.build import build
from pipeline.engine.budget import affordable_workers
from pipeline.engine.progress import Display
from tests.benchmarks import rows
from tests.benchmarks.texts import EXACT, NEAR, write_texts

FILES = 8
GOAL_TOKENS = 40e9
SERIAL = ("assemble", "publish")
"""Stages that one process does alone, in time that grows with the data; `tokenizer` takes the same time for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one build came to."""

    bytes: int
    """Of text: instructions and responses."""
    rows: int
    kept: int
    tokens: int
    stages: dict[str, float]
    """Seconds of each stage."""
    seconds: float
    memory: int
    disk: int
    """Bytes of the dataset and of the intermediate results, inputs not counted."""


class Peaks:
    """Samples the resident memory of this process and its descendants, and the disk under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.memory, self.disk = folder, 0, 0

    def __enter__(self) -> "Peaks":
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=watch, daemon=True) for watch in (self._watch_memory, self._watch_disk)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch_memory(self) -> None:
        while not self._stop.wait(0.05):
            self.memory = max(self.memory, self.resident())

    @staticmethod
    def resident() -> int:
        """Bytes that this process and its descendants have in memory now."""
        me, total = psutil.Process(), 0
        for process in [me, *me.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def _watch_disk(self) -> None:
        while not self._stop.wait(1.0):
            self.disk = max(self.disk, _disk(self.folder))


def _disk(folder: Path) -> int:
    """Bytes on disk of all files; one with two names counts once."""
    sizes = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))
            except FileNotFoundError:
                continue
            sizes[status.st_ino] = 512 * status.st_blocks
    return sum(sizes.values())


def write_mix(folder: Path, megabytes: float) -> tuple[int, int]:
    """Write `folder`/mix.yaml, with `megabytes` of text to train on and an eval set; returns bytes of text and rows."""
    size, rows = write_texts(folder / "data", megabytes, files=FILES)
    # Its first rows are those of the training set.
    write_texts(folder / "held", 0.05, files=1)
    manifest = {
        "name": "benchmark",
        "sources": [{"name": "made-up", "path": "data"}, {"name": "held", "path": "held", "role": "eval"}],
        "tokenizer": {"vocab_size": 16_384, "sample_bytes": "8MB"},
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(manifest))
    return size, rows


def measure(folder: Path, megabytes: float, workers: int) -> Measured:
    """Generate a mix and build it."""
    size, rows = write_mix(folder, megabytes)
    out = folder / "out"
    out.mkdir()
    with open(os.devnull, "w") as silent, Peaks(out) as peaks:
        display = Display(silent)
        begin = time.monotonic()
        built = build(folder / "mix.yaml", out=out, workers=workers, display=display)
        seconds = time.monotonic() - begin
        disk = _disk(out)
    stages: dict[str, float] = {}
    for stage in display.stages:
        stages[stage.name] = stages.get(stage.name, 0.0) + stage.seconds
    return Measured(
        bytes=size,
        rows=rows,
        kept=built.dataset.counts["made-up"].kept,
        tokens=built.dataset.tokens,
        stages=stages,
        seconds=seconds,
        memory=peaks.memory,
        disk=max(disk, peaks.disk),
    )


def _stage_table(measured: Sequence[Measured], workers: int) -> Table:
    table = Table(title=f"seconds (MB of text per second and core), {workers} workers", title_justify="left")
    table.add_column("stage")
    for one in measured:
        table.add_column(f"{one.bytes / 1e6:,.0f} MB", justify="right")
    lines = {name: [one.stages.get(name, 0.0) for one in measured] for name in measured[-1].stages}
    lines["end to end"] = [one.seconds for one in measured]
    for name, spent in lines.items():
        rates = [
            one.bytes / 1e6 / seconds / workers if seconds else 0.0
            for one, seconds in zip(measured, spent, strict=True)
        ]
        table.add_row(name, *(f"{seconds:.1f} ({rate:,.1f})" for seconds, rate in zip(spent, rates, strict=True)))
    return table


def _size_table(measured: Sequence[Measured], memory: int) -> Table:
    table = Table(title=f"memory and disk; --memory {memory / 1e9:.1f}GB", title_justify="left")
    for name in ("text", "rows", "kept", "tokens", "peak memory", "of the cap", "disk", "disk / text"):
        table.add_column(name, justify="right")
    for one in measured:
        table.add_row(
            f"{one.bytes / 1e6:,.0f} MB",
            f"{one.rows:,}",
            f"{one.kept / one.rows:.1%}",
            f"{one.tokens:,}",
            f"{one.memory / 1e6:,.0f} MB",
            f"{one.memory / memory:.0%}",
            f"{one.disk / 1e6:,.0f} MB",
            f"{one.disk / one.bytes:.2f}",
        )
    return table


def exponent(measured: Sequence[Measured]) -> float:
    """Slope of log time over log size, fitted over all sizes: 1 is linear."""
    sizes, seconds = (
        [math.log(value) for value in values] for values in zip(*((m.bytes, m.seconds) for m in measured), strict=True)
    )
    return float(np.polyfit(sizes, seconds, 1)[0])


def hours(largest: Measured, workers: int, size: float, cores: int) -> float:
    """Time for `size` bytes of text on `cores` cores, from the rates of the largest build.

    Serial stages grow with the size, the tokenizer's not at all, and all others are shared out evenly.
    """
    growth = size / largest.bytes
    seconds = 0.0
    for name, spent in largest.stages.items():
        if name == "tokenizer":
            seconds += spent
        elif name in SERIAL:
            seconds += spent * growth
        else:
            seconds += spent * growth * workers / cores
    return seconds / 3600


def _extrapolate(largest: Measured, workers: int, screen: Console) -> None:
    size = GOAL_TOKENS * largest.bytes * largest.kept / largest.rows / largest.tokens
    # The made-up texts take more bytes a token than real ones do; what is stated is bytes.
    size = min(size, 175e9)
    written = largest.disk / largest.bytes
    table = Table(title=f"extrapolated to {size / 1e9:,.0f} GB of text", title_justify="left")
    for name in ("cores", "hours", "MB/s", "MB/s per core", "disk written, MB/s"):
        table.add_column(name, justify="right")
    for cores in (2, 16, 64):
        time_ = hours(largest, workers, size, cores)
        rate = size / 1e6 / (time_ * 3600)
        table.add_row(str(cores), f"{time_:.1f}", f"{rate:,.0f}", f"{rate / cores:.1f}", f"{rate * written:,.0f}")
    screen.print(table)
    screen.print(
        "assumptions: the rates of the largest build hold; stages of many steps are shared out evenly over the cores; "
        f"{', '.join(SERIAL)} run on one core; the tokenizer's sample does not grow; the disk keeps up with what the "
        f"last column says and has {size * written / 1e9:,.0f} GB free; the inputs are in at least as many files as "
        "there are cores"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.scale",
        description="Measure how builds grow: time, memory, disk.",
        epilog="example: python -m tests.benchmarks.scale --unit-mb 16 --factors 1 4",
    )
    parser.add_argument("--unit-mb", type=float, default=260.0, help="MB of text at 1x (default: 260)")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 16], help="sizes (default: 1 4 16)")
    parser.add_argument("--rows", type=rows.number, nargs="+", help="numbers of short pairs instead, as in 1M 10M")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--memory", type=TypeAdapter(ByteSize).validate_python, default="3GB", help="cap (default: 3GB)"
    )
    parser.add_argument("--folder", help="where inputs and datasets are put, about 4 times the largest size")
    options = parser.parse_args(arguments)
    screen = Console(width=120, highlight=False)
    workers = affordable_workers(options.workers, options.memory)
    screen.print(
        f"{EXACT:.0%} exact and {NEAR:.0%} near duplicates planted; {2 if options.rows else FILES} files; "
        f"{workers} workers, --memory {options.memory / 1e9:.1f}GB; "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder) / "small", 0.5, workers)
    if options.rows:
        rows.run(options.rows, workers, options.folder, screen)
        return
    measured = []
    for factor in options.factors:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            measured.append(measure(Path(folder) / "mix", factor * options.unit_mb, workers))
    screen.print(_stage_table(measured, workers))
    screen.print(_size_table(measured, options.memory))
    if len(measured) > 1:
        screen.print(f"time grows as size to the power of {exponent(measured):.3f}\n")
    _extrapolate(measured[-1], workers, screen)


if __name__ == "__main__":
    main()
