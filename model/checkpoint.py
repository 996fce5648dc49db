"""A checkpoint's folder, for those who only read it: is it whole, and what are its tensors.

    step-00000500/
      __0_0.distcp …, .metadata   torch.distributed.checkpoint: model, m, v, ema
      config.json                 the model's shape and the special token ids
      tokenizer.json
      trainer.json                step, resume state of the data, random state
      manifest.json               the run's manifest, and what its batch plan follows from
      COMMIT.json                 written last: size and hash of each file above

    find (verify) ─▶ load (the model, for inference) or read_tensors (any tensors, in place)

Nothing is unpickled freely: tensors are loaded with `weights_only`, and the pickle that torch.distributed.checkpoint
keeps its table of contents in may name the classes of that table only. `trainer.checkpointing` writes these folders.
"""

import json
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.distributed.checkpoint.metadata as dcp_metadata
import xxhash
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader

from model.config import ModelConfig
from model.hrm import HRM

FORMAT = "millrace-checkpoint/2"
STEP = re.compile(r"step-(\d{8})")
NEEDED = frozenset({".metadata", "config.json", "manifest.json", "tokenizer.json", "trainer.json"})
"""Files without which a folder is no checkpoint, besides those that hold the tensors."""

Tensors = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group (model, ema, m, v) and name."""

warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class CheckpointError(Exception):
    """A checkpoint that cannot be written or used; the message names it, the fault, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model out of a checkpoint, with what is needed to talk to it."""

    model: HRM
    """On the CPU, in evaluation mode."""
    tokenizer: str
    """Content of its tokenizer.json."""
    special: Mapping[str, int]
    """Special token to id."""


def recorded(folder: Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and hash of each file of a checkpoint, by name, as its commit record says.

    Raises
    ------
    CheckpointError
        There is no record, or it is damaged, lacks a file that a checkpoint needs, or names one outside of the folder.
    """
    try:
        commit = json.loads((folder / "COMMIT.json").read_text())
        files = {str(name): (int(entry["bytes"]), str(entry["xxh3_128"])) for name, entry in commit["files"].items()}
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no COMMIT.json: it was never finished") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{folder}/COMMIT.json is damaged") from None
    if not files.keys() >= NEEDED:
        raise CheckpointError(f"{folder}/COMMIT.json does not list {min(NEEDED - files.keys())}")
    for name in files:
        if Path(name).name != name:
            raise CheckpointError(f"{folder}/COMMIT.json lists {name!r}, which lies outside of the checkpoint")
    return files


def verify(folder: Path) -> None:
    """Check a checkpoint's folder against its commit record.

    Raises
    ------
    CheckpointError
        There is none, or a file is missing, has another size or another hash.
    """
    for name, (size, digest) in recorded(folder).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        if path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes; COMMIT.json says {size:,}")
        if file_hash(path) != digest:
            raise CheckpointError(f"{path} does not have the hash that COMMIT.json says")
    found = json.loads((folder / "trainer.json").read_text())["format"]
    if found != FORMAT:
        raise CheckpointError(f"{folder} has format {found!r}; expected {FORMAT!r}")


def find(path: Path) -> Path:
    """The folder of the newest valid checkpoint at a place on this machine; damaged ones are told of on stderr.

    Parameters
    ----------
    path
        A checkpoint's folder, a run's folder, or its folder of checkpoints.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint.
    """
    if STEP.fullmatch(path.name):
        verify(path)
        return path
    inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for folder in sorted(inside.glob("step-*/"), reverse=True):
        if not STEP.fullmatch(folder.name) or not (folder / "COMMIT.json").exists():
            continue
        try:
            verify(folder)
            return folder
        except (CheckpointError, OSError) as error:
            print(f"checkpoint {folder} is passed over: {error}", file=sys.stderr)
    raise CheckpointError(f"{path}: no valid checkpoint here; expected step-NNNNNNNN, or a folder of such")


def load(folder: Path, *, ema: bool = True) -> Trained:
    """The model in a checkpoint's folder, which has been verified.

    Parameters
    ----------
    folder
        The folder that has the COMMIT.json.
    ema
        Averaged weights instead of the last ones.
    """
    about = json.loads((folder / "config.json").read_text())
    model = HRM(ModelConfig(**about["model"]))
    weights = dict(model.state_dict())
    if ema:
        averaged = {name: weights[name] for name, _ in model.named_parameters()}
        rest = {name: tensor for name, tensor in weights.items() if name not in averaged}
        read_tensors(folder, {"ema": averaged, "model": rest})
    else:
        read_tensors(folder, {"model": weights})
    return Trained(
        model=model.eval(),
        tokenizer=(folder / "tokenizer.json").read_text(encoding="utf-8"),
        special={str(token): int(number) for token, number in about["special"].items()},
    )


def read_tensors(folder: Path, tensors: Tensors, group: dist.ProcessGroup | None = None) -> None:
    """Read the tensors of these names, in place.

    Parameters
    ----------
    folder
        A checkpoint's.
    tensors
        Filled with what the checkpoint has under their names; may be sharded over `group`.
    group
        Processes that read together; None: this one alone.
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


class _TableUnpickler(pickle.Unpickler):
    """Unpickles the table of contents of a checkpoint, and refuses whatever such a table does not consist of."""

    def find_class(self, module: str, name: str) -> Any:
        known = (
            (module == dcp_metadata.__name__ and name in (*dcp_metadata.__all__, "_MEM_FORMAT_ENCODING"))
            or (module, name) == ("torch.distributed.checkpoint.filesystem", "_StorageInfo")
            or (module, name) in (("torch", "Size"), ("torch.serialization", "_get_layout"))
            or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype))
            or (module.split(".")[0] == "pathlib" and name in ("PosixPath", "WindowsPath"))
        )
        if not known:
            raise CheckpointError(f".metadata names {module}.{name}, which no checkpoint needs; do not use it")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    """torch's reader, with a table of contents that was unpickled by `_TableUnpickler` and lists tensors only."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        with (folder / ".metadata").open("rb") as file:
            self._table: dcp_metadata.Metadata = _TableUnpickler(file).load()
        for name, entry in self._table.state_dict_metadata.items():
            if not isinstance(entry, dcp_metadata.TensorStorageMetadata):
                raise CheckpointError(f"{folder}: {name} is no tensor; do not use this checkpoint")
        for info in self._table.storage_data.values():
            if Path(info.relative_path).name != info.relative_path:
                raise CheckpointError(f"{folder}: .metadata names a file outside of it; do not use this checkpoint")

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp_metadata.Metadata:
        return self._table
