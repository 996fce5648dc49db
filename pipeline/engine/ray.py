"""The Ray executor: the same steps on the nodes of a Ray cluster, or of one started in-process.

    steps ─▶ Ray tasks, retried by Ray when a worker or node is lost ─▶ results
                     └▶ files in WORK, which all nodes share

Only steps and their small results pass through Ray; rows go from step to step
through the work folder, as they do on one machine. So that folder must be one that
every node sees under the same path (NFS, EFS, Lustre, …), and every node must have
this version of the code and of the libraries that make bytes: each worker checks
both before its first step, and all nodes are asked at the start. A step may run
twice when a node is lost; it has the same bytes then, and the first to end wins.
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
from pipeline.engine.executor import Executor, Task, run
from pipeline.engine.progress import Display, StageProgress, connect
from pipeline.engine.step import BuildError, code_version, finished, library_versions

RETRIES = 5
"""How often a step is begun again after its worker or node was lost."""
NODE_SECONDS = 300
"""A node that has not answered for so long is reported."""
TOKEN = ".ray"
"""Name of the file in WORK by whose content nodes know that they see this build's folder."""
ENVIRONMENT = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Of each worker: a step takes one core."""


class RayExecutor(Executor):
    """Tasks on a Ray cluster.

    Parameters
    ----------
    work
        Folder of finished steps; on storage that all nodes share.
    workers
        Most steps at work at once; None for as many as the cluster has CPUs.
    display
        Where progress is shown.
    address
        An existing cluster's address, `auto` for this machine's, or a `ray://` URL; None starts Ray in-process, with
        `workers` CPUs.

    Raises
    ------
    corpus.config.ConfigError
        Ray is not installed, or no cluster answers at the address.
    BuildError
        A node does not see the work folder, or has other code.
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
        """Leave the cluster, which ends this build's workers there; one that was started in-process ends too."""
        (self.work / TOKEN).unlink(missing_ok=True)
        self._ray.shutdown()

    def complete(self, tasks: Sequence[Task], progress: StageProgress) -> Iterator[tuple[Task, dict[str, Any]]]:
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
                _knock(address)
            self._ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": ENVIRONMENT},
                **({} if address else own),
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"--address {address}" if address else "a Ray of its own"
            hint = ". A cluster that asks for a token needs RAY_AUTH_MODE=token in the environment" if address else ""
            raise ConfigError(f"--executor ray: {where} cannot be used: {error}{hint}") from None

    def _room(self) -> int:
        """Steps that may be with Ray at once: some wait there, so that no worker does."""
        workers = self._workers or int(self._ray.cluster_resources().get("CPU", 1))
        return 2 * max(1, workers)

    def _get(self, reference: Any, task: Task) -> tuple[dict[str, Any], dict[str, int]]:
        errors = self._ray.exceptions
        try:
            result: tuple[dict[str, Any], dict[str, int]] = self._ray.get(reference)
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
        """Ask every node whether it can work for this build."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        check = self._ray.remote(num_cpus=0, max_retries=RETRIES)(unfit)
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        if not any(_is_enough(node["Resources"], self._memory) for node in nodes):
            raise BuildError(
                f"the Ray cluster has no node with a CPU and {self._memory / 1e9:.2f} GB of memory for a step; "
                f"found {len(nodes)} nodes: `ray status` shows what they offer"
            )
        asked = {}
        for node in nodes:
            on_it = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            reference = check.options(scheduling_strategy=on_it).remote(self.work, self._expected)
            asked[reference] = node["NodeManagerAddress"]
        answered, silent = self._ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS)
        problems = [f"node {asked[reference]}: no answer in {NODE_SECONDS} s" for reference in silent]
        errors = self._ray.exceptions
        fit = 0
        for reference in answered:
            try:
                problem = self._ray.get(reference)
            except (errors.TaskUnschedulableError, errors.NodeDiedError):
                continue  # The node has gone since, as it may at any time later.
            except errors.RayError as error:
                problem = f"cannot run this code: {type(error).__name__}: {str(error).strip().splitlines()[-1]}"
            if problem:
                problems.append(f"node {asked[reference]}: {problem}")
            fit += problem is None
        if not problems and not fit:
            problems.append("all nodes are gone; `ray status` shows those there are")
        if problems:
            raise BuildError("the Ray cluster cannot build this:\n  " + "\n  ".join(sorted(problems)))


def _knock(address: str) -> None:
    """Raise an `OSError` where nobody listens; Ray itself would try for minutes."""
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=NODE_SECONDS / 10).close()


def _is_enough(resources: dict[str, float], memory: int) -> bool:
    return resources.get("CPU", 0) >= 1 and resources.get("memory", 0) >= memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a worker must find on its node."""

    token: str
    """Content of the file `TOKEN` in the work folder."""
    versions: tuple[tuple[str, str], ...]
    """See `versions`."""
    code: str
    """`code_version` of the build."""


def versions() -> tuple[tuple[str, str], ...]:
    """Of Python and the libraries that make bytes, by name."""
    python = ".".join(platform.python_version_tuple()[:2])
    return (("python", python), *sorted(library_versions().items()))


def unfit(work: Path, expected: Expected) -> str | None:
    """Why this process cannot work for a build, as the end of a sentence on its node; None if it can."""
    try:
        token = (work / TOKEN).read_text()
    except OSError:
        token = None
    if token != expected.token:
        return (
            f"does not see the work folder {work}; with --executor ray it must be a folder that all nodes share "
            "(NFS, EFS, …), under the same path: choose one by --work"
        )
    mine = dict(versions())
    other = [
        f"{name} {mine[name]} (the build has {version})" for name, version in expected.versions if mine[name] != version
    ]
    if other:
        return f"has {', '.join(other)}; install the same versions on all nodes"
    if code_version() != expected.code:
        return "has other code of corpus/ or pipeline/ than the build; install the same version on all nodes"
    return None


_unfit_once = functools.cache(unfit)


class _Counts(Counter[str]):
    """Takes a step's reports and sums them up."""

    def put(self, counts: dict[str, int]) -> None:
        self.update(counts)


def _run_remotely(task: Task, work: Path, expected: Expected) -> tuple[dict[str, Any], dict[str, int]]:
    """Complete a step on a node: its result, and what it reported."""
    problem = _unfit_once(work, expected)
    if problem is not None:
        raise BuildError(f"stage {task.step.stage}, {task.step.partition}: node {platform.node()} {problem}")
    counts = _Counts()
    connect(counts)
    try:
        return run(task, work), dict(counts)
    except BuildError:
        # An attempt on a node that was taken for lost may have ended while this one was at work.
        result = finished(task.step, work, task.key)
        if result is None:
            raise
        return result, {}
