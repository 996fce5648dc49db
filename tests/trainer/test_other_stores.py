"""Claim: a store that is neither a folder nor S3, without conditional requests, serves data and keeps checkpoints."""

import json
from pathlib import Path

import fsspec
import pytest

from tests.trainer.data.test_dataset import upload
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.checkpointing.load import load_model
from trainer.train import main as train


@pytest.mark.slow  # trains models
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_run_reads_and_continues_from_a_store_of_another_kind(tmp_path: Path) -> None:
    place = f"memory://{tmp_path.name}"
    upload(write_dataset(tmp_path / "data"), f"{place}/data")
    checkpoint = {"path": f"{place}/run", "every": 2}
    for steps in (2, 4):
        manifest = write_manifest(tmp_path, f"{place}/data", epochs=None, checkpoint=checkpoint, steps=steps)
        assert train([str(manifest)]) == 0
    filesystem = fsspec.filesystem("memory")
    kept = {path.rpartition("/")[2] for path in filesystem.ls(f"/{tmp_path.name}/run", detail=False)}
    assert "step-00000004" in kept
    assert ".lease.json" not in kept
    load_model(f"{place}/run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
