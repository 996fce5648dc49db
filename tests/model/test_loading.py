"""Claims about loading trained models."""

import doctest
import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import model
from model import hf, loading
from model.config import ModelConfig
from model.hrm import HRM
from model.loading import CheckpointError
from tests.attacks.attack import UNKNOWN_TAG
from trainer.checkpointing.manager import CheckpointManager
from trainer.position import Position

SPECIAL = {"<|im_start|>": 0, "<|im_end|>": 1, "<|box_end|>": 2}


@pytest.fixture
def trained() -> HRM:
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "head_dim": 8, "intermediate_size": 24}
    return HRM(ModelConfig(vocab_size=5, **shape), seed=3)


@pytest.fixture
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({**SPECIAL, "yes": 3, "no": 4}, unk_token="no"))
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


@pytest.fixture
def run_folder(trained: HRM, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """Folder of a run with checkpoints of steps 1 and 2; averaged weights are the weights plus the step."""
    manager = CheckpointManager(str(tmp_path / "run/checkpoints"), staging=tmp_path, keep=2)
    for step in (1, 2):
        averaged = {name: p.detach() + step for name, p in trained.named_parameters()}
        manager.save(
            Position(step=step, updates=step, plan_key="", plan_hash="", epoch=0, chunk=0, next_batch=0),
            {"model": trained.state_dict(), "ema": averaged},
            sidecars={
                "config.json": json.dumps({"model": asdict(trained.config), "special": SPECIAL}),
                "manifest.json": "{}",
                "tokenizer.json": tokenizer.to_str(),
            },
        )
    manager.wait()
    return tmp_path / "run"


def test_a_run_its_checkpoints_and_one_checkpoint_are_loaded_with_averaged_or_last_weights(
    trained: HRM, run_folder: Path
) -> None:
    for path in (run_folder, run_folder / "checkpoints", str(run_folder / "checkpoints/step-00000002")):
        assert torch.equal(model.load(path).model.lm_head.weight, trained.lm_head.weight + 2)
        assert torch.equal(model.load(path, ema=False).model.lm_head.weight, trained.lm_head.weight)
    loaded = model.load(run_folder / "checkpoints" / "step-00000001")
    assert torch.equal(loaded.model.lm_head.weight, trained.lm_head.weight + 1)
    assert torch.equal(loaded.model.z_L_init, trained.z_L_init)
    assert loaded.special == SPECIAL
    assert loaded.tokenizer.encode("yes").ids == [3]
    assert not loaded.model.training


def test_a_folder_in_the_hugging_face_format_is_loaded_with_its_tokenizer(
    trained: HRM, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    hf.save(trained, tmp_path, max_positions=8)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        model.load(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = model.load(tmp_path)
    assert torch.equal(loaded.model.lm_head.weight, trained.lm_head.weight)
    assert loaded.special == SPECIAL
    assert loaded.tokenizer.encode("yes").ids == [3]
    broken = json.loads(tokenizer.to_str()) | {"post_processor": UNKNOWN_TAG}
    (tmp_path / "tokenizer.json").write_text(json.dumps(broken))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: is not a tokenizer\.json of the library tokenizers"):
        model.load(tmp_path)


def test_a_folder_without_a_model_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no valid checkpoint here"):
        model.load(tmp_path / "elsewhere")
    (run_folder / "checkpoints/step-00000002/COMMIT.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no COMMIT\.json: it was never finished"):
        model.load(run_folder / "checkpoints/step-00000002")


def test_the_documented_example_runs(run_folder: Path) -> None:
    (example,) = doctest.DocTestFinder().find(loading.load, "load", globs={"folder": run_folder})
    results = doctest.DocTestRunner().run(example)
    assert results.attempted == 4
    assert results.failed == 0
