"""Executors complete steps; where they run changes no byte of a result.

    steps of a stage ─▶ those not finished ─▶ complete, in some process ─▶ results, in the order of the steps

`pipeline.engine.local` has the pool of processes on this machine, `pipeline.engine.ray` the tasks on a cluster.
"""

import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipeline.engine.counters import flush
from pipeline.engine.step import BuildError, Step, complete

if TYPE_CHECKING:
    from pipeline.engine.progress import Display, StageProgress

R = TypeVar("R")


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
        results: list[R | None] = [task.step.result(self.work, task.key) for task in tasks]
        todo = [task for task, result in zip(tasks, results, strict=True) if result is None]
        with self.display.stage(stage, len(steps), len(steps) - len(todo)) as progress:
            if todo:
                for task, result in self.complete(todo, progress):
                    results[task.number] = result
                    progress.task_done()
        return [result for result in results if result is not None]

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
