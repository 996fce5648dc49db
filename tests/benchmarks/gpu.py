"""`python -m tests.benchmarks.gpu`: all that a GPU has to show about the project, in one call of about five minutes.

    python -m pipeline.build manifests/mix.yaml --out out/mix        on a machine with all extras
    python -m tests.benchmarks.gpu --data out/mix --out out/gpu      on the GPU machine, which needs no network

Training steps of L and XL at the paper's batch of one GPU, L in float8, a run of the trainer beside one that is killed
and continued, the tests marked `gpu`, and generation are parts, each in processes of its own: one that fails or takes
too long does not keep the others from running. The results are printed as one block with the device and the versions;
what the parts print is in files under OUT. `--tiny` runs the same on a CPU, with tiny sizes.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.sinks.jsonl import FILE

MODEL = (sys.executable, "-m", "tests.benchmarks.model")
LINES = 40
"""Last lines of a part's output that are among the results."""


class PartError(Exception):
    """A part failed; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings shared by all parts."""

    data: Path
    """The embedded mix, built."""
    out: Path
    tiny: bool
    deadline: float
    """Value of `time.monotonic` at which parts that have not ended are ended."""

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the processes."""
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.tiny else {}
        return {**os.environ, **hidden, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}

    def run(self, name: str, command: Sequence[str], *, seconds: float) -> str:
        """Run a command; its output goes to OUT/NAME.txt and is returned.

        Raises
        ------
        PartError
            It fails, or takes longer than `seconds` (not with `tiny`) or until the deadline.
        """
        left = self.deadline - time.monotonic()
        seconds = left if self.tiny else min(seconds, left)
        file = self.out / f"{name}.txt"
        try:
            with file.open("w") as output:
                code = subprocess.run(
                    command, stdout=output, stderr=subprocess.STDOUT, env=self.environment, timeout=max(1, seconds)
                ).returncode
        except subprocess.TimeoutExpired:
            raise PartError(f"ended after {seconds:.0f} s\n{_last(file)}") from None
        if code:
            raise PartError(f"exit code {code}\n{_last(file)}")
        return file.read_text()


def steps_of(size: str, *options: str, seconds: float) -> Callable[[Settings], str]:
    """A part that measures training steps of a model by `tests.benchmarks.model`."""

    def part(settings: Settings) -> str:
        scale = ("--size", size, "--compile", *options)
        if settings.tiny:
            scale = ("--size", "tiny", "--device", "cpu", "--kernels", "dense", "--rows", "1", "--length", "32")
            scale += ("--steps", "1", "--vocab-size", "64", "--recompute", "elementwise", "--profile")
        name = "_".join([size, *(option.strip("-") for option in options[:3])])
        return settings.run(name, (*MODEL, "--k", "5", *scale), seconds=seconds)

    return part


def trained(settings: Settings) -> str:
    """Train twice, the second time killed in the middle, and compare the losses."""
    if not (settings.data / "dataset.json").exists():
        raise PartError(f"{settings.data} is no built dataset: build manifests/mix.yaml, and set --data")
    whole, killed = settings.out / "whole", settings.out / "killed"
    for folder in (whole, killed):
        shutil.rmtree(folder, ignore_errors=True)
    settings.run("train_whole", _training(settings, whole), seconds=90)
    half = _training_steps(settings) * 6 // 10
    with (settings.out / "train_killed.txt").open("w") as output:
        process = subprocess.Popen(
            _training(settings, killed), stdout=output, stderr=subprocess.STDOUT, env=settings.environment
        )
        while process.poll() is None and time.monotonic() < settings.deadline and len(_records(killed)) < half:
            time.sleep(0.05)
        process.kill()
        process.wait()
    before = len(_records(killed))
    settings.run("train_continued", _training(settings, killed), seconds=60)
    return f"killed when {before} steps were recorded\n{compared(_records(whole), _records(killed))}"


def _training_steps(settings: Settings) -> int:
    return 10 if settings.tiny else 60


def _training(settings: Settings, out: Path) -> list[str]:
    """Command of a training run of 60 steps of B, with a checkpoint every ten."""
    steps = _training_steps(settings)
    changes = ["device=cuda", "precision=bf16", "compile=true", "model.size=B"]
    changes += ["batch.tokens=16384", "batch.row_tokens=4096"]
    if settings.tiny:
        changes = ["device=cpu", "model.size=tiny", "batch.tokens=256", "batch.row_tokens=128"]
    return [
        *(sys.executable, "-m", "trainer.train", "manifests/train.yaml", f"data={settings.data}", f"out={out}"),
        *(*changes, "distribution=fsdp2", f"steps={steps}", f"checkpoint.every={steps // 6}"),
        *("eval.rows_per_family=0", "schedule.warmup_steps=10"),
    ]


def _records(folder: Path) -> list[dict[str, Any]]:
    """Records of the steps of a run; a line that is being written is left out."""
    if not (folder / FILE).exists():
        return []
    lines = (folder / FILE).read_text().split("\n")[:-1]
    return [record for record in map(json.loads, lines) if record["kind"] == "step"]


def compared(whole: Sequence[dict[str, Any]], killed: Sequence[dict[str, Any]]) -> str:
    """Describe how the losses of two runs differ, and the speed of the first."""
    first, second = ({record["step"]: record for record in records} for records in (whole, killed))
    if not first or first.keys() != second.keys():
        raise PartError(f"{len(first)} and {len(second)} steps were recorded, expected the same steps")
    differing = [step for step in first if first[step]["loss"] != second[step]["loss"]]
    largest = max(abs(first[step]["loss"] - second[step]["loss"]) for step in first)
    same = (
        "all losses are the same bit for bit"
        if not differing
        else (f"{len(differing)} losses differ, from step {min(differing)} on, by at most {largest:.3g}")
    )
    late = [first[step] for step in sorted(first)[len(first) // 2 :]]
    seconds, waited, speed = (
        statistics.median(record[key] for record in late)
        for key in ("step_seconds", "data_wait_seconds", "tokens_per_second")
    )
    ks = sorted({record["k"] for record in first.values()})
    slowest = max(record["step_seconds"] for record in first.values())
    return (
        f"{len(first)} steps, K from {ks[0]} to {ks[-1]}: {same}\n"
        f"later half: {speed:,.0f} tokens/s, step {seconds:.4f} s, data wait {waited / seconds:.2%}; "
        f"slowest step {slowest:.2f} s"
    )


def tested(settings: Settings) -> str:
    """Run the tests marked `gpu`."""
    chosen = (
        ["tests/model/test_loss.py"]
        if settings.tiny
        else ["tests/model", "tests/trainer/checkpointing", "tests/trainer/test_fused.py", "-m", "gpu", "-n", "4"]
    )
    command = [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider", "--timeout=120", "--durations=3"]
    command += ["--continue-on-collection-errors"]  # of files whose packages this machine does not have
    output = settings.run("tests", command, seconds=120)
    return "\n".join(line for line in output.splitlines() if " passed" in line or line.startswith(("FAILED", "ERROR")))


def generated(settings: Settings) -> str:
    """Measure generation by `tests.benchmarks.generate`."""
    scale = ["--size", "L", "--rows", "1", "64", "256", "--device", "cuda", "--vocab-size", "65536"]
    if settings.tiny:
        scale = ["--rows", "1", "--prompt-tokens", "4", "--new-tokens", "4", "--vocab-size", "64"]
    scale += ["--ways", "cached", "captured", "transformers", "--tables"]
    return settings.run("generate", [sys.executable, "-m", "tests.benchmarks.generate", *scale], seconds=90)


FITTING = ("--recompute", "elementwise", "--rows", "1", "--length")
PARTS: dict[str, Callable[[Settings], str]] = {
    "L": steps_of("L", *FITTING, "21504", "--kernels", "flex", "flex64", "--steps", "3", "--profile", seconds=100),
    "XL": steps_of("XL", *FITTING, "12288", "--kernels", "flex", "--steps", "3", "--profile", seconds=60),
    "train": trained,
    "float8": steps_of("L", "--float8", *FITTING, "21504", "--kernels", "flex", "--steps", "3", seconds=50),
    "tests": tested,
    "generate": generated,
    "earlier": steps_of("L", "--rows", "4", "--kernels", "flex", "--steps", "3", seconds=45),
}
"""Parts by name, in the order of their value. `earlier` is the measurement of the first day on a GPU."""


def about() -> list[str]:
    """Device and versions."""
    lines = [f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}"]
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        lines.append(f"{properties.name}, {properties.total_memory / 1e9:.1f} GB, driver {_driver()}")
    else:
        lines.append(f"no GPU, {os.cpu_count()} cores of {platform.machine()}")
    return lines


def _driver() -> str:
    """Version of the GPU's driver, as far as nvidia-smi is there and says it."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        found = []
    return found[0] if found else "unknown"


def _last(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").rstrip().splitlines()[-LINES:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu",
        description="Measure on a GPU: speed of L, XL and float8, a killed run beside a whole one, tests, generation.",
        epilog="example: python -m tests.benchmarks.gpu --data out/mix --out out/gpu --parts L train",
    )
    parser.add_argument("--data", type=Path, default=Path("out/mix"), help="the embedded mix (default: out/mix)")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder for the output (default: out/gpu)")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), help="default: all")
    parser.add_argument("--seconds", type=float, default=290, help="time for all parts (default: 290)")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on a CPU")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here: add --tiny to run the same with tiny sizes on a CPU")
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    settings = Settings(data=options.data, out=options.out, tiny=options.tiny, deadline=began + options.seconds)
    results, failed = [], False
    for name in options.parts:
        at = time.monotonic()
        if at >= settings.deadline:
            text = f"not run: the {options.seconds:.0f} s are over"
        else:
            try:
                text = "\n".join(PARTS[name](settings).rstrip().splitlines()[-LINES:])
            except PartError as error:
                text, failed = f"failed: {error}", True
        results.append(f"== {name}, {time.monotonic() - at:.0f} s\n{text}")
        print(f"{time.monotonic() - began:.0f} s: {name} done", flush=True)
    block = "\n".join([*about(), *results, f"== end, {time.monotonic() - began:.0f} s"])
    (options.out / "results.txt").write_text(block + "\n")
    print(block, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
