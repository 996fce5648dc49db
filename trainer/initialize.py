"""Weights of a new run from those of a trained model: `init` of a training manifest.

    init ─ load, on rank 0 ─▶ LoadedModel ─ check: same shape, same tokenizer ─▶ weights and their moving average

The optimizer starts fresh: its moments are zero, and the moving average starts at the weights.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from corpus.cli import say
from corpus.config import ConfigError
from corpus.contract import SPECIAL_TOKENS, without_special_tokens
from corpus.storage.redact import redact
from model.config import SIZES, ModelConfig, config_for
from model.loading import LoadedModel
from trainer.build import Run
from trainer.checkpointing.load import load
from trainer.config import TrainConfig
from trainer.data.dataset import Dataset

_SHOWN = 3
"""Differing tokens that a message names."""


def initialize(run: Run) -> None:
    """Copy the weights that `init` names into a new run, if it names some; called on all ranks.

    Raises
    ------
    ConfigError
        They are of another shape than the run's model, or were trained with another tokenizer.
    model.loading.CheckpointError
        There is no valid checkpoint or exported model at this place.
    """
    world = run.world
    if run.config.init is None:
        return
    source: dict[str, Tensor] = {}

    def read() -> None:
        source.update(load_initial(run.config, run.dataset).model.state_dict())

    world.broadcast_from_main(read)
    averages = run.optimizer.named_state()["ema"]
    with torch.no_grad():
        for name, target in run.model.state_dict().items():
            value = source[name] if world.is_main else torch.empty(target.shape, dtype=torch.float32)
            world.broadcast(value)
            _assign(target, value)
            if name in averages:
                _assign(averages[name], value)
    if world.is_main:
        say(f"init: the {run.config.init_weights} weights of {run.config.init}")


def load_initial(config: TrainConfig, dataset: Dataset) -> LoadedModel:
    """Load the model that `init` names and check that a run can start from it.

    Raises
    ------
    ConfigError, model.loading.CheckpointError
        As for `initialize`.
    """
    assert config.init is not None
    loaded = load(config.init, ema=config.init_weights == "averaged")
    wanted = config.model_config_for(dataset.vocab_size)
    where = redact(config.init)
    if differing := _shape_differences(loaded.model.config, wanted):
        raise ConfigError(
            f"init: the model of {where} has another shape than this run: {'; '.join(differing)}. "
            f"{_hint(loaded.model.config, dataset.vocab_size)}"
        )
    if differing := tokenizer_differences(loaded, dataset.tokenizer().to_str(), dataset.special):
        raise ConfigError(
            f"init: the tokenizer of {where} is not that of the dataset {redact(config.data)}: {'; '.join(differing)}. "
            f"Build the dataset with the model's tokenizer: tokenizer.file=FOLDER with the model's tokenizer.json"
        )
    return loaded


def tokenizer_differences(loaded: LoadedModel, tokenizer_json: str, special: Mapping[str, int]) -> list[str]:
    """Compare the tokenizer of a model with that of a dataset, as far as it determines the ids of text and tags.

    Post-processor, padding, truncation and decoder are not compared: prompts and samples are written without them.

    Parameters
    ----------
    loaded
        The model.
    tokenizer_json, special
        Content of the dataset's tokenizer.json, and its ids of special tokens.

    Returns
    -------
    list of str
        A phrase for each difference.
    """
    differences = [
        f"{tag} has the id {loaded.special.get(tag)} in the model and {special[tag]} in the dataset"
        for tag in SPECIAL_TOKENS
        if loaded.special.get(tag) != special[tag]
    ]
    theirs, ours = (Tokenizer.from_str(text) for text in (loaded.tokenizer_json, tokenizer_json))
    model_ids, data_ids = (tokenizer.get_vocab(with_added_tokens=True) for tokenizer in (theirs, ours))
    tokens = sorted(
        token for token in model_ids.keys() | data_ids.keys() if model_ids.get(token) != data_ids.get(token)
    )
    if tokens:
        named = ", ".join(f"{token!r} ({model_ids.get(token)}, {data_ids.get(token)})" for token in tokens[:_SHOWN])
        differences.append(f"{len(tokens):,} tokens have other ids in the model and in the dataset: {named}")
    their_parts, our_parts = _parts(theirs), _parts(ours)
    differences += [
        f"they have another {name}" for name, part in our_parts.items() if not tokens and part != their_parts[name]
    ]
    return differences


def _parts(tokenizer: Tokenizer) -> dict[str, Any]:
    """Parts of a tokenizer that determine the ids of a text, besides its vocabulary."""
    content = json.loads(Tokenizer.from_str(without_special_tokens(tokenizer.to_str())).to_str())
    model = {key: value for key, value in content["model"].items() if key != "vocab"}
    return {
        "normalizer": content["normalizer"],
        "split pattern": content["pre_tokenizer"],
        "list of merges": model.pop("merges", None),
        "kind of model": model,
    }


def _shape_differences(found: ModelConfig, wanted: ModelConfig) -> list[str]:
    theirs, ours = asdict(found), asdict(wanted)
    return [f"{name} is {theirs[name]} there and {ours[name]} here" for name in ours if theirs[name] != ours[name]]


def _hint(found: ModelConfig, vocab_size: int) -> str:
    """What to change in the manifest to get the shape of a model."""
    if found.vocab_size != vocab_size:
        return (
            f"The dataset has {vocab_size:,} tokens: build it with the model's tokenizer, tokenizer.file=FOLDER with "
            f"the model's tokenizer.json"
        )
    for size in SIZES:
        if config_for(size, vocab_size) == found:
            return f"Set model={{size: {size}}}"
    return "Set these keys of model as they are there"


def _assign(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into a tensor of the same shape, which may be sharded."""
    if isinstance(target, DTensor):
        whole = value.to(target.to_local().device)
        target.copy_(distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None))
    else:
        target.copy_(value)
