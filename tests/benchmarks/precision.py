"""`python -m tests.benchmarks.precision DATASET`: held-out loss of bf16 beside fp32, over several seeds.

    dataset of manifests/mix.yaml ─ trainer.train for each precision and seed ─▶ loss and exact match by step

All other settings are those of manifests/train.yaml. On a GPU `--set device=cuda` and other keys of the manifest may be
given, `--precisions` also takes float8.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "fp32": ("precision=fp32",),
    "bf16": ("precision=bf16",),
    "float8": ("precision=bf16", "float8=true"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.precision", description=__doc__.splitlines()[0])
    parser.add_argument("data", help="a dataset that pipeline.build wrote")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=list(SETTINGS))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of the training manifest")
    options = parser.parse_args(arguments)
    every = max(options.steps // 4, 1)
    common = [f"data={Path(options.data).resolve()}", f"steps={options.steps}", f"eval.every={every}"]
    common += ["checkpoint.keep=1", *options.set]

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:

        def train(run: tuple[int, str]) -> dict[int, tuple[float, float]]:
            seed, precision = run
            out = Path(folder) / f"{precision}-{seed}"
            command = [sys.executable, "-m", "trainer.train", str(ROOT / "manifests/train.yaml"), f"out={out}"]
            command += [f"seed={seed}", *common, *SETTINGS[precision]]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{precision}, seed {seed}: {done.stderr[-2000:]}")
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            return {line["step"]: (line["loss"], line["exact_match"]) for line in lines if line["kind"] == "eval"}

        runs = [(seed, precision) for seed in range(options.seeds) for precision in options.precisions]
        found = dict(zip(runs, pool.map(train, runs), strict=True))

    print(f"{options.seeds} seeds, held-out loss and exact match: mean ± standard deviation")
    for step in sorted(found[runs[0]]):
        for precision in options.precisions:
            losses, matches = zip(*(found[seed, precision][step] for seed in range(options.seeds)), strict=True)
            spread = [stdev(values) if len(values) > 1 else 0.0 for values in (losses, matches)]
            print(
                f"step {step:>6,}  {precision:6}  loss {mean(losses):.4f} ± {spread[0]:.4f}  "
                f"exact match {mean(matches):.4f} ± {spread[1]:.4f}"
            )
    if len(options.precisions) > 1:
        first, *others = options.precisions
        last = max(found[runs[0]])
        for other in others:
            differences = [found[seed, other][last][0] - found[seed, first][last][0] for seed in range(options.seeds)]
            print(f"{other} - {first} at step {last:,}, by seed: {', '.join(f'{value:+.4f}' for value in differences)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
