"""`python -m tests.benchmarks.checkpoint`: how long a checkpoint holds training up, and what saving and loading take.

    model, optimizer ─▶ Checkpoints.save, as in training: on a local disk, and on an S3 server on this machine
                                                                            (rclone serve s3, which writes to the disk)

For each place, of a model with its optimizer (weights, both moments, averaged weights; float32):

    stall         how long `save` keeps the training loop waiting, when the save before it is done: the first one makes
                  its memory for the copies, the others use it again
    background    from then on until the commit record is there: files, hashes, fsync or verified upload
    computation   what the loop computes meanwhile, beside what it computes when nothing is saved (products of matrices,
                  one thread, so that there is a core for the writer where there are two)
    synchronous   a save that is waited for, which is what a loop without the background would stand still for; of
                  torch.save, one file without hash, commit record or upload, for comparison
    load          newest valid one found, all hashes verified, tensors read into the model and the optimizer

Reading profits from pages that the system still holds of what was just written.
"""

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from model.config import config_for
from model.hrm import HRM
from tests.benchmarks.rclone import serve_s3
from trainer.checkpointing.manager import CheckpointManager
from trainer.optim import AdamAtan2
from trainer.position import Position

SIDECARS = {"config.json": "{}", "tokenizer.json": "{}", "manifest.json": "{}"}


class Trained:
    """A model in the middle of training, and its checkpoints at one place."""

    def __init__(self, layers: int):
        self.config = config_for("B", vocab_size=21_504, num_layers=layers)
        self.model = HRM(self.config, seed=0)
        self.optimizer = AdamAtan2(self.model, betas=(0.9, 0.95), weight_decay=0.1, ema=0.9999)
        for tensors in (self.optimizer.m, self.optimizer.v):  # zeros would be easier to store
            for tensor in tensors:
                tensor.normal_()

    @property
    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"model": self.model.state_dict(), **self.optimizer.state_dict()}

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for group in self.tensors.values() for tensor in group.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds, except for `computation`."""

    first_stall: float
    stall: float
    background: float
    computation: float
    """Share of the undisturbed speed."""
    synchronous: float
    load: float


def measure(trained: Trained, place: str, staging: Path, saves: int) -> Measured:
    """Save `saves` times as training does, then once synchronously, then load."""
    checkpoints = CheckpointManager(place, staging=staging, keep=1)
    step = 0

    def save() -> float:
        nonlocal step
        step += 1
        began = time.perf_counter()
        checkpoints.save(position(step), trained.tensors, sidecars=SIDECARS)
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

    fresh = CheckpointManager(place, staging=staging, keep=1)
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
    """Whether a checkpoint has been finished since the last call; notes how long it took."""
    saved = checkpoints.collect()
    written += [one.write_seconds for one in saved]
    return bool(saved)


def products_per_second(go_on: Callable[[float], bool]) -> float:
    """Speed of products of matrices, as long as `go_on` says of the seconds so far."""
    a = torch.randn(512, 512)
    out = torch.empty_like(a)
    count, began = 0, time.perf_counter()
    while go_on(time.perf_counter() - began):
        torch.mm(a, a, out=out)
        count += 1
    return count / (time.perf_counter() - began)


def torch_save(trained: Trained, folder: Path) -> float:
    """Seconds until one file with everything is on the disk."""
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
    parser.add_argument("--layers", type=int, default=4, help="of a model that is 1024 wide; 4 have 100 M parameters")
    parser.add_argument("--saves", type=int, default=3, help="asynchronous saves at each place (default: 3)")
    parser.add_argument("--folder", type=Path, help="where to write, four times the state's size (default: /tmp)")
    options = parser.parse_args(arguments)
    if options.saves < 2:
        parser.error("--saves: the first one is not like the others, so at least 2 are needed")
    torch.set_num_threads(1)
    trained = Trained(options.layers)
    screen = Console(width=110, highlight=False)
    screen.print(
        f"{trained.config.parameters / 1e6:,.0f} M parameters, {trained.bytes / 2**30:.2f} GiB of state, "
        f"{options.saves} asynchronous saves at each place; {platform.machine()}, {os.cpu_count()} cores, "
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
