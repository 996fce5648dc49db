"""The small files of a checkpoint, parsed and checked: COMMIT.json, config.json, trainer.json, manifest.json.

Each function raises `FieldError` with a phrase; `model.loading` adds the file's name.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.config import ModelConfig
from model.fields import FieldError, Fields, read_fields, shown

MAX_STEP = 99_999_999
"""Largest step, which fits the name of its folder."""
_CUDA_BYTES = (8, 16)
"""Sizes of the random state of a GPU: a seed, and an offset."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Content of config.json."""

    model: ModelConfig
    special: Mapping[str, int]
    """Ids of the special tokens."""
    content: Mapping[str, Any]
    """The whole file; those of earlier versions lack `template` and `max_positions`."""


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """Content of trainer.json."""

    position: Mapping[str, Any]
    """Fields of `trainer.position.Position`."""
    random: bytes
    """State of torch's random number generator of the CPU."""
    random_cuda: bytes | None
    loss: float | None
    time: str


def parse_commit(path: Path) -> tuple[int, Mapping[str, tuple[int, str]]]:
    """Return the step of a commit record, and size and XXH3-128 of each file by name."""
    commit = read_fields(path)
    step = commit.count("step", at_most=MAX_STEP)
    files = commit.fields("files")
    found = {}
    for name in files:
        entry = files.fields(name)
        found[name] = (entry.count("bytes"), entry.text("xxh3_128"))
    return step, found


def parse_config(path: Path) -> CheckpointConfig:
    """Read config.json."""
    config = read_fields(path)
    try:
        model = ModelConfig(**config.fields("model").content)
    except FieldError:
        raise
    except (TypeError, ValueError) as error:
        raise FieldError(f"model: {error}") from None
    tags = config.fields("special")
    special = {tag: tags.count(tag, at_most=model.vocab_size - 1) for tag in tags}
    if not special or len(set(special.values())) != len(special):
        raise FieldError(f"special is {shown(special)}, expected special tokens with different ids")
    if "template" in config:
        _check_template(config.fields("template"), special)
    if "max_positions" in config:
        config.count("max_positions", at_least=1)
    return CheckpointConfig(model=model, special=special, content=config.content)


def _check_template(template: Fields, special: Mapping[str, int]) -> None:
    template.only("start", "end_of_prefix", "end_of_response", "pad", "conditions", "labels")
    conditions = template.content.get("conditions")
    if not isinstance(conditions, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in conditions
    ):
        raise FieldError(f"template.conditions is {shown(conditions)}, expected a list of [name, tag]")
    tags = [template.text(name) for name in ("start", "end_of_prefix", "end_of_response", "pad")]
    for tag in (*tags, *(tag for _, tag in conditions)):
        if tag not in special:
            raise FieldError(f"template names the tag {shown(tag)}, which special lacks")
    if "labels" in template:
        labels = template.fields("labels")
        for role in labels:
            labels.text(role)


def parse_trainer(path: Path, *, step: int) -> TrainerState:
    """Read trainer.json of the checkpoint of a step."""
    trainer = read_fields(path)
    progress = trainer.fields("progress").only(*POSITION, *HASHES)
    position: dict[str, Any] = {
        name: progress.count(name, at_least=step if name == "step" else 0, at_most=step) for name in POSITION
    }
    for name in HASHES:
        position[name] = progress.text(name)
    random = trainer.fields("random").only("cpu", "cuda")
    cpu = _bytes_of(random, "cpu")
    try:
        torch.Generator().set_state(torch.frombuffer(bytearray(cpu), dtype=torch.uint8))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0][:80]
        raise FieldError(f"random.cpu has {len(cpu):,} bytes that are no state of a generator ({reason})") from None
    cuda = _bytes_of(random, "cuda") if "cuda" in random else None
    if cuda is not None and len(cuda) not in _CUDA_BYTES:
        raise FieldError(f"random.cuda has {len(cuda):,} bytes, expected {_CUDA_BYTES[-1]}")
    return TrainerState(
        position=position,
        random=cpu,
        random_cuda=cuda,
        loss=trainer.number("loss") if "loss" in trainer else None,
        time=trainer.text("time") if "time" in trainer else "",
    )


POSITION = ("step", "updates", "epoch", "chunk", "next_batch")
"""Numbers of a position in the batch plan; none is larger than the step, since each of them takes a step."""
HASHES = ("plan_key", "plan_hash")


def parse_manifest(path: Path) -> Mapping[str, Any]:
    """Read manifest.json; that of an earlier version lacks fields."""
    manifest = read_fields(path)
    for name in ("manifest", "plan"):
        if name in manifest.content:
            manifest.fields(name)
    return manifest.content


def _bytes_of(found: Fields, name: str) -> bytes:
    text = found.text(name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FieldError(f"random.{name} is {shown(text)}, expected base64") from None
