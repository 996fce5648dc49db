"""Claims about objective, mask and architecture as keys of a training manifest."""

from pathlib import Path

import pytest
import torch

from model.architectures import ARCHITECTURES
from model.batch import IGNORE
from tests.trainer.data.test_loader import loader_for
from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import log_of, run, steps
from trainer.checkpointing.load import load_model
from trainer.data.dataset import open_dataset

pytestmark = pytest.mark.slow  # trains models


def test_objective_all_targets_every_token_of_a_sample_except_its_first(data: Path, tmp_path: Path) -> None:
    with loader_for(open_dataset(str(data), tmp_path), objective="all") as loader:
        for step in loader:
            segments = step.batch.segments.tolist()
            assert step.targets == (step.batch.labels != IGNORE).sum() == step.tokens
            for row, begin, _, total in segments:
                end = begin + total
                assert torch.equal(step.batch.labels[row, begin : end - 1], step.batch.tokens[row, begin + 1 : end])
                assert step.batch.labels[row, end - 1] != IGNORE


def test_both_objectives_train_on_the_same_batches_and_divide_by_their_targets(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=3, model={"size": "tiny", "mask": "causal"})
    for objective in ("response", "all"):
        assert run(manifest, f"objective={objective}", f"out={tmp_path / objective}") == 0
    response, every = (steps(tmp_path / objective) for objective in ("response", "all"))
    assert [line["tokens"] for line in response] == [line["tokens"] for line in every]
    for few, many in zip(response, every, strict=True):
        assert few["target_tokens"] < many["target_tokens"] == many["tokens"]
    uniform = torch.log(torch.tensor(136.0)).item()  # nats of a guess among the fixture's vocabulary
    assert all(abs(line[0]["loss"] - uniform) < 1 for line in (response, every))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_trains_evaluates_and_is_loaded_from_its_checkpoint(
    data: Path, tmp_path: Path, architecture: str
) -> None:
    model = {"size": "tiny", "architecture": architecture}
    manifest = write_manifest(
        tmp_path, data, epochs=None, steps=48, model=model, eval={"rows_per_family": 2, "every": 48}
    )
    assert run(manifest) == 0
    line = steps(tmp_path / "run")
    assert line[-1]["loss"] < line[0]["loss"] / 2  # whatever weights this version of torch draws
    trained, _, _ = load_model(str(tmp_path / "run"))
    assert trained.config.architecture == architecture
    assert line[-1]["k"] == trained.config.depths[1]


def test_checkpoint_of_another_objective_is_refused(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=2, model={"size": "tiny", "mask": "causal"})
    assert run(manifest) == 0
    assert run(manifest, "objective=all", "steps=4") == 2
    assert "objective was response and is all" in log_of(manifest).read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=all"], "set model.mask=causal, or objective=response"),
        (["model.architecture=lopped"], "architecture is 'lopped'; expected one of hrm, transformer, looped"),
        (["model.architecture=transformer", "schedule.k_end=2"], "schedule.k_end: k is 2; expected a whole number 1"),
        (["model.architecture=looped", "model.L_cycles=4"], "looped has its own schedule"),
    ],
)
def test_incompatible_keys_are_reported_in_one_message(
    data: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    manifest = write_manifest(tmp_path, data)
    assert run(manifest, *overrides) == 2
    assert message in log_of(manifest).read_text()
