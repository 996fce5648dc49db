"""Claims about runs that start from the weights of a trained model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

import model
from corpus.config import load_manifest
from model import export
from tests.trainer.data.test_dataset import upload
from tests.trainer.fixtures import seal, write_dataset, write_manifest
from tests.trainer.processes import determined, finish, lines, run, start_ranks, steps
from trainer.build import build
from trainer.config import TrainConfig
from trainer.data.dataset import open_dataset
from trainer.distributed.world import World
from trainer.resume import restore
from trainer.schedule import gradient_depth, learning_rate
from trainer.train import main

MANIFEST = Path(__file__).parents[2] / "manifests" / "finetune.yaml"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset `data`, a run `run` on it, and its averaged weights in `exported`."""
    folder = tmp_path_factory.mktemp("base")
    manifest = write_manifest(
        folder,
        write_dataset(folder / "data"),
        epochs=None,
        steps=6,
        schedule={"warmup_steps": 0},
        eval={"rows_per_family": 2},
    )
    assert main([str(manifest)]) == 0
    assert export.main([str(folder / "run"), str(folder / "exported")]) == 0
    return folder


@pytest.fixture
def manifest(base: Path, tmp_path: Path) -> Path:
    """Manifest of a run of five steps from the weights of `base`."""
    return write_manifest(
        tmp_path, base / "data", epochs=None, steps=5, seed=1, init=str(base / "run"), checkpoint={"every": 2}
    )


def test_first_steps_are_the_same_bits_from_a_run_a_checkpoint_s3_and_an_exported_folder(
    base: Path, manifest: Path, tmp_path: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(base / "run" / "checkpoints", f"{bucket}/base")
    (checkpoint,) = (base / "run" / "checkpoints").glob("step-00000006")
    places = [base / "run", checkpoint, f"{bucket}/base", f"{bucket}/base/{checkpoint.name}", base / "exported"]
    for number, place in enumerate(places):
        assert main([str(manifest), f"init={place}", f"out={tmp_path}/{number}", "steps=2"]) == 0
        assert determined(tmp_path / str(number)) == determined(tmp_path / "0"), place
        assert f"init: the averaged weights of {place}" in capsys.readouterr().out
    for name, change in {"last": "init_weights=last", "drawn": "init=null"}.items():
        assert main([str(manifest), change, f"out={tmp_path}/{name}", "steps=2"]) == 0
        assert steps(tmp_path / name)[0]["loss"] != steps(tmp_path / "0")[0]["loss"]


@pytest.mark.parametrize("weights", ["averaged", "last"])
def test_weights_and_their_average_are_those_of_the_checkpoint_and_the_optimizer_is_fresh(
    base: Path, manifest: Path, weights: str
) -> None:
    config = load_manifest(manifest, TrainConfig, [f"init_weights={weights}"])
    built = build(config, open_dataset(config.data, config.cache_folder), World.join("cpu"))
    position = restore(built)
    expected = model.load(base / "run", ema=weights == "averaged").model.state_dict()
    found, state = built.model.state_dict(), built.optimizer.named_state()
    assert (position.step, position.updates) == (0, 0)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(torch.equal(state["ema"][name], expected[name]) for name in state["ema"])
    assert not any(tensor.any() for key in ("m", "v") for tensor in state[key].values())


def test_run_that_continues_does_not_start_from_the_weights_again_nor_need_them(
    base: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(base / "exported", tmp_path / "weights")
    assert main([str(manifest), f"init={copy}", f"out={tmp_path}/whole"]) == 0
    assert main([str(manifest), f"init={copy}", "steps=3"]) == 0
    shutil.rmtree(copy)
    assert main([str(manifest), f"init={copy}"]) == 0
    assert determined(tmp_path / "run") == determined(tmp_path / "whole")
    assert main([str(manifest), f"init={base / 'exported'}", "steps=6"]) == 2
    assert f"init was {copy} and is {base / 'exported'}" in capsys.readouterr().err


def test_another_shape_is_refused_with_each_difference(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["model.num_layers=4", "model.rope_theta=500"], ["model={size: tiny}", "--dry-run"]):
        assert main([str(manifest), *arguments]) == 2
    error = capsys.readouterr().err
    assert "num_layers is 2 there and 4 here; rope_theta is 10000.0 there and 500 here. Set these keys" in error
    assert "hidden_size is 32 there and 96 here" in error


def test_hint_names_the_size_that_the_weights_have(base: Path, tmp_path: Path, capsys: Any) -> None:
    tiny = write_manifest(tmp_path, base / "data", epochs=None, steps=1, model={"size": "tiny"})
    assert main([str(tiny)]) == 0
    assert main([str(tiny), f"init={tmp_path}/run", f"out={tmp_path}/b", "model={size: B, num_layers: 2}"]) == 2
    assert "Set model={size: tiny}" in capsys.readouterr().err


def _swap_words(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["w20"], vocabulary["w21"] = vocabulary["w21"], vocabulary["w20"]


def _swap_tags(content: dict[str, Any]) -> None:
    vocabulary, tags = content["model"]["vocab"], content["added_tokens"]
    cot, direct = tags[6], tags[7]
    cot["content"], direct["content"] = direct["content"], cot["content"]
    vocabulary[cot["content"]], vocabulary[direct["content"]] = cot["id"], direct["id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap_words, "2 tokens have other ids in the model and in the dataset: 'w20' (20, 21), 'w21' (21, 20)"),
        (_swap_tags, "<|object_ref_end|> has the id 6 in the model and 7 in the dataset; <|object_ref_start|> has"),
        (lambda content: content.update(normalizer={"type": "Lowercase"}), "they have another normalizer"),
        (lambda content: content.update(pre_tokenizer={"type": "Whitespace"}), "they have another split pattern"),
        (lambda content: content["model"].update(unk_token="w16"), "they have another kind of model"),
    ],
)
def test_another_tokenizer_is_refused_with_the_differences(
    base: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, message: str
) -> None:
    data = shutil.copytree(base / "data", tmp_path / "other")
    file = data / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    seal(data, samples=120, tokens=int(json.loads((data / "dataset.json").read_text())["tokens"]), vocab_size=136)
    about = json.loads((data / "dataset.json").read_text())
    about["tokenizer"]["special"] = special
    (data / "dataset.json").write_text(json.dumps(about))
    assert main([str(manifest), f"data={data}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Build the dataset with the model's tokenizer: tokenizer.file=" in error


def test_tokenizer_of_an_exported_folder_is_that_of_its_checkpoint(base: Path, tmp_path: Path) -> None:
    """A dataset that was built with the exported tokenizer.json has its post-processor, which decides no ids."""
    data = shutil.copytree(base / "data", tmp_path / "again")
    shutil.copy(base / "exported" / "tokenizer.json", data / "tokenizer" / "tokenizer.json")
    assert Tokenizer.from_file(str(data / "tokenizer" / "tokenizer.json")).post_processor is not None
    seal(data, samples=120, tokens=int(json.loads((data / "dataset.json").read_text())["tokens"]), vocab_size=136)
    for place in ("run", "exported"):
        (tmp_path / place).mkdir()
        manifest = write_manifest(tmp_path / place, data, epochs=None, steps=1, init=str(base / place))
        assert main([str(manifest)]) == 0


@pytest.mark.slow  # two processes for each layout
@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_ranks_start_from_the_same_weights_as_one_process(manifest: Path, tmp_path: Path, distribution: str) -> None:
    assert run(manifest, f"out={tmp_path}/one", "steps=2") == 0
    ranks = start_ranks(2, manifest, f"distribution={distribution}", "steps=2", f"out={tmp_path}/two")
    assert finish(ranks, manifest) == [0, 0]
    for one, two in zip(steps(tmp_path / "one"), steps(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)


def test_evaluation_before_the_first_step_is_of_the_given_weights(base: Path, manifest: Path, tmp_path: Path) -> None:
    evaluated = ("eval.rows_per_family=2", "steps=1")
    assert main([str(manifest), *evaluated]) == 0
    assert main([str(manifest), *evaluated, "init=null", f"out={tmp_path}/drawn"]) == 0
    first, drawn = (lines(tmp_path / name, "eval")[0] for name in ("run", "drawn"))
    assert (first["step"], first["loss"]) == (0, lines(base / "run", "eval")[-1]["loss"])
    assert first["loss"] != drawn["loss"]


def test_published_recipe_is_the_manifest() -> None:
    config = load_manifest(MANIFEST, TrainConfig)
    assert (config.batch.tokens, config.epochs, config.init_weights) == (32_768, 5, "averaged")
    assert (config.optimizer.lr, config.optimizer.ema, config.optimizer.weight_decay) == (3e-5, 0.999, 0.1)
    assert config.optimizer.betas == (0.9, 0.95)
    depths = config.depths(config.model_config_for(65_536))
    assert gradient_depth(0, 1000, depths=depths, ramp=config.schedule.k_ramp) == 5
    rates = [learning_rate(step, 1000, peak=3e-5, schedule=config.schedule) for step in (0, 1000)]
    assert rates == pytest.approx([3e-5, 3e-6])
