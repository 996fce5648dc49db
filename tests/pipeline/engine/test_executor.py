"""The executor: failures name their place, finished work is not done again."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.engine.local import LocalExecutor
from pipeline.engine.progress import Display
from pipeline.engine.step import BuildError, Step, prune


@dataclass(frozen=True, slots=True, kw_only=True)
class Squared:
    """Result of `Square`."""

    square: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Square(Step[Squared]):
    """A step that leaves a mark each time it runs."""

    stage: ClassVar[str] = "square"

    number: int
    log: str

    @property
    def partition(self) -> str:
        return f"number {self.number}"

    def run(self, work: Path, out: Path) -> Squared:
        if self.number == 13:
            raise ValueError("thirteen")
        if self.number == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        (out / "square.txt").write_text(str(self.number**2))
        with open(self.log, "a") as file:
            file.write(f"{self.number}\n")
        return Squared(square=self.number**2)


def run(work: Path, numbers: list[int]) -> list[int]:
    with LocalExecutor(work, 2, Display()) as executor:
        results = executor.map([Square(number=number, log=str(work / "log")) for number in numbers])
    return [result.square for result in results]


def test_results_come_in_order_and_finished_steps_are_not_run_again(tmp_path: Path) -> None:
    assert run(tmp_path, [3, 1, 2]) == [9, 1, 4]
    assert run(tmp_path, [2, 3, 5]) == [4, 9, 25]
    assert sorted((tmp_path / "log").read_text().split()) == ["1", "2", "3", "5"]


def test_failure_names_stage_partition_and_cause(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"stage square, number 13: ValueError: thirteen \(at test_executor.py:\d+\)"):
        run(tmp_path, [13])
    assert list((tmp_path / "tmp").iterdir()) == []


def test_killed_worker_is_a_clear_error_that_keeps_finished_work(tmp_path: Path) -> None:
    run(tmp_path, [1])
    with pytest.raises(BuildError, match=r"killed .*number 14.*fewer --workers"):
        run(tmp_path, [1, 14])
    assert run(tmp_path, [1]) == [1]
    assert (tmp_path / "log").read_text().split() == ["1"]


def test_prune_leaves_only_what_is_used(tmp_path: Path) -> None:
    run(tmp_path, [1, 2])
    steps = [Square(number=number, log=str(tmp_path / "log")) for number in (1, 2)]
    prune(tmp_path, {("square", steps[0].key)})
    assert Square.folder(tmp_path, steps[0].key).exists()
    assert not Square.folder(tmp_path, steps[1].key).exists()


def test_pruning_that_is_killed_leaves_no_half_of_a_step_to_be_taken_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, [1, 2])
    steps = [Square(number=number, log=str(tmp_path / "log")) for number in (1, 2)]

    def delete_half(path: str, **_: object) -> None:
        (Path(path) / "square.txt").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", delete_half)
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path, {("square", steps[0].key)})
    monkeypatch.undo()
    assert Square.result(tmp_path, steps[1].key) is None
    assert run(tmp_path, [2]) == [4]
    assert (Square.folder(tmp_path, steps[1].key) / "square.txt").exists()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"square":"4"}', '{"square":4,"cube":8}', "[4]"])
def test_result_that_cannot_be_read_means_that_the_step_is_not_finished(tmp_path: Path, content: str) -> None:
    run(tmp_path, [2])
    key = Square(number=2, log=str(tmp_path / "log")).key
    (Square.folder(tmp_path, key) / "result.json").write_text(content)
    assert Square.result(tmp_path, key) is None
    assert run(tmp_path, [2]) == [4]
    assert (tmp_path / "log").read_text().split() == ["2", "2"]
