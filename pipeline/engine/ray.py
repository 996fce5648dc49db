"""The Ray executor: steps as tasks on the nodes of a Ray cluster, or of one started in-process.

    steps ─▶ Ray tasks, which Ray retries when a worker or node is lost ─▶ results
                     └▶ files in WORK, which all nodes share

Only steps and their small results pass through Ray; rows go from step to step through the work folder, as on one
machine. So every node must see that folder under the same path (NFS, EFS, Lustre, …) and have the same version of the
code and of the libraries in `LIBRARIES`: all nodes are checked at the start, and each worker before its first step.
When a node is lost, a step may run twice; both attempts give the same bytes, and the first to finish wins.
"""

import functools
import logging
import os
import platform
import socket
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.config import ConfigError
from pipeline.engine.budget import PROCESS_BYTES, STEP_BYTES
from pipeline.engine.counters import Counts, connect
from pipeline.engine.executor import Executor, Task, run_task
from pipeline.engine.keys import code_version, library_versions
from pipeline.engine.progress import Display, StageProgress
from pipeline.engine.step import BuildError

RETRIES = 5
"""Retries of a step whose worker or node was lost."""
NODE_SECONDS = 300
"""Time that a node has to answer the check at the start."""
TOKEN = ".ray"
"""Name of the file in WORK whose content shows a node that it sees this build's folder."""
ENVIRONMENT = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Environment of each worker: a step uses one core."""


class RayExecutor(Executor):
    """Tasks on a Ray cluster.

    Parameters
    ----------
    work
        Folder of finished steps; on storage that all nodes share.
    workers
        Most steps that run at once; None for one per CPU of the cluster.
    display
        Where progress is shown.
    address
        Address of an existing cluster, `auto` for this machine's, or a `ray://` URL; None starts Ray in-process with
        `workers` CPUs.

    Raises
    ------
    corpus.config.ConfigError
        Ray is not installed, or no cluster answers at the address.
    BuildError
        A node does not see the work folder, or has another version of the code or of a library.
    """

    def __init__(self, work: Path, workers: int | None, display: Display, *, address: str | None = None) -> None:
        super().__init__(Path(os.path.abspath(work)), display)
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "--executor ray: Ray is not installed; `pip install 'millrace[ray]'` installs it"
            ) from None
        self._ray = ray
        self._workers = workers
        # In-process, the number of workers has been chosen to fit the machine.
        self._memory = PROCESS_BYTES + STEP_BYTES if address else 0
        self._expected = Expected(token=uuid.uuid4().hex, versions=versions(), code=code_version())
        self.work.mkdir(parents=True, exist_ok=True)
        self._connect(address)
        (self.work / TOKEN).write_text(self._expected.token)
        try:
            self._task = ray.remote(num_cpus=1, memory=self._memory, max_retries=RETRIES)(_run_remotely)
            self._check_nodes()
        except BaseException:
            self.close(failed=True)
            raise

    def close(self, *, failed: bool) -> None:
        """Disconnect from the cluster, which ends this build's workers there; a Ray started in-process ends too."""
        (self.work / TOKEN).unlink(missing_ok=True)
        self._ray.shutdown()

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, Any]]:
        """See `Executor.complete`."""
        todo = deque(tasks)
        running: dict[Any, Task] = {}
        while todo or running:
            while todo and len(running) < self._room():
                task = todo.popleft()
                running[self._task.remote(task, self.work, self._expected)] = task
            done, _ = self._ray.wait(list(running), timeout=0.2)
            for reference in done:
                task = running.pop(reference)
                result, counts = self._get(reference, task)
                progress.add(counts)
                yield task, result
            progress.refresh()

    def _connect(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
        if self._workers is not None:
            own["num_cpus"] = self._workers
        try:
            if address:
                _connect_once(address)
            self._ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": ENVIRONMENT},
                **({} if address else own),
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"--address {address}" if address else "a Ray started in-process"
            hint = ". A cluster that asks for a token needs RAY_AUTH_MODE=token in the environment" if address else ""
            raise ConfigError(f"--executor ray: {where} cannot be used: {error}{hint}") from None

    def _room(self) -> int:
        """Number of steps that may be submitted at once: more than can run, so that no worker idles."""
        workers = self._workers or int(self._ray.cluster_resources().get("CPU", 1))
        return 2 * max(1, workers)

    def _get(self, reference: Any, task: Task) -> tuple[Any, Counts]:
        errors = self._ray.exceptions
        try:
            result: tuple[Any, Counts] = self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, BuildError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            raise BuildError(
                f"stage {task.step.stage}, {task.step.partition}: its worker or node was lost {RETRIES + 1} times "
                f"({type(error).__name__}). If nodes run out of memory, use fewer --workers. Finished work is kept: "
                "the same command continues."
            ) from None
        return result

    def _check_nodes(self) -> None:
        """Check on every node that it can run steps of this build."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        check = self._ray.remote(num_cpus=0, max_retries=RETRIES)(unfit)
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        if not any(_fits(node["Resources"], self._memory) for node in nodes):
            raise BuildError(
                f"the Ray cluster has no node with a CPU and {self._memory / 1e9:.2f} GB of memory for a step; "
                f"found {len(nodes)} nodes: `ray status` shows what they offer"
            )
        addresses = {}
        for node in nodes:
            on_it = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            reference = check.options(scheduling_strategy=on_it).remote(self.work, self._expected)
            addresses[reference] = node["NodeManagerAddress"]
        answered, silent = self._ray.wait(list(addresses), num_returns=len(addresses), timeout=NODE_SECONDS)
        problems = [f"node {addresses[reference]}: no answer in {NODE_SECONDS} s" for reference in silent]
        errors = self._ray.exceptions
        fit = 0
        for reference in answered:
            try:
                problem = self._ray.get(reference)
            except (errors.TaskUnschedulableError, errors.NodeDiedError):
                continue  # The node was lost meanwhile, as it may be at any time later.
            except errors.RayError as error:
                problem = f"cannot run this code: {type(error).__name__}: {str(error).strip().splitlines()[-1]}"
            if problem:
                problems.append(f"node {addresses[reference]}: {problem}")
            fit += problem is None
        if not problems and not fit:
            problems.append("no node answered; `ray status` lists the nodes")
        if problems:
            raise BuildError("the Ray cluster cannot build this:\n  " + "\n  ".join(sorted(problems)))


def _connect_once(address: str) -> None:
    """Raise an `OSError` if nothing listens at the address; Ray would retry for minutes."""
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=NODE_SECONDS / 10).close()


def _fits(resources: dict[str, float], memory: int) -> bool:
    return resources.get("CPU", 0) >= 1 and resources.get("memory", 0) >= memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a worker checks on its node."""

    token: str
    """Content of the file `TOKEN` in the work folder."""
    versions: tuple[tuple[str, str], ...]
    """See `versions`."""
    code: str
    """`code_version` of the build."""


def versions() -> tuple[tuple[str, str], ...]:
    """Return name and version of Python and of the `LIBRARIES`."""
    python = ".".join(platform.python_version_tuple()[:2])
    return (("python", python), *sorted(library_versions().items()))


def unfit(work: Path, expected: Expected) -> str | None:
    """Return why this process cannot run steps of a build, as the end of a sentence about its node; None if it can."""
    try:
        token = (work / TOKEN).read_text()
    except OSError:
        token = None
    if token != expected.token:
        return (
            f"does not see the work folder {work}; with --executor ray it must be a folder that all nodes share "
            "(NFS, EFS, …), under the same path: choose one with --work"
        )
    found = dict(versions())
    other = [
        f"{name} {found[name]} (the build has {version})"
        for name, version in expected.versions
        if found[name] != version
    ]
    if other:
        return f"has {', '.join(other)}; install the same versions on all nodes"
    if code_version() != expected.code:
        return "has other code of corpus/ or pipeline/ than the build; install the same version on all nodes"
    return None


_unfit_once = functools.cache(unfit)


class _Sum(Counter[str]):
    """Queue of counts that adds them up."""

    def put(self, counts: Counts) -> None:
        self.update(counts)


def _run_remotely(task: Task, work: Path, expected: Expected) -> tuple[Any, Counts]:
    """Complete a step on a node; return its result and its counts."""
    problem = _unfit_once(work, expected)
    if problem is not None:
        raise BuildError(f"stage {task.step.stage}, {task.step.partition}: node {platform.node()} {problem}")
    counts = _Sum()
    connect(counts)
    try:
        return run_task(task, work), dict(counts)
    except BuildError:
        # An attempt on a node that Ray considered lost may have finished meanwhile.
        result = task.step.result(work, task.key)
        if result is None:
            raise
        return result, {}
