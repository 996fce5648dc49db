"""One checkpoint: its files as the trainer writes them, and how a run resumes from it.

    step-00000500/
      __0_0.distcp …, .metadata   torch.distributed.checkpoint: model, m, v, ema
      config.json                 the model's shape, special token ids, prompt template, longest sample
      tokenizer.json              so that generation needs no dataset
      trainer.json                step, position in the data, random state, loss, time
      manifest.json               the run's manifest, and the inputs of its batch plan
      COMMIT.json                 written last: size and hash of each file above

A folder whose files do not match its COMMIT.json is not a checkpoint. `model.loading` reads checkpoints without the
trainer; `trainer.checkpointing.manager` manages the checkpoints of a run.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.config import ModelConfig
from model.loading import (
    FORMAT,
    STEP_FOLDER,
    Tensors,
    file_hash,
    read_config,
    read_manifest,
    read_tensors,
    read_trainer_state,
    verify,
)
from model.sidecars import TrainerState
from trainer.position import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A valid checkpoint on this machine."""

    step: int
    folder: Path
    position: Position

    state: TrainerState
    """Content of trainer.json."""

    @property
    def model(self) -> ModelConfig:
        """Shape of its model."""
        return read_config(self.folder).model

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The run's manifest; empty in checkpoints of earlier versions."""
        return read_manifest(self.folder).get("manifest", {})

    @property
    def plan(self) -> Mapping[str, Any]:
        """Inputs of the run's batch plan; empty in checkpoints of earlier versions."""
        return read_manifest(self.folder).get("plan", {})

    def load_into(self, tensors: Tensors, *, group: dist.ProcessGroup | None = None) -> None:
        """Read tensors in place by group and name; they may be sharded differently than when they were saved."""
        read_tensors(self.folder, tensors, group)

    def restore_random_state(self) -> None:
        """Set the state of torch's random number generators to the saved one."""
        torch.set_rng_state(_tensor(self.state.random))
        if self.state.random_cuda is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(_tensor(self.state.random_cuda))


def open_checkpoint(folder: Path, *, verified: bool = False) -> Checkpoint:
    """Open a checkpoint, after checking its files against its commit record and what they hold.

    Parameters
    ----------
    folder
        The folder that holds COMMIT.json.
    verified
        Skip the check, because it was done before.

    Raises
    ------
    CheckpointError
        There is no commit record, a file is missing or has another size or hash, or does not have its content.
    """
    if not verified:
        verify(folder)
    state = read_trainer_state(folder)
    position = Position(**state.position)
    return Checkpoint(step=position.step, folder=folder, position=position, state=state)


def trainer_json(position: Position, loss: float | None) -> str:
    """Content of trainer.json, with the current state of torch's random number generators."""
    cuda = _to_text(torch.cuda.get_rng_state()) if torch.cuda.is_initialized() else None
    return json.dumps(
        {
            "format": FORMAT,
            "progress": asdict(position),
            "random": {"cpu": _to_text(torch.get_rng_state()), "cuda": cuda},
            "loss": loss,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        indent=1,
    )


def file_records(files: Sequence[Path]) -> dict[str, dict[str, int | str]]:
    """Entries of a commit record for files: size and hash by name."""
    return {file.name: {"bytes": file.stat().st_size, "xxh3_128": file_hash(file)} for file in sorted(files)}


def commit_record(step: int, files: Mapping[str, Mapping[str, int | str]]) -> str:
    """Content of COMMIT.json."""
    return json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1)


def folder_name(step: int) -> str:
    """Name of a step's folder."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """Step of a folder by its name; None if it is not the name of a checkpoint's folder."""
    match = STEP_FOLDER.fullmatch(name)
    return int(match[1]) if match else None


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _tensor(state: bytes) -> Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)
