"""Read trained models: a run's checkpoints, or a folder in the Hugging Face format.

    load ─ config.json of hrm_text ─▶ model.hf ─────────────────────────────────────┐
         ─ a run or its checkpoints ─▶ find_checkpoint (verify) ─▶ load_checkpoint ─┴▶ LoadedModel

    step-00000500/
      __0_0.distcp …, .metadata   torch.distributed.checkpoint: model, m, v, ema
      config.json                 the model's shape, special token ids, prompt template, longest sample
      tokenizer.json
      trainer.json                step, position in the data, random state
      manifest.json               the run's manifest, and the inputs of its batch plan
      COMMIT.json                 written last: size and hash of each file above

Nothing is unpickled without restriction: tensors are loaded with `weights_only`, and the pickle in which
torch.distributed.checkpoint keeps its table of contents may only name the classes of such a table.
`trainer.checkpointing` writes these folders.
"""

import json
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.distributed.checkpoint.metadata as dcp_metadata
import xxhash
from tokenizers import Tokenizer
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader

from model import hf
from model.config import ModelConfig
from model.hrm import HRM

logger = logging.getLogger(__name__)

FORMAT = "millrace-checkpoint/3"
OUTDATED = {"millrace-checkpoint/2": "it was trained with another order of condition tags (direct first)"}
"""Earlier format to the reason why it cannot be used."""
STEP_FOLDER = re.compile(r"step-(\d{8})")
REQUIRED_FILES = frozenset({".metadata", "config.json", "manifest.json", "tokenizer.json", "trainer.json"})
"""Files that every checkpoint has, besides those that hold the tensors."""

Tensors = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group (model, ema, m, v) and name."""

warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class CheckpointError(Exception):
    """A checkpoint that cannot be written or read; the message names it, the fault, and what to do."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model and what is needed to prompt it."""

    model: HRM
    """On the CPU, in evaluation mode."""
    tokenizer_json: str
    """Content of tokenizer.json."""
    special: Mapping[str, int]
    """Ids of the special tokens."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the training data."""
        return Tokenizer.from_str(self.tokenizer_json)


def load(path: str | Path, *, ema: bool = True) -> LoadedModel:
    """Load a trained model from this machine.

    Parameters
    ----------
    path
        A run's folder, its folder of checkpoints, one checkpoint's folder, or an exported folder in the Hugging Face
        format. Of several checkpoints the newest valid one is loaded.
    ema
        Load a checkpoint's averaged weights instead of those of its last step.

    Returns
    -------
    LoadedModel
        Model, tokenizer and special token ids.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint, or the exported folder is not an hrm_text model with a tokenizer.

    Examples
    --------
    `folder` is the `out` of a run.

    >>> import model
    >>> loaded = model.load(folder)
    >>> type(loaded.model).__name__
    'HRM'
    >>> loaded.tokenizer.token_to_id("<|im_start|>") == loaded.special["<|im_start|>"]
    True
    """
    path = Path(path)
    is_checkpoint = STEP_FOLDER.fullmatch(path.name) or (path / "COMMIT.json").exists()
    if (path / "config.json").is_file() and not is_checkpoint:
        return _load_exported(path)
    return load_checkpoint(find_checkpoint(path), ema=ema)


def _load_exported(folder: Path) -> LoadedModel:
    try:
        model = hf.load(folder)
        tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except hf.FormatError as error:
        raise CheckpointError(str(error)) from None
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no tokenizer.json; `model.hf.load` loads a model without one") from None
    added = json.loads(tokenizer_json)["added_tokens"]
    special = {token["content"]: token["id"] for token in added if token["special"]}
    return LoadedModel(model=model, tokenizer_json=tokenizer_json, special=special)


def find_checkpoint(path: Path) -> Path:
    """Find the newest valid checkpoint on this machine; damaged ones are skipped with a warning.

    Parameters
    ----------
    path
        A checkpoint's folder, a run's folder, or its folder of checkpoints.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint.
    """
    if STEP_FOLDER.fullmatch(path.name):
        verify(path)
        return path
    inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for folder in sorted(inside.glob("step-*/"), reverse=True):
        if not STEP_FOLDER.fullmatch(folder.name) or not (folder / "COMMIT.json").exists():
            continue
        try:
            verify(folder)
            return folder
        except (CheckpointError, OSError) as error:
            logger.warning("skipping checkpoint %s: %s", folder, error)
    raise CheckpointError(f"{path}: no valid checkpoint here; expected step-NNNNNNNN, or a folder of such")


def load_checkpoint(folder: Path, *, ema: bool = True) -> LoadedModel:
    """Load the model of a checkpoint that was verified before.

    Parameters
    ----------
    folder
        The folder that holds COMMIT.json.
    ema
        Load the averaged weights instead of those of the last step.
    """
    config = json.loads((folder / "config.json").read_text())
    model = HRM(ModelConfig(**config["model"]))
    weights = dict(model.state_dict())
    if ema:
        averaged = {name: weights[name] for name, _ in model.named_parameters()}
        rest = {name: tensor for name, tensor in weights.items() if name not in averaged}
        read_tensors(folder, {"ema": averaged, "model": rest})
    else:
        read_tensors(folder, {"model": weights})
    return LoadedModel(
        model=model.eval(),
        tokenizer_json=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        special={str(token): int(number) for token, number in config["special"].items()},
    )


def recorded_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Read a checkpoint's commit record.

    Returns
    -------
    dict
        Size in bytes and XXH3-128 of each file, by name.

    Raises
    ------
    CheckpointError
        There is no record, or it is damaged, lacks a required file, or names a file outside of the folder.
    """
    try:
        commit = json.loads((folder / "COMMIT.json").read_text())
        files = {str(name): (int(entry["bytes"]), str(entry["xxh3_128"])) for name, entry in commit["files"].items()}
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no COMMIT.json: it was never finished") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{folder}/COMMIT.json is damaged") from None
    if not files.keys() >= REQUIRED_FILES:
        raise CheckpointError(f"{folder}/COMMIT.json does not list {min(REQUIRED_FILES - files.keys())}")
    for name in files:
        if Path(name).name != name:
            raise CheckpointError(f"{folder}/COMMIT.json lists {name!r}, which is outside of the checkpoint")
    return files


def verify(folder: Path) -> None:
    """Check a checkpoint's files against its commit record.

    Raises
    ------
    CheckpointError
        There is no record, a file is missing or has another size or hash, or the checkpoint has another format.
    """
    for name, (size, digest) in recorded_files(folder).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        if path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes; COMMIT.json records {size:,}")
        if file_hash(path) != digest:
            raise CheckpointError(f"{path} does not have the hash that COMMIT.json records")
    found = json.loads((folder / "trainer.json").read_text())["format"]
    if found != FORMAT:
        reason = f": {OUTDATED[found]}; train again" if found in OUTDATED else ""
        raise CheckpointError(f"{folder} has format {found!r}; expected {FORMAT!r}{reason}")


def read_tensors(folder: Path, tensors: Tensors, group: dist.ProcessGroup | None = None) -> None:
    """Read tensors of a checkpoint in place.

    Parameters
    ----------
    folder
        The checkpoint's folder.
    tensors
        Filled with the checkpoint's values by group and name; may be sharded over `group`.
    group
        Processes that read together; None: this process alone.
    """
    dcp.load(
        {key: dict(part) for key, part in tensors.items()},
        storage_reader=_Reader(folder),
        process_group=group,
        no_dist=group is None,
    )


def file_hash(path: Path) -> str:
    """XXH3-128 of a file's content, in hex."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def weights_hash(model: HRM) -> str:
    """XXH3-128 of all tensors with their names and shapes, in hex; equal for equal weights of any origin."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _memory_format(owner: Any, name: str) -> Any:
    """Return a memory format by name, in place of `getattr`, as which Python 3.11.0 to 3.11.3 pickle enum members."""
    if owner is not dcp_metadata._MEM_FORMAT_ENCODING or name not in owner.__members__:
        raise CheckpointError(f".metadata names the attribute {name}, which no checkpoint needs; do not use it")
    return owner[name]


class _TableUnpickler(pickle.Unpickler):
    """Unpickles a checkpoint's table of contents and refuses all classes that such a table does not use."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _memory_format
        allowed = (
            (module == dcp_metadata.__name__ and name in (*dcp_metadata.__all__, "_MEM_FORMAT_ENCODING"))
            or (module, name) == ("torch.distributed.checkpoint.filesystem", "_StorageInfo")
            or (module, name) in (("torch", "Size"), ("torch.serialization", "_get_layout"))
            or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype))
            or (module.split(".")[0] == "pathlib" and name in ("PosixPath", "WindowsPath"))
        )
        if not allowed:
            raise CheckpointError(f".metadata names {module}.{name}, which no checkpoint needs; do not use it")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    """torch's reader, with a table of contents that was unpickled by `_TableUnpickler` and lists only tensors."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        with (folder / ".metadata").open("rb") as file:
            self._table: dcp_metadata.Metadata = _TableUnpickler(file).load()
        for name, entry in self._table.state_dict_metadata.items():
            if not isinstance(entry, dcp_metadata.TensorStorageMetadata):
                raise CheckpointError(f"{folder}: {name} is not a tensor; do not use this checkpoint")
        for info in self._table.storage_data.values():
            if Path(info.relative_path).name != info.relative_path:
                raise CheckpointError(f"{folder}: .metadata names a file outside of it; do not use this checkpoint")

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp_metadata.Metadata:
        return self._table
