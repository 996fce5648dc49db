"""The local executor: a pool of processes on this machine.

Processes start only when there is work. They end with the build, even if that is killed.
"""

import ctypes
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from pipeline.engine.counters import Counts, connect
from pipeline.engine.executor import Executor, Task, run_task
from pipeline.engine.progress import Display, StageProgress
from pipeline.engine.step import BuildError


class LocalExecutor(Executor):
    """A pool of `workers` processes on this machine."""

    def __init__(self, work: Path, workers: int, display: Display) -> None:
        super().__init__(work, display)
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._counts: SimpleQueue[Counts] | None = None
        self._others: set[BaseProcess] = set()
        """Child processes of other owners."""

    def close(self, *, failed: bool) -> None:
        """See `Executor.close`."""
        if self._pool is None or self._counts is None:
            return
        if failed:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
        self._pool.shutdown(wait=not failed, cancel_futures=True)
        self._counts.close()
        self._pool = None

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, Any]]:
        """See `Executor.complete`."""
        pool = self._start()
        todo = deque(tasks)
        running: dict[Future[Any], Task] = {}
        while todo or running:
            try:
                while todo and len(running) < 2 * self.workers:
                    task = todo.popleft()
                    running[pool.submit(run_task, task, self.work)] = task
                for future in wait(running, timeout=0.1, return_when=FIRST_COMPLETED).done:
                    yield running[future], future.result()
                    del running[future]
            except BrokenProcessPool:
                raise BuildError(
                    f"stage {tasks[0].step.stage}: a worker process was killed while these steps were running: "
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
            self._others = set(multiprocessing.active_children())
            threads = max(1, (os.cpu_count() or 1) // self.workers)
            try:
                self._counts = context.SimpleQueue()
                self._pool = ProcessPoolExecutor(
                    self.workers,
                    mp_context=context,
                    initializer=_prepare_worker,
                    initargs=(os.getpid(), threads, self._counts),
                )
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                raise BuildError(
                    f"/dev/shm: the locks of worker processes cannot be made there ({error.strerror}); free some of "
                    "it, or give the container more (`--shm-size`). Finished work is kept, and the same command "
                    "continues"
                ) from None
        return self._pool

    def _drain(self, progress: StageProgress) -> None:
        while self._counts is not None and not self._counts.empty():
            progress.add(self._counts.get())


def _prepare_worker(parent: int, threads: int, counts: "SimpleQueue[Counts]") -> None:
    """Set up a worker process, before it imports numpy or polars."""
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(parent)
    connect(counts)


def _die_with(parent: int) -> None:
    """End this process when its parent ends, even if that was killed."""
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
