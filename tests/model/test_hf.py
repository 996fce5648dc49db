"""Which folders are read as hrm_text models; test_parity.py compares the models themselves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model import hf
from model.config import ModelConfig
from model.hrm import HRM


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig(
        vocab_size=40, num_layers=2, hidden_size=16, num_heads=2, head_dim=8, intermediate_size=24, rope_theta=500_000.0
    )
    hf.save(HRM(config, seed=0), tmp_path, max_positions=64)
    return tmp_path


def change(folder: Path, **keys: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config = {key: value for key, value in (config | keys).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("written", [{"rope_theta": 500_000.0}, {"rope_theta": 500_000.0, "partial_rotary_factor": 1}])
def test_rope_theta_is_read_from_where_older_versions_write_it(folder: Path, written: dict[str, Any]) -> None:
    tokens, prefix = torch.arange(12)[None], torch.tensor([5])
    expected = hf.load(folder).logits(tokens, prefix_len=prefix)
    change(folder, rope_parameters=None, **written)
    assert torch.equal(hf.load(folder).logits(tokens, prefix_len=prefix), expected)
    change(folder, rope_theta=10_000.0)
    assert not torch.equal(hf.load(folder).logits(tokens, prefix_len=prefix), expected)


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "attention_factor": 1.2}},
        {"partial_rotary_factor": 0.5},
    ],
)
def test_unsupported_rotations_are_refused(folder: Path, keys: dict[str, Any]) -> None:
    change(folder, **keys)
    with pytest.raises(hf.FormatError, match=r"config\.json: rope_parameters has .*expected rope_theta only"):
        hf.load(folder)
