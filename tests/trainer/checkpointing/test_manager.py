"""Claims about checkpoints: what makes one valid, which one is used, which are kept."""

import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import xxhash
from torch import Tensor

from model.config import config_for
from model.hrm import HRM
from model.loading import CheckpointError
from tests.trainer.data.test_dataset import flip_last_bit, upload
from trainer.checkpointing.checkpoint import file_records, open_checkpoint
from trainer.checkpointing.load import load_model
from trainer.checkpointing.manager import CheckpointManager
from trainer.checkpoints import main
from trainer.data.dataset import Dataset, open_dataset
from trainer.position import Position

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")

SMALL = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "head_dim": 16}


@pytest.fixture
def dataset(data: Path, tmp_path: Path) -> Dataset:
    return open_dataset(str(data), tmp_path)


def position(step: int) -> Position:
    return Position(step=step, updates=step, plan_key="k", plan_hash="h", epoch=0, chunk=0, next_batch=step)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trainer.checkpointing.manager"]


class Written:
    """Checkpoints of a small model whose first weight is the step."""

    def __init__(self, location: str, dataset: Dataset, keep: int = 2):
        self.staging = Path(dataset.files.folder).parent / "staging"
        self.checkpoints = CheckpointManager(location, staging=self.staging, keep=keep)
        self.model = HRM(config_for("tiny", dataset.vocab_size, **SMALL))
        about = {"model": asdict(self.model.config), "special": dict(dataset.special)}
        self.sidecars: dict[str, str | bytes] = {
            "config.json": json.dumps(about),
            "manifest.json": "{}",
            "tokenizer.json": dataset.tokenizer_file.read_bytes(),
        }

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        ema = {name: p.detach() + 1 for name, p in self.model.named_parameters()}
        return {"model": self.model.state_dict(), "ema": ema}

    def save(self, *steps: int) -> None:
        for step in steps:
            with torch.no_grad():
                self.model.lm_head.weight[0, 0] = step
            self.checkpoints.save(position(step), self.tensors(), sidecars=self.sidecars)
        self.checkpoints.wait()


@pytest.fixture
def written(dataset: Dataset, tmp_path: Path) -> Written:
    return Written(str(tmp_path / "checkpoints"), dataset)


def test_newest_checkpoint_restores_what_was_saved(written: Written) -> None:
    written.save(1, 2)
    checkpoint = written.checkpoints.newest()
    assert checkpoint is not None
    assert checkpoint.position == position(2)
    expected = {name: t.clone() for name, t in written.model.state_dict().items()}
    with torch.no_grad():
        for tensor in written.model.state_dict().values():
            tensor.zero_()
    checkpoint.load_into({"model": written.model.state_dict()})
    assert all(torch.equal(t, expected[name]) for name, t in written.model.state_dict().items())


def test_changes_after_save_returns_are_not_in_the_checkpoint(written: Written) -> None:
    with torch.no_grad():
        written.model.lm_head.weight.fill_(1.0)
    written.checkpoints.save(position(1), written.tensors(), sidecars=written.sidecars)
    with torch.no_grad():
        written.model.lm_head.weight.fill_(2.0)
    written.checkpoints.wait()
    checkpoint = written.checkpoints.newest()
    assert checkpoint is not None
    checkpoint.load_into({"model": written.model.state_dict()})
    assert (written.model.lm_head.weight == 1.0).all()


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "trainer.json", "tokenizer.json", "COMMIT.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    written.save(1, 2)
    file = tmp_path / "checkpoints" / "step-00000002" / name
    if damage == "flipped":
        flip_last_bit(file)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    else:
        file.unlink()
    checkpoint = written.checkpoints.newest()
    assert checkpoint is not None
    assert checkpoint.step == 1
    uncommitted = (name, damage) == ("COMMIT.json", "missing")
    assert uncommitted or "step-00000002: " in warnings(caplog)[0]


def test_no_checkpoint_is_found_in_an_empty_location(written: Written, tmp_path: Path) -> None:
    assert written.checkpoints.newest() is None
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    assert written.checkpoints.newest() is None


def test_partial_checkpoint_of_a_killed_run_is_ignored_and_deleted(written: Written, tmp_path: Path) -> None:
    partial = tmp_path / "checkpoints" / "partial-step-00000007"
    partial.mkdir(parents=True)
    assert written.checkpoints.newest() is None
    written.checkpoints.clean()
    assert not partial.exists()


def test_only_the_newest_are_kept(written: Written, tmp_path: Path) -> None:
    written.save(1, 2, 3, 10)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000003", "step-00000010"]


def test_step_with_a_damaged_checkpoint_is_saved_again(written: Written, tmp_path: Path) -> None:
    written.save(1, 2)
    flip_last_bit(tmp_path / "checkpoints" / "step-00000002" / "__0_0.distcp")
    assert written.checkpoints.newest() is not None
    written.save(2)
    checkpoint = written.checkpoints.newest()
    assert checkpoint is not None
    assert checkpoint.step == 2


def test_retention_never_deletes_the_only_valid_checkpoint(dataset: Dataset, tmp_path: Path) -> None:
    written = Written(str(tmp_path / "checkpoints"), dataset, keep=1)
    written.save(1)
    assert written.checkpoints.steps() == [1]
    written.checkpoints.save(position(2), written.tensors(), sidecars={"no/such/folder": "x"})
    with pytest.raises(CheckpointError, match="could not be written"):
        written.checkpoints.wait()
    checkpoint = written.checkpoints.newest()
    assert checkpoint is not None
    assert checkpoint.step == 1


def test_damaged_checkpoints_of_later_steps_do_not_displace_valid_ones(dataset: Dataset, tmp_path: Path) -> None:
    written = Written(str(tmp_path / "checkpoints"), dataset)
    written.save(2, 9)
    flip_last_bit(tmp_path / "checkpoints" / "step-00000009" / "__0_0.distcp")
    resumed = Written(str(tmp_path / "checkpoints"), dataset, keep=1)
    resumed.save(4)
    checkpoint = resumed.checkpoints.newest()
    assert checkpoint is not None
    assert checkpoint.step == 4
    assert resumed.checkpoints.steps() == [4, 9]
    resumed.save(9)
    assert resumed.checkpoints.steps() == [9]
    assert resumed.checkpoints.newest() is not None


def test_remains_of_an_interrupted_deletion_are_deleted_by_the_next_one(written: Written, tmp_path: Path) -> None:
    written.save(1, 2)
    (tmp_path / "checkpoints" / "step-00000001" / "COMMIT.json").unlink()
    written.save(3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]


def test_commit_record_that_lists_too_few_files_makes_no_checkpoint(
    written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written.save(1)
    commit = tmp_path / "checkpoints" / "step-00000001" / "COMMIT.json"
    content = json.loads(commit.read_text())
    del content["files"]["trainer.json"]
    commit.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="none of the checkpoints here is valid"):
        written.checkpoints.newest()
    assert "does not list trainer.json" in warnings(caplog)[0]


class Malice:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_table_of_contents_that_names_other_code_is_not_unpickled(written: Written, tmp_path: Path) -> None:
    written.save(1)
    folder = tmp_path / "checkpoints" / "step-00000001"
    content = pickle.dumps(Malice(tmp_path / "malice"))
    (folder / ".metadata").write_bytes(content)
    commit = json.loads((folder / "COMMIT.json").read_text())
    commit["files"][".metadata"] = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128(content).hexdigest()}
    (folder / "COMMIT.json").write_text(json.dumps(commit))
    with pytest.raises(CheckpointError, match="mkdir, which no checkpoint needs"):
        load_model(folder)
    assert not (tmp_path / "malice").exists()


def test_model_is_loaded_with_averaged_or_last_weights_from_run_folder_or_step(
    written: Written, tmp_path: Path
) -> None:
    written.save(1, 2)
    checkpoints = tmp_path / "checkpoints"
    for path in (tmp_path, checkpoints, checkpoints / "step-00000002", f"file://{checkpoints}"):
        model, tokenizer, special = load_model(path)
        assert model.lm_head.weight[0, 0] == 3.0
        assert torch.equal(model.z_L_init, written.model.z_L_init)
        assert tokenizer.encode("w20 w21").ids == [20, 21]
        assert tokenizer.token_to_id("<|im_start|>") == special["<|im_start|>"]
    model, _, _ = load_model(tmp_path / "checkpoints" / "step-00000001", ema=False)
    assert model.lm_head.weight[0, 0] == 1.0
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        load_model(tmp_path / "data")


def test_checkpoints_on_s3_are_found_kept_and_skipped_like_local_ones(
    dataset: Dataset, bucket: str, tmp_path: Path
) -> None:
    written = Written(f"{bucket}/run", dataset)
    written.save(1, 2, 3)
    assert written.checkpoints.steps() == [2, 3]
    checkpoint = written.checkpoints.newest()
    assert checkpoint is not None
    assert checkpoint.position == position(3)
    checkpoint.load_into({"model": written.model.state_dict()})
    assert open_checkpoint(checkpoint.folder).step == 3
    import fsspec

    filesystem, root = fsspec.core.url_to_fs(f"{bucket}/run/step-00000003/trainer.json")
    filesystem.pipe_file(root, b"{}")
    previous = written.checkpoints.newest()
    assert previous is not None
    assert previous.step == 2
    written.checkpoints.clean()
    assert list(written.staging.iterdir()) == []


def test_checkpoint_whose_tensors_cannot_be_read_is_passed_over_on_disk_and_on_s3(
    written: Written, bucket: str, tmp_path: Path
) -> None:
    written.save(1, 2)
    folder = tmp_path / "checkpoints/step-00000002"
    file = folder / "__0_0.distcp"
    file.write_bytes(b"x" * file.stat().st_size)
    commit = json.loads((folder / "COMMIT.json").read_text())
    commit["files"] = file_records([path for path in folder.iterdir() if path.name != "COMMIT.json"])
    (folder / "COMMIT.json").write_text(json.dumps(commit))
    upload(tmp_path / "checkpoints", f"{bucket}/run")
    for place in (tmp_path / "checkpoints", f"{bucket}/run"):
        model, _, _ = load_model(place, ema=False)
        assert model.lm_head.weight[0, 0] == 1.0
        with pytest.raises(CheckpointError, match="its tensors cannot be read"):
            load_model(f"{place}/step-00000002")


def test_checkpoint_on_s3_is_used_even_if_the_metrics_are_lost(
    dataset: Dataset, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Written(f"{bucket}/run", dataset).save(1)
    history = tmp_path / "elsewhere" / "metrics.jsonl"
    found = CheckpointManager(f"{bucket}/run", staging=tmp_path / "fetched", keep=1, history=history).newest()
    assert found is not None
    assert found.step == 1
    assert "metrics.jsonl is missing" in warnings(caplog)[0]
    assert list(history.parent.iterdir()) == []


def test_command_lists_the_checkpoints_of_a_run_or_a_given_one(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written.save(1, 2)
    for place, shown in (("", ["1", "2"]), ("checkpoints", ["1", "2"]), ("checkpoints/step-00000001", ["1"])):
        for prefix in ("", "file://"):
            assert main([f"{prefix}{tmp_path / place}"]) == 0
            assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == shown
    assert main([str(tmp_path / "checkpoints" / "step-00000003")]) == 1
