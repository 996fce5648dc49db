"""Load a trained model from a location that may be remote."""

import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer

import model
from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact
from model.hrm import HRM
from model.loading import CheckpointError, LoadedModel, check_tensors
from trainer.checkpointing.checkpoint import step_of
from trainer.checkpointing.manager import CheckpointManager


def load_model(
    location: str | Path, *, ema: bool = True, device: str | torch.device = "cpu"
) -> tuple[HRM, Tokenizer, dict[str, int]]:
    """Load a trained model from a local folder or an fsspec URL.

    Parameters
    ----------
    location
        Whatever `model.load` reads, or the URL of a checkpoint or of a folder of checkpoints. The newest valid
        checkpoint is used.
    ema
        Use the averaged weights instead of those of the last step.
    device
        Where to put the model.

    Returns
    -------
    model, tokenizer, special
        `special` maps special tokens to their ids.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint at the location.
    StorageError
        The store does not respond.
    """
    loaded = load(location, ema=ema)
    return loaded.model.to(device), loaded.tokenizer, dict(loaded.special)


def load(location: str | Path, *, ema: bool = True) -> LoadedModel:
    """Load a trained model, on the CPU, with its tokenizer; parameters and errors as for `load_model`."""
    with tempfile.TemporaryDirectory() as staging:
        folder = fetch(str(location), Path(staging)) if is_url(str(location)) else local_path(str(location))
        return model.load(folder, ema=ema)


def split_location(location: str) -> tuple[str, int | None]:
    """Split the location of one checkpoint into its parent and its step; of another folder the step is None."""
    parent, _, name = location.rstrip("/").rpartition("/")
    step = step_of(name)
    return (location, None) if step is None else (parent or ".", step)


def fetch(url: str, staging: Path) -> Path:
    """Fetch the checkpoint at a URL, or the newest valid one of a folder of them, into the folder `staging`.

    Returns
    -------
    Path
        The checkpoint's folder on this machine.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint at the URL.
    StorageError
        The store does not respond.
    """
    parent, step = split_location(url)
    manager = CheckpointManager(parent, staging=staging, keep=1)
    if step is not None:
        return manager.fetch(step)
    newest = manager.newest(use=lambda checkpoint: check_tensors(checkpoint.folder))
    if newest is None:
        raise CheckpointError(f"{redact(url)}: no valid checkpoint here; expected step-NNNNNNNN, or a folder of such")
    return newest.folder
