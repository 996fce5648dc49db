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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("embedding_scale", "big", "embedding_scale is 'big', expected a number"),
        ("embedding_scale", -1.0, "embedding_scale is -1.0, expected a number above 0"),
        ("embedding_scale", float("nan"), "embedding_scale is nan, expected a number above 0"),
        ("rope_parameters", [1], r"rope_parameters is \[1\], expected an object"),
        ("rope_parameters", {"rope_theta": "x"}, "rope_parameters.rope_theta is 'x', expected a number"),
        ("num_hidden_layers", 1.5, "num_hidden_layers is 1.5, expected a whole number"),
        ("num_layers_per_stack", 0, "num_layers_per_stack is 0, expected a whole number from 1"),
        ("vocab_size", True, "vocab_size is True, expected a whole number"),
        ("H_cycles", "2", "H_cycles is '2', expected a whole number"),
        ("prefix_lm", "no", "prefix_lm is 'no', expected true or false"),
        ("rms_norm_eps", [], r"rms_norm_eps is \[\], expected a number"),
        ("hidden_size", None, "lacks the field hidden_size"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(folder: Path, key: str, value: Any, message: str) -> None:
    change(folder, **{key: value})
    with pytest.raises(hf.FormatError, match=rf"config\.json: {message}"):
        hf.load(folder)


def test_a_null_is_the_default(folder: Path) -> None:
    tokens, prefix = torch.arange(12)[None], torch.tensor([5])
    expected = hf.load(folder).logits(tokens, prefix_len=prefix)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"embedding_scale": None, "H_cycles": None}))
    assert torch.equal(hf.load(folder).logits(tokens, prefix_len=prefix), expected)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ([], r"weight_map is \[\], expected an object"),
        ({"lm_head.weight": 3}, "weight_map.lm_head.weight is 3, expected text"),
        ({"lm_head.weight": "../model.safetensors"}, "a file outside of the folder"),
        ({"lm_head.weight": "other.safetensors"}, "other.safetensors, which is missing"),
    ],
)
def test_an_index_of_tensor_files_is_refused_by_what_is_wrong(folder: Path, weight_map: Any, message: str) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(hf.FormatError, match=message):
        hf.load(folder)
