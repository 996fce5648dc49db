"""Claims about the trainer as a library: `trainer.batches`, and sinks and evaluators from outside the package."""

import doctest
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import trainer
import trainer.data.batches
from corpus.config import ConfigError, load_manifest
from tests.trainer.data.test_loader import samples_in
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import lines
from trainer.config import TrainConfig
from trainer.evaluators import EvaluationContext
from trainer.launch import train
from trainer.metrics import Values


def test_example_of_batches_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "out" / "mix")
    monkeypatch.chdir(tmp_path)
    failed, attempted = doctest.testmod(trainer.data.batches)
    assert (failed, attempted) == (0, 3)


def test_batches_hold_every_sample_once_per_epoch(data: Path) -> None:
    found = [samples_in(batch) for batch in trainer.batches(data, batch_tokens=128, row_tokens=32, epochs=2)]
    assert sorted(sample for batch in found for sample in batch) == sorted([*range(120)] * 2)
    again = [samples_in(batch) for batch in trainer.batches(data, batch_tokens=128, row_tokens=32, epochs=2)]
    assert again == found
    other = [samples_in(batch) for batch in trainer.batches(data, batch_tokens=128, row_tokens=32, epochs=2, seed=1)]
    assert other != found


def test_batches_that_are_not_whole_rows_are_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="batch_tokens is 100 and row_tokens is 32; expected a positive multiple"):
        trainer.batches(data, batch_tokens=100, row_tokens=32)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, trainer; assert 'torch' not in sys.modules; trainer.batches; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


class CsvSink:
    """A sink as a user would write one."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, step: int) -> None:
        kept = [row for row in self.path.read_text().splitlines() if int(row.split(",")[1]) <= step] if step else []
        self.path.write_text("".join(f"{row}\n" for row in kept))

    def write(self, kind: str, step: int, values: Values) -> None:
        with self.path.open("a") as file:
            file.writelines(f"{kind},{step},{key},{value!r}\n" for key, value in values.items())

    def close(self) -> None:
        with self.path.open("a") as file:
            file.write("closed,0,,\n")


class WeightNorm:
    """An evaluator as a user would write one: norms of the last and of the averaged weights."""

    name = "weights"

    def due(self, step: int, *, finished: bool) -> bool:
        return step % 2 == 0 or finished

    def run(self, context: EvaluationContext) -> Mapping[str, float]:
        assert not context.model.training
        torch.rand(7)  # must not change what training draws
        with context.optimizer.averaged_weights():
            averaged = self.norm(context)
        return {"norm": self.norm(context), "averaged_norm": averaged}

    def norm(self, context: EvaluationContext) -> float:
        return sum(float(p.detach().square().sum()) for p in context.model.parameters()) ** 0.5


def test_sink_and_evaluator_from_outside_take_part_in_a_run_and_in_its_continuation(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, schedule={"warmup_steps": 4, "k_ramp": 0.0})
    sink = CsvSink(tmp_path / "metrics.csv")
    for steps in (3, 5):
        config = load_manifest(manifest, TrainConfig, [f"steps={steps}"])
        assert train(config, sinks=[sink], evaluators=[WeightNorm()]) == 0
    recorded = lines(tmp_path / "run", "weights")
    assert [line["step"] for line in recorded] == [0, 2, 3, 4, 5]
    assert recorded[0]["norm"] == recorded[0]["averaged_norm"]
    assert recorded[-1]["norm"] != recorded[-1]["averaged_norm"]
    rows = [row.split(",") for row in sink.path.read_text().splitlines()]
    assert [row[1] for row in rows if row[0] == "step" and row[2] == "loss"] == ["1", "2", "3", "4", "5"]
    assert [(int(row[1]), float(row[3])) for row in rows if row[2] == "averaged_norm"] == [
        (line["step"], line["averaged_norm"]) for line in recorded
    ]
    plain = load_manifest(manifest, TrainConfig, ["steps=5", f"out={tmp_path / 'plain'}"])
    assert train(plain) == 0
    losses = [[line["loss"] for line in lines(tmp_path / name, "step")] for name in ("run", "plain")]
    assert losses[0] == losses[1]


def test_evaluators_that_share_a_name_are_refused(data: Path, tmp_path: Path) -> None:
    config = load_manifest(write_manifest(tmp_path, data, epochs=1), TrainConfig)
    with pytest.raises(ConfigError, match="several kinds of metrics are named 'weights'"):
        train(config, evaluators=[WeightNorm(), WeightNorm()])
    assert lines(tmp_path / "run", "step") == []
