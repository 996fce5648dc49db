"""Builds on Ray: the same bytes as processes give, though workers and nodes are lost; nothing is left running."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from pipeline.build import build, main
from pipeline.engine.keys import code_version
from pipeline.engine.progress import Display
from pipeline.engine.step import BuildError, Step
from tests.pipeline.conftest import contents, write_mix

pytest.importorskip("ray", reason="needs Ray: pip install 'millrace[ray]'")

from ray.cluster_utils import Cluster

from pipeline.engine.ray import TOKEN, Expected, RayExecutor, unfit, versions

pytestmark = pytest.mark.slow  # builds datasets

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Result of `Mark`."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark(Step[Marked]):
    """A step that creates a file named after its node; on the doomed node it never ends."""

    stage: ClassVar[str] = "mark"

    number: int
    marks: str
    doomed: str = ""
    dies: bool = False
    """The first attempt kills its own process."""

    @property
    def partition(self) -> str:
        return f"number {self.number}"

    def run(self, work: Path, out: Path) -> Marked:
        import ray

        marks = Path(self.marks)
        if self.number == 13:
            raise ValueError("thirteen")
        node = ray.get_runtime_context().get_node_id()
        (marks / f"{self.number}-on-{node}").touch()
        while self.doomed and (node == self.doomed or not list(marks.glob(f"*-on-{self.doomed}"))):
            time.sleep(0.02)
        if self.dies and not (marks / "died").exists():
            (marks / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Marked(number=self.number)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head node on which steps run, and a second node that a test may take away."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.mark.slow  # starts two nodes, and Ray takes seconds to notice that one is gone
def test_build_on_two_nodes_of_which_one_is_lost_equals_the_local_one(
    cluster: Cluster, mix: Path, dataset: Path, tmp_path: Path
) -> None:
    second = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    out = tmp_path / "out"
    lost = threading.Event()

    class Killing(Display):
        """Takes the second node away in the middle of a stage of several steps."""

        def stage(self, name: str, tasks: int, finished: int) -> Any:
            if name == "ingest":
                threading.Timer(0.3, lambda: (cluster.remove_node(second, allow_graceful=False), lost.set())).start()
            return super().stage(name, tasks, finished)

    built = build(mix, out=out, display=Killing(), executor="ray", address=cluster.address)
    assert lost.is_set()
    assert built.dataset.samples > 0
    assert contents(out) == contents(dataset)


@pytest.mark.slow  # Ray takes seconds to notice that a node is gone
def test_steps_of_a_lost_node_are_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

    def take_away() -> None:
        while not list(tmp_path.glob(f"*-on-{second.node_id}")):
            time.sleep(0.02)
        cluster.remove_node(second, allow_graceful=False)

    steps = [Mark(number=number, marks=str(tmp_path), doomed=second.node_id) for number in range(3)]
    thread = threading.Thread(target=take_away)
    with RayExecutor(tmp_path / "work", None, Display(), address=cluster.address) as executor:
        thread.start()
        assert executor.map(steps) == [Marked(number=number) for number in range(3)]
    thread.join()
    lost = {mark.name.partition("-")[0] for mark in tmp_path.glob(f"*-on-{second.node_id}")}
    assert lost
    assert {number for number in lost if len(list(tmp_path.glob(f"{number}-on-*"))) == 2} == lost


def test_step_of_a_killed_worker_is_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    with RayExecutor(tmp_path / "work", None, Display(), address=cluster.address) as executor:
        assert executor.map([Mark(number=1, marks=str(tmp_path), dies=True)]) == [Marked(number=1)]
    assert (tmp_path / "died").exists()


def test_failure_names_stage_partition_and_cause(cluster: Cluster, tmp_path: Path) -> None:
    with (
        RayExecutor(tmp_path / "work", 1, Display(), address=cluster.address) as executor,
        pytest.raises(BuildError, match=r"stage mark, number 13: ValueError: thirteen \(at test_ray.py:\d+\)"),
    ):
        executor.map([Mark(number=13, marks=str(tmp_path))])


def test_node_with_another_work_folder_or_other_software_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOKEN).write_text("of this build")
    expected = Expected(token="of this build", versions=versions(), code=code_version())
    assert unfit(tmp_path, expected) is None
    assert "does not see the work folder" in str(unfit(tmp_path / "elsewhere", expected))
    assert "does not see the work folder" in str(unfit(tmp_path, replace(expected, token="of another build")))
    others = tuple((name, "0.1" if name == "polars" else version) for name, version in versions())
    assert "(the build has 0.1); install the same" in str(unfit(tmp_path, replace(expected, versions=others)))
    assert "has other code" in str(unfit(tmp_path, replace(expected, code="0")))


def test_cluster_that_does_not_answer_is_a_clear_error(
    mix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(mix), "--out", str(tmp_path / "out"), "--executor", "ray", "--address", "127.0.0.1:9"]) == 2
    assert "--address 127.0.0.1:9 cannot be used" in capsys.readouterr().err


@pytest.mark.slow  # starts Ray
def test_ray_in_process_equals_the_local_build(mix: Path, dataset: Path, tmp_path: Path) -> None:
    assert main([str(mix), "--out", str(tmp_path / "out"), "--executor", "ray", "--workers", "2"]) == 0
    assert contents(tmp_path / "out") == contents(dataset)


@pytest.mark.slow  # starts Ray, and a worker that was just starting looks for its node for a while
def test_workers_of_ray_die_with_a_killed_build(tmp_path: Path) -> None:
    manifest = write_mix(tmp_path / "mix", rows=2_000)
    command = [sys.executable, "-m", "pipeline.build", str(manifest), "--out", str(tmp_path / "out")]
    command += ["--executor", "ray"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    names: dict[psutil.Process, str] = {}
    while not any(name.startswith("ray::_run_remotely") for name in names.values()):
        assert process.poll() is None, "the build ended before a worker of Ray had begun"
        time.sleep(0.05)
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                names[child] = " ".join(child.cmdline())
    process.kill()
    process.wait()
    # Ray's two agents of a node look for it for a while longer, then end too.
    agents = ("ray::DashboardAgent", "ray::RuntimeEnv")
    workers = [child for child, name in names.items() if not name.startswith(agents)]
    assert psutil.wait_procs(workers, timeout=90)[1] == []
