"""Training runs as processes of their own, forked quickly by a server that has imported everything."""

import json
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["trainer.train"])


def _run(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from trainer.train import main

    sys.exit(main(arguments))


def start(manifest: Path, *overrides: str) -> BaseProcess:
    """Start `python -m trainer.train MANIFEST …` as a process; its output goes to the file `log_of(manifest)`."""
    # The server's environment is that of the moment it was started.
    environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    process = CONTEXT.Process(target=_run, args=([str(manifest), *overrides], str(log_of(manifest)), environment))
    process.start()
    return process


def run(manifest: Path, *overrides: str) -> int:
    """Run it to its end; the exit code, negative for a signal."""
    process = start(manifest, *overrides)
    process.join(120)
    if process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        raise AssertionError(f"the run did not end: {log_of(manifest).read_text()}")
    assert process.exitcode is not None
    return process.exitcode


def log_of(manifest: Path) -> Path:
    """Where the output of runs of a manifest goes."""
    return manifest.with_suffix(".log")


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of one kind of a run's metrics, in order."""
    path = folder / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
    return [line for line in found if line["kind"] == kind]


def steps(folder: Path) -> list[dict[str, Any]]:
    """The step lines of a run's metrics, in order."""
    return lines(folder, "step")


def wait_for_step(process: BaseProcess, folder: Path, step: int) -> None:
    """Return when a run has recorded a step, or has ended."""
    while process.is_alive():
        recorded = steps(folder)
        if recorded and recorded[-1]["step"] >= step:
            return
        process.join(0.01)
