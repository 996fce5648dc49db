"""`python -m tests.benchmarks.checkpoint`: how long saving blocks training, and how long saving and loading take.

    model, optimizer ─▶ CheckpointManager.save, as in training: to a local disk, and to an S3 server on this machine
                                                                        (rclone serve s3, which writes to the disk)

For each location, measured for a model with its optimizer (weights, both moments, averaged weights; float32):

    stall         time for which `save` blocks the training loop if the previous save is complete; the first save
                  allocates the buffers for the copies, later ones reuse them
    background    from then on until the commit record is stored: files, hashes, fsync or verified upload
    computation   speed of computation meanwhile, relative to its speed when nothing is saved (matrix products on one
                  thread, so that the writer has a core of its own if there are two)
    synchronous   time until a save is complete; for comparison that of torch.save to one file, without hashes, commit
                  record or upload
    load          find the newest checkpoint, verify all hashes, read the tensors into model and optimizer

Loading reads files that the page cache may still hold.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from corpus.contract import START
from model.config import config_for
from model.hrm import HRM
from tests.benchmarks.rclone import serve_s3
from trainer.checkpointing.manager import CheckpointManager
from trainer.optim import AdamAtan2
from trainer.position import Position


class Trained:
    """A model and its optimizer in the middle of training."""

    def __init__(self, layers: int):
        self.config = config_for("B", vocab_size=21_504, num_layers=layers)
        self.model = HRM(self.config, seed=0)
        self.optimizer = AdamAtan2(self.model.named_parameters(), lr=1e-4)
        for state in self.optimizer.state.values():  # zeros would compress
            state["m"].normal_()
            state["v"].normal_()

    @property
    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"model": self.model.state_dict(), **self.optimizer.named_state()}

    @property
    def sidecars(self) -> dict[str, str]:
        tokenizer = Tokenizer(WordLevel({START: 0}, unk_token=START))
        tokenizer.add_special_tokens([START])
        config = {"model": asdict(self.config), "special": {START: 0}}
        return {"config.json": json.dumps(config), "tokenizer.json": tokenizer.to_str(), "manifest.json": "{}"}

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for group in self.tensors.values() for tensor in group.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements at one location, in seconds except for `computation`."""

    first_stall: float
    stall: float
    background: float
    computation: float
    """Fraction of the undisturbed speed."""
    synchronous: float
    load: float


def measure(trained: Trained, location: str, staging: Path, saves: int) -> Measured:
    """Save `saves` times as in training, then once synchronously, then load."""
    checkpoints = CheckpointManager(location, staging=staging, keep=1)
    step = 0

    def save() -> float:
        nonlocal step
        step += 1
        began = time.perf_counter()
        checkpoints.save(position(step), trained.tensors, sidecars=trained.sidecars)
        return time.perf_counter() - began

    undisturbed = products_per_second(lambda seconds: seconds < 2)
    stalls, speeds, written = [], [], []
    for _ in range(saves):
        stalls.append(save())
        speeds.append(products_per_second(lambda _: not written_by(checkpoints, written)))
    began = time.perf_counter()
    save()
    checkpoints.wait()
    synchronous = time.perf_counter() - began

    fresh = CheckpointManager(location, staging=staging, keep=1)
    began = time.perf_counter()
    newest = fresh.newest()
    assert newest is not None
    newest.load_into(trained.tensors)
    load = time.perf_counter() - began
    fresh.clean()
    return Measured(
        first_stall=stalls[0],
        stall=statistics.median(stalls[1:]),
        background=statistics.median(written),
        computation=statistics.median(speeds) / undisturbed,
        synchronous=synchronous,
        load=load,
    )


def position(step: int) -> Position:
    return Position(step=step, updates=step, plan_key="", plan_hash="", epoch=0, chunk=0, next_batch=step)


def written_by(checkpoints: CheckpointManager, written: list[float]) -> bool:
    """Whether a checkpoint was completed since the last call; appends its write time to `written`."""
    saved = checkpoints.collect()
    written += [one.write_seconds for one in saved]
    return bool(saved)


def products_per_second(go_on: Callable[[float], bool]) -> float:
    """Matrix products per second, computed while `go_on` of the elapsed seconds is true."""
    a = torch.randn(512, 512)
    out = torch.empty_like(a)
    count, began = 0, time.perf_counter()
    while go_on(time.perf_counter() - began):
        torch.mm(a, a, out=out)
        count += 1
    return count / (time.perf_counter() - began)


def torch_save(trained: Trained, folder: Path) -> float:
    """Seconds until torch.save has written the state to the disk as one file."""
    began = time.perf_counter()
    with (folder / "state.pt").open("wb") as file:
        torch.save(trained.tensors, file)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    (folder / "state.pt").unlink()
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.checkpoint",
        description="Measure checkpoints on a local disk and on S3.",
        epilog="example: python -m tests.benchmarks.checkpoint --layers 2 --saves 2 --folder /mnt/scratch",
    )
    parser.add_argument("--layers", type=int, default=4, help="layers of width 1024; 4 have 100 M parameters")
    parser.add_argument("--saves", type=int, default=3, help="asynchronous saves to each location (default: 3)")
    parser.add_argument("--folder", type=Path, help="where to write four times the size of the state (default: /tmp)")
    options = parser.parse_args(arguments)
    if options.saves < 2:
        parser.error("--saves must be at least 2, because the first save is measured separately")
    torch.set_num_threads(1)
    trained = Trained(options.layers)
    screen = Console(width=110, highlight=False)
    screen.print(
        f"{trained.config.parameters / 1e6:,.0f} M parameters, {trained.bytes / 2**30:.2f} GiB of state, "
        f"{options.saves} asynchronous saves to each location; {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}\n"
    )
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        plain = torch_save(trained, folder)
        for place in ("local disk", "S3"):
            with serve_s3(folder / "objects") if place == "S3" else nullcontext(str(folder / "checkpoints")) as where:
                location = f"{where}/checkpoints" if place == "S3" else where
                found[place] = measure(trained, location, folder / "staging", options.saves)
            shutil.rmtree(folder / ("objects" if place == "S3" else "checkpoints"))
    table = Table(title="Checkpoints", title_justify="left")
    for name in ("", *found):
        table.add_column(name, justify="right" if name else "left")
    rows: dict[str, Callable[[Measured], str]] = {
        "stall of an asynchronous save, the first": lambda m: f"{m.first_stall:.2f} s",
        "stall of an asynchronous save, median of the others": lambda m: f"{m.stall:.2f} s",
        "   then in the background": lambda m: f"{m.background:.2f} s",
        "   speed of computation meanwhile": lambda m: f"{m.computation:.0%}",
        "stall of a synchronous save": lambda m: f"{m.synchronous:.2f} s",
        "   times as long": lambda m: f"{m.synchronous / m.stall:.0f}",
        "load, verified": lambda m: f"{m.load:.2f} s",
    }
    for name, shown in rows.items():
        table.add_row(name, *(shown(measured) for measured in found.values()))
    table.add_row("torch.save to one file, for comparison", f"{plain:.2f} s", "")
    screen.print(table)


if __name__ == "__main__":
    main()
