"""Executors map steps; where they run changes no byte of a result.

    steps ─▶ those not finished ─▶ complete, wherever that is ─▶ results, in the order of the steps

`LocalExecutor` is a pool of processes on this machine (`pipeline.engine.ray` has
the other kind). It starts processes only when there is work, and never leaves
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
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.engine.progress import Display, StageProgress, connect, flush
from pipeline.engine.step import BuildError, Step, complete, finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A step to complete."""

    number: int
    """Its place among the steps of its stage."""
    step: Step
    key: str
    """The step's key, so that no worker computes it again."""


class Executor(ABC):
    """Completes steps; a context manager, which ends its processes.

    Parameters
    ----------
    work
        Folder of finished steps.
    display
        Where progress is shown.
    """

    def __init__(self, work: Path, display: Display) -> None:
        self.work, self.display = work, display
        self.used: set[tuple[str, str]] = set()
        """(stage, key) of every step that was asked for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

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
        tasks = [Task(number=number, step=step, key=step.key) for number, step in enumerate(steps)]
        self.used.update((stage, task.key) for task in tasks)
        results = [finished(task.step, self.work, task.key) for task in tasks]
        todo = [task for task, result in zip(tasks, results, strict=True) if result is None]
        with self.display.stage(stage, len(steps), len(steps) - len(todo)) as progress:
            if todo:
                for task, result in self.complete(todo, progress):
                    results[task.number] = result
                    progress.task_done()
        return [result for result in results if result is not None]

    @abstractmethod
    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Complete steps of one stage, at least one; yields each with its result as it ends."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """End all processes; at once, whatever they do, when the build has failed."""


class LocalExecutor(Executor):
    """A pool of `workers` processes on this machine."""

    def __init__(self, work: Path, workers: int, display: Display) -> None:
        super().__init__(work, display)
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._reports: SimpleQueue[dict[str, int]] | None = None
        self._others: set[BaseProcess] = set()
        """Child processes that are not ours."""

    def close(self, *, failed: bool) -> None:
        """See `Executor.close`."""
        if self._pool is None or self._reports is None:
            return
        if failed:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(wait=not failed, cancel_futures=True)
        self._reports.close()
        self._pool = None

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, dict[str, Any]]]:
        """See `Executor.complete`."""
        pool = self._start()
        todo = deque(tasks)
        running: dict[Future[dict[str, Any]], Task] = {}
        while todo or running:
            try:
                while todo and len(running) < 2 * self.workers:
                    task = todo.popleft()
                    running[pool.submit(run, task, self.work)] = task
                for future in wait(running, timeout=0.1, return_when=FIRST_COMPLETED).done:
                    yield running[future], future.result()
                    del running[future]
            except BrokenProcessPool:
                raise BuildError(
                    f"stage {tasks[0].step.stage}: a worker process was killed while these were being worked on: "
                    f"{', '.join(task.step.partition for task in running.values())}. If the machine ran out "
                    f"of memory, give less --memory or fewer --workers (now {self.workers}). Finished work is kept: "
                    "the same command continues."
                ) from None
            self._drain(progress)
            progress.refresh()
        self._drain(progress)

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


def run(task: Task, work: Path) -> dict[str, Any]:
    """Complete a step in a worker; every error is a `BuildError` that names the stage and partition."""
    step = task.step
    try:
        return complete(step, work, task.key)
    except Exception as error:
        if isinstance(error, BuildError):
            problem = str(error)
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error} (at {Path(frame.filename).name}:{frame.lineno})"
        raise BuildError(f"stage {step.stage}, {step.partition}: {problem}") from None
    finally:
        flush()
