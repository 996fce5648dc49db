"""Read trained models: a run's checkpoints, or a folder in the Hugging Face format.

    load ─ config.json of hrm_text ─▶ model.hf ─────────────────────────────────────┐
         ─ a run or its checkpoints ─▶ use_newest (verify) ─▶ load_checkpoint ──────┴▶ LoadedModel

    step-00000500/
      __0_0.distcp …, .metadata   torch.distributed.checkpoint: model, m, v, ema
      config.json                 the model's shape, special token ids, prompt template, longest sample
      tokenizer.json
      trainer.json                step, position in the data, random state
      manifest.json               the run's manifest, and the inputs of its batch plan
      COMMIT.json                 written last: size and hash of each file above

Nothing is unpickled without restriction: tensors are loaded with `weights_only`, and the table of contents by
`model.table`. `model.sidecars` checks the other files.
`trainer.checkpointing` writes these folders.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.distributed.checkpoint.metadata as dcp_metadata
import xxhash
from tokenizers import Tokenizer
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.api import CheckpointException

from model import hf
from model.config import ModelConfig
from model.fields import FieldError, read_fields, shown
from model.hrm import HRM
from model.sidecars import (
    CheckpointConfig,
    TrainerState,
    parse_commit,
    parse_config,
    parse_manifest,
    parse_trainer,
)
from model.table import TableError, read_table
from model.tokenizer import TokenizerError, parse_tokenizer

T = TypeVar("T")
_SHOWN = 200
"""Characters of another library's message that a message shows."""

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
warnings.filterwarnings("ignore", message="Detected pickle protocol")


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
    return use_newest(path, lambda folder: load_checkpoint(folder, ema=ema))


def _load_exported(folder: Path) -> LoadedModel:
    try:
        model = hf.load(folder)
        tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
    except hf.FormatError as error:
        raise CheckpointError(str(error)) from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{folder}/tokenizer.json is not UTF-8 text; copy it again") from None
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no tokenizer.json; `model.hf.load` loads a model without one") from None
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read ({error.strerror or error}); copy it again") from None
    with _named(folder / "tokenizer.json"):
        tokenizer = parse_tokenizer(tokenizer_json.encode(), vocab_size=model.config.vocab_size)
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content: number for number, token in added.items() if token.special}
    return LoadedModel(model=model, tokenizer_json=tokenizer_json, special=special)


def find_checkpoint(path: Path) -> Path:
    """Return the folder of the newest valid checkpoint on this machine; see `use_newest`."""
    return use_newest(path, lambda folder: folder)


def use_newest(path: Path, use: Callable[[Path], T]) -> T:
    """Call a function with the newest valid checkpoint on this machine; damaged ones are skipped with a warning.

    Parameters
    ----------
    path
        A checkpoint's folder, a run's folder, or its folder of checkpoints.
    use
        Gets the folder of a checkpoint that `verify` found sound. One with which it raises `CheckpointError` is
        skipped, too.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint.
    """
    if STEP_FOLDER.fullmatch(path.name):
        verify(path)
        return use(path)
    inside = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    for folder in sorted(inside.glob("step-*/"), reverse=True):
        if not STEP_FOLDER.fullmatch(folder.name) or not (folder / "COMMIT.json").exists():
            continue
        try:
            verify(folder)
            return use(folder)
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

    Raises
    ------
    CheckpointError
        A file does not have its content.
    """
    config = read_config(folder)
    _check_shapes(folder, config.model)
    model = HRM(config.model)
    weights = dict(model.state_dict())
    if ema:
        averaged = {name: weights[name] for name, _ in model.named_parameters()}
        rest = {name: tensor for name, tensor in weights.items() if name not in averaged}
        read_tensors(folder, {"ema": averaged, "model": rest})
    else:
        read_tensors(folder, {"model": weights})
    return LoadedModel(
        model=model.eval(),
        tokenizer_json=_tokenizer(folder, config),
        special=config.special,
    )


def recorded_files(folder: Path) -> Mapping[str, tuple[int, str]]:
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
        step, files = parse_commit(folder / "COMMIT.json")
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no COMMIT.json: it was never finished") from None
    except FieldError as error:
        raise CheckpointError(f"{folder}/COMMIT.json {error}; use another checkpoint") from None
    if (match := STEP_FOLDER.fullmatch(folder.name)) and int(match[1]) != step:
        raise CheckpointError(f"{folder}/COMMIT.json: step is {step:,}, expected that of the folder's name")
    if not files.keys() >= REQUIRED_FILES:
        raise CheckpointError(f"{folder}/COMMIT.json does not list {min(REQUIRED_FILES - files.keys())}")
    for name in files:
        if Path(name).name != name:
            raise CheckpointError(f"{folder}/COMMIT.json lists {shown(name)}, which is outside of the checkpoint")
    return files


def verify(folder: Path) -> None:
    """Check a checkpoint's files against its commit record, and what they hold.

    Raises
    ------
    CheckpointError
        There is no record, a file is missing or has another size or hash, the checkpoint has another format, a small
        file does not have its content, or the tensors are not those of the model in config.json.
    """
    files = recorded_files(folder)
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        if path.stat().st_size != size:
            raise CheckpointError(f"{path} has {path.stat().st_size:,} bytes; COMMIT.json records {size:,}")
        if file_hash(path) != digest:
            raise CheckpointError(f"{path} does not have the hash that COMMIT.json records")
    with _named(folder / "trainer.json"):
        found = read_fields(folder / "trainer.json").text("format")
    if found != FORMAT:
        reason = f": {OUTDATED[found]}; train again" if found in OUTDATED else ""
        raise CheckpointError(f"{folder} has format {shown(found)}; expected {FORMAT!r}{reason}")
    read_trainer_state(folder)
    read_manifest(folder)
    config = read_config(folder)
    _tokenizer(folder, config)
    _check_shapes(folder, config.model)


def read_config(folder: Path) -> CheckpointConfig:
    """Read config.json; `CheckpointError` if it does not have its content."""
    with _named(folder / "config.json"):
        return parse_config(folder / "config.json")


def read_trainer_state(folder: Path) -> TrainerState:
    """Read trainer.json; `CheckpointError` if it does not have its content."""
    with _named(folder / "COMMIT.json"):
        step, _ = parse_commit(folder / "COMMIT.json")
    with _named(folder / "trainer.json"):
        return parse_trainer(folder / "trainer.json", step=step)


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Read manifest.json; `CheckpointError` if it does not have its content."""
    with _named(folder / "manifest.json"):
        return parse_manifest(folder / "manifest.json")


def _tokenizer(folder: Path, config: CheckpointConfig) -> str:
    with _named(folder / "tokenizer.json"):
        content = (folder / "tokenizer.json").read_bytes()
        parse_tokenizer(content, config.special, vocab_size=config.model.vocab_size)
        return content.decode("utf-8")


def _table(folder: Path) -> dcp_metadata.Metadata:
    with _named(folder / ".metadata"):
        return read_table(folder / ".metadata")


def _check_shapes(folder: Path, config: ModelConfig) -> None:
    """Raise unless the tensors of a checkpoint have the shapes of the model, before memory is taken for it."""
    table = _table(folder).state_dict_metadata
    with torch.device("meta"):
        expected = HRM(config).state_dict()
    for name, tensor in expected.items():
        entry = table.get(f"model.{name}")
        size = entry.size if isinstance(entry, dcp_metadata.TensorStorageMetadata) else None
        if size != tensor.shape:
            found = "is missing" if size is None else f"has the shape {list(size)}"
            raise CheckpointError(
                f"{folder}/.metadata: model.{name} {found}, expected {list(tensor.shape)} by config.json; use another "
                "checkpoint"
            )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in the error about its content."""
    try:
        yield
    except (FieldError, TableError, TokenizerError) as error:
        raise CheckpointError(f"{path}: {error}; use another checkpoint") from None
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None


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

    Raises
    ------
    CheckpointError
        A tensor is missing, has another shape, or is damaged; on all ranks. Some of `tensors` may have been filled.
    """
    try:
        dcp.load(
            {key: dict(part) for key, part in tensors.items()},
            storage_reader=_Reader(folder),
            process_group=group,
            no_dist=group is None,
        )
    except CheckpointException as error:  # of every rank, if the files cannot be read on one
        cause, _ = next(iter(error.failures.values()))
        reason = " ".join(str(cause).split())[:_SHOWN] or type(cause).__name__
        raise CheckpointError(f"{folder}: its tensors cannot be read ({reason}); do not use this checkpoint") from None


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


class _Reader(FileSystemReader):
    """torch's reader, with a table of contents that `model.table` has checked."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._table = _table(folder)

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp_metadata.Metadata:
        return self._table
