"""Training runs in separate processes, forked by a server that has imported everything."""

import json
import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["trainer.train", "trainer.launch", "streaming"])

WAIT = 300
"""Seconds to wait for the end of a run: compilation takes long on a busy machine."""
DETERMINED = ("step", "loss", "lr", "k", "gradient_norm", "epoch", "batch", "tokens", "target_tokens", "skipped")


def _run(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from trainer.train import main

    sys.exit(main(arguments))


def start(manifest: Path, *overrides: str, **environment: str) -> BaseProcess:
    """Start `python -m trainer.train MANIFEST …` as a process; its output goes to the file `log_of(manifest)`."""
    # The environment of the server is that at its start.
    environment |= {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    process = CONTEXT.Process(target=_run, args=([str(manifest), *overrides], str(log_of(manifest)), environment))
    process.start()
    return process


def start_ranks(ranks: int, manifest: Path, *overrides: str, nodes: int = 1) -> list[BaseProcess]:
    """Start a run of several ranks, on one machine or as if on several, with the environment that torchrun sets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = ranks // nodes
    return [
        start(
            manifest,
            *overrides,
            RANK=str(rank),
            WORLD_SIZE=str(ranks),
            LOCAL_RANK=str(rank % here),
            GROUP_RANK=str(rank // here),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        for rank in range(ranks)
    ]


def finish(processes: Sequence[BaseProcess], manifest: Path) -> list[int]:
    """Wait for the end of a run; the exit codes by rank, negative for a signal."""
    for process in processes:
        process.join(WAIT)
    if any(process.is_alive() for process in processes):
        kill(processes)
        raise AssertionError(f"the run did not end: {log_of(manifest).read_text()}")
    return [process.exitcode for process in processes if process.exitcode is not None]


def kill(processes: Sequence[BaseProcess]) -> None:
    """SIGKILL to every rank."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def run(manifest: Path, *overrides: str) -> int:
    """Run to the end; returns the exit code, negative for a signal."""
    (code,) = finish([start(manifest, *overrides)], manifest)
    return code


def run_ranks(ranks: int, manifest: Path, *overrides: str, nodes: int = 1) -> None:
    """Run to the end on several ranks, each of which must succeed."""
    codes = finish(start_ranks(ranks, manifest, *overrides, nodes=nodes), manifest)
    assert codes == [0] * ranks, log_of(manifest).read_text()


def log_of(manifest: Path) -> Path:
    """File of the output of a manifest's runs."""
    return manifest.with_suffix(".log")


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind of a run's metrics, in order."""
    path = folder / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    return [line for line in found if line["kind"] == kind]


def steps(folder: Path) -> list[dict[str, Any]]:
    """The step lines of a run's metrics, in order."""
    return lines(folder, "step")


def determined(folder: Path) -> list[dict[str, Any]]:
    """The metrics that must be equal, bit for bit, in equal runs."""
    return [{key: line[key] for key in DETERMINED} for line in steps(folder)]


def wait_for_step(process: BaseProcess, folder: Path, step: int) -> None:
    """Return when a run has recorded a step, or has ended."""
    while process.is_alive():
        recorded = steps(folder)
        if recorded and recorded[-1]["step"] >= step:
            return
        process.join(0.01)
