"""One checkpoint as the trainer writes and resumes it.

    step-00000500/
      __0_0.distcp …, .metadata   torch.distributed.checkpoint: model, m, v, ema
      config.json                 the model's shape and the special token ids
      tokenizer.json              so that generation needs nothing else
      trainer.json                step, resume state of the data, random state, loss, time
      manifest.json               the run's manifest, and what its batch plan follows from
      COMMIT.json                 written last: size and hash of each file above

A folder without a COMMIT.json that fits it is no checkpoint. The reading side, which needs no trainer, is
`model.checkpoint`; the checkpoints of a run together are `trainer.checkpoints`.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.checkpoint import FORMAT, STEP, CheckpointError, Tensors, file_hash, read_tensors, verify
from trainer.position import Position

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Tensors",
    "describe",
    "folder_name",
    "open_checkpoint",
    "step_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A valid checkpoint, on this machine."""

    step: int
    folder: Path
    progress: Position

    def sidecar(self, name: str) -> Any:
        """One of its JSON files."""
        return json.loads((self.folder / name).read_text())

    def load_into(self, tensors: Tensors, *, group: dist.ProcessGroup | None = None) -> None:
        """Read the tensors of these names, in place; they may be whole or sharded, however they were when saved."""
        read_tensors(self.folder, tensors, group)

    def restore_random_state(self) -> None:
        """Give torch's generators the state they had."""
        state = self.sidecar("trainer.json")["random"]
        torch.set_rng_state(_from_text(state["cpu"]))
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(_from_text(state["cuda"]))


def open_checkpoint(folder: Path, *, verified: bool = False) -> Checkpoint:
    """A checkpoint, after its files were checked against its commit record.

    Parameters
    ----------
    folder
        The folder that has the COMMIT.json.
    verified
        Whether that has been done already.

    Raises
    ------
    CheckpointError
        There is no commit record, or a file is missing, has another size or another hash.
    """
    if not verified:
        verify(folder)
    progress = Position(**json.loads((folder / "trainer.json").read_text())["progress"])
    return Checkpoint(step=progress.step, folder=folder, progress=progress)


def describe(progress: Position, loss: float | None) -> str:
    """Content of trainer.json, with torch's random state as it is now."""
    cuda = _to_text(torch.cuda.get_rng_state()) if torch.cuda.is_initialized() else None
    return json.dumps(
        {
            "format": FORMAT,
            "progress": asdict(progress),
            "random": {"cpu": _to_text(torch.get_rng_state()), "cuda": cuda},
            "loss": loss,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        indent=1,
    )


def record_of(files: list[Path]) -> dict[str, dict[str, int | str]]:
    """Entries of a commit record: size and hash of files, by name."""
    return {file.name: {"bytes": file.stat().st_size, "xxh3_128": file_hash(file)} for file in sorted(files)}


def commit_record(step: int, files: Mapping[str, Mapping[str, int | str]]) -> str:
    """Content of COMMIT.json."""
    return json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1)


def folder_name(step: int) -> str:
    """Name of a step's folder."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """Step of a folder; None where it is none of a checkpoint."""
    match = STEP.fullmatch(name)
    return int(match[1]) if match else None


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
