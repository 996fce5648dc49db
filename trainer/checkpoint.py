"""Checkpoints: written in the background, valid only when whole, found again by themselves.

    CHECKPOINTS/step-00000500/
      __0_0.distcp …, .metadata   torch.distributed.checkpoint: model, m, v, ema
      config.json                 the model's shape and the special token ids
      tokenizer.json              so that generation needs nothing else
      trainer.json                step, resume state of the data, random state
      manifest.json               the run's manifest, and what its batch plan follows from
      COMMIT.json                 written last: size and hash of each file above

A folder without a COMMIT.json that fits it is no checkpoint. CHECKPOINTS is a
folder or an fsspec URL; for a URL, files are written to a local staging folder
first, so their hashes are those of what was meant to be stored. The reading
side, which needs no trainer, is `model.checkpoint`.
"""

import base64
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from tokenizers import Tokenizer
from torch import Tensor
from torch.distributed.checkpoint import FileSystemWriter

from model.checkpoint import FORMAT, STEP, CheckpointError, Tensors, file_hash, find, load, read_tensors, verify
from model.hrm import HRM
from trainer.fetch import is_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is, at a step boundary."""

    step: int
    """Optimizer steps that are done, skipped ones included."""
    updates: int
    """Of those, the ones that changed the weights."""
    plan_key: str
    """Hash of what the batches follow from; another key would make `next_batch` mean something else."""
    plan_hash: str
    """Hash of the plan of the epoch's chunk itself."""
    epoch: int
    chunk: int
    """Epochs are planned, and their batches counted, in chunks (trainer.plan)."""
    next_batch: int
    """First batch of the chunk that no step has used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A valid checkpoint, on this machine."""

    step: int
    folder: Path
    progress: Progress

    def sidecar(self, name: str) -> Any:
        """One of its JSON files."""
        return json.loads((self.folder / name).read_text())

    def load_into(self, tensors: Tensors, *, group: dist.ProcessGroup | None = None) -> None:
        """Read the tensors of these names, in place."""
        read_tensors(self.folder, tensors, group)

    def restore_random_state(self) -> None:
        """Give torch's generators the state they had."""
        state = self.sidecar("trainer.json")["random"]
        torch.set_rng_state(_from_text(state["cpu"]))
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(_from_text(state["cuda"]))


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    location
        Folder or fsspec URL.
    staging
        Local folder for what is on its way to or from a URL.
    keep
        How many of the newest to keep.
    leads
        Whether this process is the one that commits and deletes.
    group
        gloo group that only checkpoints use; None in a run of one process.
    report
        Told, in one sentence, what a user should know.
    """

    def __init__(
        self,
        location: str,
        *,
        staging: Path,
        keep: int,
        leads: bool = True,
        group: dist.ProcessGroup | None = None,
        report: Callable[[str], None] = print,
    ):
        self._remote = is_url(location)
        self._fs, self._root = fsspec.core.url_to_fs(location)
        self._location = location.rstrip("/")
        self._staging = staging if self._remote else Path(self._root)
        self._keep = keep
        self._leads = leads
        self._group = group
        self._report = report
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    # --- Find --------------------------------------------------------------------------------------------------

    def steps(self) -> list[int]:
        """Steps that have a folder with a commit record, oldest first."""
        return [step for step in self._folders() if self._fs.exists(f"{self._url(step)}/COMMIT.json")]

    def _folders(self) -> list[int]:
        """Steps that have a folder, oldest first."""
        self._fs.invalidate_cache()
        if not self._fs.isdir(self._root):
            return []
        names = (entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._fs.ls(self._root, detail=False))
        return sorted(int(match[1]) for name in names if (match := STEP.fullmatch(name)))

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint, on this machine; damaged ones are reported and passed over."""
        for step in reversed(self.steps()):
            try:
                return open_checkpoint(self._local_copy(step))
            except (CheckpointError, OSError) as error:
                self._report(f"checkpoint {self._location}/{_name(step)} is passed over: {error}")
        return None

    def clean(self) -> None:
        """Remove what killed runs left half written, and what earlier ones have downloaded."""
        for left in self._staging.glob("*step-*" if self._remote else "partial-step-*"):
            shutil.rmtree(left)

    def _local_copy(self, step: int) -> Path:
        if not self._remote:
            return Path(self._url(step))
        folder = self._staging / _name(step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for remote in self._fs.find(self._url(step)):
            self._fs.get_file(remote, str(folder / remote.rsplit("/", 1)[-1]))
        return folder

    def _url(self, step: int) -> str:
        return f"{self._root}/{_name(step)}"

    # --- Write -------------------------------------------------------------------------------------------------

    def save(self, progress: Progress, tensors: Tensors, *, sidecars: Mapping[str, str | bytes]) -> None:
        """Begin to write a checkpoint; returns when the tensors have been copied.

        Parameters
        ----------
        progress
            Where the run is.
        tensors
            Copied before this returns.
        sidecars
            Further files by name: config.json, tokenizer.json, manifest.json.

        Raises
        ------
        CheckpointError
            The checkpoint before this one could not be written.
        """
        self.wait()
        copies = {key: {n: t.detach().to("cpu", copy=True) for n, t in group.items()} for key, group in tensors.items()}
        cuda = _to_text(torch.cuda.get_rng_state()) if torch.cuda.is_initialized() else None
        random = {"cpu": _to_text(torch.get_rng_state()), "cuda": cuda}
        state = json.dumps({"format": FORMAT, "progress": asdict(progress), "random": random}, indent=1)
        self._thread = threading.Thread(
            target=self._write,
            args=(progress.step, copies, {**sidecars, "trainer.json": state}),
            name="checkpoint",
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, if one is.

        Raises
        ------
        CheckpointError
            It could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what `wait` would raise, without waiting."""
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointError(f"a checkpoint could not be written to {self._location}: {error}") from error

    def _write(self, step: int, tensors: Tensors, sidecars: Mapping[str, str | bytes]) -> None:
        try:
            folder = self._staging / f"partial-{_name(step)}"
            if self._leads:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True, exist_ok=True)  # torch may have made it on another rank
            dcp.save(
                {key: dict(group) for key, group in tensors.items()},
                storage_writer=FileSystemWriter(folder),
                process_group=self._group,
                no_dist=self._group is None,
            )
            if self._leads:
                for name, content in sidecars.items():
                    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
                _commit(folder, step)
                self._publish(folder, step)
                self._retain(step)
        except BaseException as error:  # raised by the next `check`
            self._error = error

    def _publish(self, folder: Path, step: int) -> None:
        target = self._url(step)
        if self._fs.exists(target):
            self._delete(step)
        if not self._remote:
            folder.rename(target)
            return
        for file in sorted(folder.iterdir(), key=lambda file: file.name == "COMMIT.json"):
            self._fs.put_file(str(file), f"{target}/{file.name}")
        shutil.rmtree(folder)

    def _retain(self, newest: int) -> None:
        """Delete what is older than the checkpoints to keep, and what a deletion that was cut short has left.

        Later steps than the one just written are checkpoints that were passed over as damaged. They do not count, so
        that no valid one is deleted in their favour.
        """
        kept = [step for step in self.steps() if step <= newest][-self._keep :]
        for step in self._folders():
            if step < newest and step not in kept:
                self._delete(step)

    def _delete(self, step: int) -> None:
        # The commit record first: a deletion that is cut short must not leave a valid-looking rest.
        commit = f"{self._url(step)}/COMMIT.json"
        if self._fs.exists(commit):
            self._fs.rm_file(commit)
        self._fs.rm(self._url(step), recursive=True)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check a checkpoint's folder against its commit record.

    Raises
    ------
    CheckpointError
        There is none, or a file is missing, has another size or another hash.
    """
    verify(folder)
    state = json.loads((folder / "trainer.json").read_text())
    return Checkpoint(
        step=state["progress"]["step"],
        folder=folder,
        progress=Progress(**state["progress"]),
    )


def load_model(
    path: str | Path, *, ema: bool = True, device: str | torch.device = "cpu"
) -> tuple[HRM, Tokenizer, dict[str, int]]:
    """The model of a checkpoint, with what is needed to talk to it.

    Parameters
    ----------
    path
        A checkpoint's folder, a run's folder, or its folder of checkpoints; of several the newest valid one.
    ema
        Averaged weights instead of the last ones.
    device
        Where the model is put.

    Returns
    -------
    model, tokenizer, special
        `special` maps each of `corpus.template.SPECIAL_TOKENS` to its id.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint at `path`.
    """
    trained = load(find(Path(path)), ema=ema)
    return trained.model.to(device), Tokenizer.from_str(trained.tokenizer), dict(trained.special)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _commit(folder: Path, step: int) -> None:
    files = {
        file.name: {"bytes": file.stat().st_size, "xxh3_128": file_hash(file)} for file in sorted(folder.iterdir())
    }
    (folder / "COMMIT.json").write_text(json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
