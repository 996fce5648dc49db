"""How fast a build is, and how much memory it takes.

    python -m tests.benchmarks.build --mb 64

Generates a mix of the stated size, builds it with 1 and 2 workers, and prints
per stage and end to end: seconds, MB/s of input, rows/s, tokens/s, and the peak
of the resident memory of all processes together. A small build goes before, so
that compiled kernels are in their cache. The first stage pays for the start of
the workers.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml
from rich.console import Console
from rich.table import Table

from pipeline.build import build, default_work
from pipeline.manifest import load
from pipeline.progress import Display

FILES = 8
DUPLICATES = 0.05


def write_mix(folder: Path, megabytes: float) -> int:
    """A mix of JSONL files with `megabytes` in all; returns their exact size in bytes.

    Words are drawn by a Zipf law from 50,000 made-up ones; 5 % of the rows repeat an earlier one.
    """
    draw = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, weights=range(26, 0, -1), k=draw.randint(1, 10))) for _ in range(50_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    total = 0
    (folder / "data").mkdir(parents=True)
    for number in range(FILES):
        with (folder / f"data/part-{number}.jsonl").open("w") as file:
            row = {"instruction": "", "response": ""}
            while file.tell() < megabytes * 1e6 / FILES:
                if draw.random() >= DUPLICATES or not row["instruction"]:
                    text = draw.choices(words, weights, k=draw.randint(30, 350))
                    cut = draw.randint(5, len(text) - 5)
                    row = {"instruction": " ".join(text[:cut]), "response": " ".join(text[cut:])}
                file.write(json.dumps(row) + "\n")
            total += file.tell()
    manifest = {
        "name": "benchmark",
        "sources": [{"name": "made-up", "path": "data"}],
        "tokenizer": {"vocab_size": 16_384, "sample_bytes": "8MB"},
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(manifest))
    return total


class PeakMemory:
    """Samples the resident memory of this process and its descendants, together, until it is left."""

    def __enter__(self) -> "PeakMemory":
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.bytes = max(self.bytes, total)


def measure(folder: Path, size: int, workers: int, screen: Console) -> None:
    """Build once and print the table."""
    with tempfile.TemporaryDirectory() as out, open(os.devnull, "w") as silent, PeakMemory() as memory:
        display = Display(silent)
        begin = time.monotonic()
        work = default_work(out)
        dataset = build(load(folder / "mix.yaml"), folder, out=out, workers=workers, work=work, display=display).dataset
        seconds = time.monotonic() - begin
    rows = sum(count["rows"] for count in dataset["counts"].values())
    table = Table(title=f"{workers} worker{'s' if workers > 1 else ''}", title_justify="left")
    for name in ("stage", "seconds", "MB/s", "rows/s", "tokens/s"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, spent in [(stage.name, stage.seconds) for stage in display.stages] + [("end to end", seconds)]:
        per_second = [size / 1e6 / spent, rows / spent, dataset["tokens"] / spent]
        table.add_row(name, f"{spent:.2f}", f"{per_second[0]:.1f}", *(f"{value:,.0f}" for value in per_second[1:]))
    screen.print(table)
    per_core = size / 1e6 / seconds / workers
    screen.print(f"{per_core:.1f} MB/s per worker; peak memory of all processes {memory.bytes / 2**20:,.0f} MiB\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.build", description="Measure builds.")
    parser.add_argument("--mb", type=float, default=64.0, help="size of the generated mix in MB (default: 64)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default: 1 2)")
    options = parser.parse_args(arguments)
    screen = Console(width=100, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        write_mix(small, 0.5)
        size = write_mix(large, options.mb)
        screen.print(
            f"{size / 1e6:.1f} MB of JSONL in {FILES} files, {DUPLICATES:.0%} duplicates; "
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
        )
        measure(small, 1, 1, Console(quiet=True))
        for workers in options.workers:
            measure(large, size, workers, screen)


if __name__ == "__main__":
    main()
