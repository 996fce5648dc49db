"""Runs on a dataset that was built for a number of epochs."""

import json
from pathlib import Path

import pytest

import trainer
from corpus.contract import COMMIT
from tests.trainer.fixtures import write_manifest
from trainer.train import main as train


@pytest.fixture
def limited(data: Path) -> Path:
    """A dataset for two epochs."""
    info = json.loads((data / COMMIT).read_text())
    (data / COMMIT).write_text(json.dumps({**info, "epochs": 2}))
    return data


@pytest.mark.parametrize(
    ("length", "found"),
    [
        ({"epochs": 3}, "epochs is 3, but the dataset was built for 2 epochs: set epochs=2, or build it with a larger"),
        ({"epochs": None, "steps": 5000}, "steps is 5,000, which is "),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_longer_run_is_refused(
    limited: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    length: dict[str, int | None],
    found: str,
    dry_run: bool,
) -> None:
    manifest = write_manifest(tmp_path, limited, **length)
    assert train([str(manifest), *(["--dry-run"] if dry_run else [])]) == 2
    assert found in capsys.readouterr().err


@pytest.mark.parametrize("epochs", [None, 3])
def test_batches_of_more_epochs_are_refused(limited: Path, epochs: int | None) -> None:
    with pytest.raises(ValueError, match=f"epochs is {epochs}, but the dataset was built for 2"):
        trainer.batches(limited, batch_tokens=128, row_tokens=32, epochs=epochs)


def test_run_in_steps_ends_with_the_last_epoch(
    limited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.build.check_epochs", lambda *_: None)  # its number of batches is an estimate
    manifest = write_manifest(tmp_path, limited, epochs=None, steps=500)
    for _ in range(2):
        assert train([str(manifest)]) == 0
    shown = capsys.readouterr().out
    assert "of 500 steps were not done: the 2 epochs that the dataset was built for are used up" in shown
    assert "already finished" in shown
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [line["epoch"] for line in lines if line["kind"] == "step"]
    assert max(epochs) == 1
    assert epochs.count(0) == pytest.approx(epochs.count(1), abs=2)
