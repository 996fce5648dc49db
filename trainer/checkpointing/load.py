"""Load a trained model from a location that may be remote."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer

import model
from corpus.contract import SPECIAL_TOKENS
from corpus.storage.location import is_url, local_path
from corpus.storage.redact import redact
from model.hrm import HRM
from model.loading import CheckpointError, LoadedModel, load_checkpoint
from trainer.checkpointing.checkpoint import step_of
from trainer.checkpointing.manager import CheckpointManager

T = TypeVar("T")


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
    if is_url(str(location)):
        with tempfile.TemporaryDirectory() as staging:
            loaded = fetch(str(location), Path(staging), lambda folder: load_checkpoint(folder, ema=ema))
    else:
        loaded = model.load(local_path(str(location)), ema=ema)
    if missing := [tag for tag in SPECIAL_TOKENS if tag not in loaded.special]:
        raise CheckpointError(
            f"{redact(str(location))}: its tokenizer lacks the special tokens {', '.join(missing)}, with which prompts "
            "are written; expected a model that was trained on a dataset of Millrace"
        )
    return loaded


def split_location(location: str) -> tuple[str, int | None]:
    """Split the location of one checkpoint into its parent and its step; of another folder the step is None."""
    parent, _, name = location.rstrip("/").rpartition("/")
    step = step_of(name)
    return (location, None) if step is None else (parent or ".", step)


def fetch(url: str, staging: Path, use: Callable[[Path], T]) -> T:
    """Call a function with the checkpoint at a URL, or with the newest valid one of a folder of them.

    Parameters
    ----------
    url
        Of a checkpoint, or of a folder of checkpoints.
    staging
        Folder to which the checkpoint is fetched.
    use
        Gets the checkpoint's folder on this machine. Of several, one with which it raises `CheckpointError` is skipped.

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
        return use(manager.fetch(step))
    found: list[T] = []
    manager.newest(use=lambda checkpoint: found.append(use(checkpoint.folder)))
    if not found:
        raise CheckpointError(f"{redact(url)}: no valid checkpoint here; expected step-NNNNNNNN, or a folder of such")
    return found[0]
