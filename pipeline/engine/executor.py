"""Executors complete steps; where they run changes no byte of a result.

    steps of a stage ─▶ those not finished ─▶ complete, in some process ─▶ results, in the order of the steps

`pipeline.engine.local` has the pool of processes on this machine, `pipeline.engine.ray` the tasks on a cluster.
"""

import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipeline.engine.counters import flush
from pipeline.engine.step import BuildError, Step, complete, discard, is_intact

if TYPE_CHECKING:
    from pipeline.engine.progress import Display, StageProgress

R = TypeVar("R")

log = logging.getLogger(__name__)

CHECKS = 8
"""Finished steps that are checked at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A step to complete."""

    number: int
    """Its position among the steps of its stage."""
    step: Step[Any]
    key: str
    """The step's key, so that workers need not compute it again."""


class Executor(ABC):
    """Completes steps; a context manager that ends its processes.

    Parameters
    ----------
    work
        Folder of finished steps.
    display
        Where progress is shown.
    """

    def __init__(self, work: Path, display: "Display") -> None:
        self.work, self.display = work, display
        self.used: set[tuple[str, str]] = set()
        """(stage, key) of every step that was mapped."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=error is not None)

    def map(self, steps: Sequence[Step[R]]) -> list[R]:
        """Complete all steps of one stage and return their results in order.

        Raises
        ------
        BuildError
            A step failed or its process was killed; the message names stage and partition.
        """
        if not steps:
            return []
        stage = steps[0].stage
        tasks = [Task(number=number, step=step, key=step.key) for number, step in enumerate(steps)]
        self.used.update((stage, task.key) for task in tasks)
        with ThreadPoolExecutor(CHECKS) as threads:
            results: list[R | None] = list(threads.map(self._finished, tasks))
        todo = [task for task, result in zip(tasks, results, strict=True) if result is None]
        with self.display.stage(stage, len(steps), len(steps) - len(todo)) as progress:
            if todo:
                for task, result in self.complete(todo, progress):
                    results[task.number] = result
                    progress.task_done()
        return [result for result in results if result is not None]

    def _finished(self, task: Task) -> Any:
        """Return the result of a step that an earlier build has finished; None if it must run."""
        folder = task.step.folder(self.work, task.key)
        if not folder.exists():
            return None
        if (result := task.step.result(self.work, task.key)) is not None and is_intact(folder):
            return result
        log.warning(
            "%s: files of stage %s, %s, are not as the build wrote them; the step runs again",
            folder,
            task.step.stage,
            task.step.partition,
        )
        discard(self.work, task.step.stage, task.key)
        return None

    @abstractmethod
    def complete(self, tasks: Sequence[Task], progress: "StageProgress") -> Iterator[tuple[Task, Any]]:
        """Complete the steps of one stage, at least one; yield each with its result as it ends."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """End all processes, at once if the build has failed."""


def run_task(task: Task, work: Path) -> Any:
    """Complete a step in a worker; an error becomes a `BuildError` that names stage and partition."""
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
