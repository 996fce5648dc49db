"""Executors map steps; where they run changes no byte of a result.

`LocalExecutor` is a pool of processes on this machine. It gives results in the
order of the steps, starts processes only when there is work, and never leaves
one behind: workers die with the build, however that ends.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pipeline.progress import Display, StageProgress, connect, flush
from pipeline.step import BuildError, Step, complete, finished


class Executor(Protocol):
    """Completes steps and returns their results in order."""

    def map(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """Complete all steps; raises `BuildError` naming the stage and partition of one that failed."""


class LocalExecutor:
    """A pool of `workers` processes on this machine.

    Parameters
    ----------
    work
        Folder of finished steps.
    workers
        Number of processes.
    display
        Where progress is shown.
    """

    def __init__(self, work: Path, workers: int, display: Display) -> None:
        self.work, self.workers, self.display = work, workers, display
        self.used: set[tuple[str, str]] = set()
        """(stage, key) of every step that was asked for."""
        self._pool: ProcessPoolExecutor | None = None
        self._reports: SimpleQueue[dict[str, int]] | None = None
        self._others: set[BaseProcess] = set()
        """Child processes that are not ours."""

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None or self._reports is None:
            return
        if error is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(wait=error is None, cancel_futures=True)
        self._reports.close()
        self._pool = None

    def map(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """Complete all steps of one stage and return their results in order.

        Raises
        ------
        BuildError
            A step failed or its process was killed; names stage and partition.
        """
        if not steps:
            return []
        stage = steps[0].stage
        keys = [step.key for step in steps]
        self.used.update((stage, key) for key in keys)
        results = [finished(step, self.work, key) for step, key in zip(steps, keys, strict=True)]
        todo = deque(index for index, result in enumerate(results) if result is None)
        with self.display.stage(stage, len(steps), len(steps) - len(todo)) as progress:
            pool = self._start() if todo else None
            running: dict[Future[dict[str, Any]], int] = {}
            while pool is not None and (todo or running):
                try:
                    while todo and len(running) < 2 * self.workers:
                        future = pool.submit(_complete, steps[todo[0]], self.work, keys[todo[0]])
                        running[future] = todo.popleft()
                    for future in wait(running, timeout=0.1, return_when=FIRST_COMPLETED).done:
                        results[running[future]] = future.result()
                        del running[future]
                        progress.task_done()
                except BrokenProcessPool:
                    raise BuildError(
                        f"stage {stage}: a worker process was killed while these were being worked on: "
                        f"{', '.join(steps[index].partition for index in running.values())}. If the machine ran out "
                        f"of memory, give less --memory or fewer --workers (now {self.workers}). Finished work is kept: the "
                        "same command continues."
                    ) from None
                self._drain(progress)
                progress.refresh()
            self._drain(progress)
        return [result for result in results if result is not None]

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._reports = context.SimpleQueue()
            self._others = set(multiprocessing.active_children())
            threads = max(1, (os.cpu_count() or 1) // self.workers)
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=context,
                initializer=_prepare_worker,
                initargs=(os.getpid(), threads, self._reports),
            )
        return self._pool

    def _drain(self, progress: StageProgress) -> None:
        while self._reports is not None and not self._reports.empty():
            progress.add(self._reports.get())


def _prepare_worker(parent: int, threads: int, reports: "SimpleQueue[dict[str, int]]") -> None:
    """Runs first in each worker, before numpy or polars are imported."""
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    connect(reports)


def _die_with(parent: int) -> None:
    """End this process when its parent is gone, even if that was killed."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _complete(step: Step, work: Path, key: str) -> dict[str, Any]:
    try:
        return complete(step, work, key)
    except Exception as error:
        if isinstance(error, BuildError):
            problem = str(error)
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error} (at {Path(frame.filename).name}:{frame.lineno})"
        raise BuildError(f"stage {step.stage}, {step.partition}: {problem}") from None
    finally:
        flush()
