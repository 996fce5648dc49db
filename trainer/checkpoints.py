"""The checkpoints of a run: written in the background, found again by themselves; a command that lists them.

    save     tensors ─ copied to the CPU (the stall) ─▶ a thread: each rank's share to files ─▶ hashes, to rank 0
             ─▶ COMMIT.json ─▶ retention
    newest   listing ─▶ newest first: fetch, verify; damaged ones are reported and passed over ─▶ Checkpoint

A place is a folder (which all machines of a run share) or an fsspec URL. For a URL each rank writes its files to a
staging folder on its own machine and uploads them; the commit record goes last. A checkpoint that a kill left without
one is no checkpoint, and is removed by a later one.
"""

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer
from torch import Tensor
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.tensor import DTensor

from model.checkpoint import CheckpointError, Tensors, find, load, recorded, verify
from model.hrm import HRM
from trainer.checkpointing.checkpoint import (
    Checkpoint,
    commit_record,
    describe,
    folder_name,
    open_checkpoint,
    record_of,
    step_of,
)
from trainer.checkpointing.objects import Objects, StorageError
from trainer.data.fetch import is_url, local_path, shown
from trainer.distributed.world import SINGLE, World
from trainer.position import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What it took to write a checkpoint."""

    step: int
    stall_seconds: float
    """How long training stood still: for the checkpoint before, if that was not done yet, and for the copies."""
    write_seconds: float
    """From then on until the commit record was in its place, in the background."""
    bytes: int


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    location
        Folder or fsspec URL.
    staging
        Folder of this machine for what is on its way to or from a URL.
    keep
        How many of the newest to keep.
    keep_every
        Those whose step is a multiple of it are kept besides.
    patience
        Seconds for which a store that has served before is asked again when it fails. A run that is to stop keeps
        trying too: without its checkpoint there is nothing it could be in time for.
    world
        The ranks that save and load together.
    history
        A file of the run that goes along to a URL, beside the checkpoints, and comes back where it is missing: what a
        machine that is taken away would take with it.
    report
        Told, in one sentence, what a user should know.
    """

    def __init__(
        self,
        location: str,
        *,
        staging: Path,
        keep: int,
        keep_every: int | None = None,
        patience: float = 0.0,
        world: World = SINGLE,
        history: Path | None = None,
        report: Callable[[str], None] = print,
    ):
        self._remote = is_url(location)
        self._objects = Objects(location, patience=patience if self._remote else 0.0)
        self._location = shown(location.rstrip("/")) if self._remote else str(local_path(location))
        self._staging = staging if self._remote else Path(self._location)
        self._keep = keep
        self._keep_every = keep_every
        self._world = world
        self._history = history if self._remote else None
        self._report = report
        cuda = world.device.type == "cuda"
        # Keeps its memory from save to save. On CUDA it is page-locked, so that copies run at the speed of the bus.
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=cuda,
                use_non_blocking_copy=cuda,
                use_shared_memory=False,
                use_async_staging=False,
            )
        )
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._saved: list[Saved] = []
        self.newest_step = 0
        """Step of the newest checkpoint that is known to be valid; 0 without any."""

    # --- Find --------------------------------------------------------------------------------------------------

    def folders(self) -> dict[int, dict[str, int]]:
        """Step to file names and sizes, oldest first, of every folder of a checkpoint, committed or not."""
        found: dict[int, dict[str, int]] = {}
        for path, size in self._objects.list().items():
            folder, _, name = path.partition("/")
            step = step_of(folder)
            if step is not None:
                found.setdefault(step, {})[name] = size
        return dict(sorted(found.items()))

    def steps(self) -> list[int]:
        """Steps that have a folder with a commit record, oldest first."""
        return [step for step, files in self.folders().items() if "COMMIT.json" in files]

    def check_writable(self) -> None:
        """See to it that checkpoints can be stored at a URL. All ranks call it.

        Raises
        ------
        StorageError
            They cannot.
        """
        if self._remote:
            self._world.broadcast_from_main(self._objects.probe)

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint, on this machine; None where none has been committed. All ranks call it.

        Raises
        ------
        CheckpointError
            There are checkpoints, and none of them is valid.
        StorageError
            The store does not answer.
        """
        step: int | None = self._world.broadcast_from_main(self._newest_step)
        if step is None:
            return None
        if self._remote and self._world.is_local_main and not self._world.is_main:
            self.fetch(step)
        self._world.barrier()
        self.newest_step = step
        return open_checkpoint(self._folder(step), verified=True)

    def fetch(self, step: int) -> Path:
        """The folder of a valid checkpoint, on this machine.

        Raises
        ------
        CheckpointError
            It is not valid; the message says why.
        StorageError
            The store does not answer.
        """
        folder = self._folder(step)
        if self._remote:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._objects.get(f"{folder.name}/COMMIT.json", folder / "COMMIT.json")
            for name, (size, digest) in recorded(folder).items():
                self._objects.get(f"{folder.name}/{name}", folder / name, size=size, digest=digest)
        verify(folder)
        return folder

    def clean(self) -> None:
        """Remove from this machine what killed runs left half written, and what earlier ones have downloaded."""
        for left in self._staging.glob("*step-*" if self._remote else "partial-step-*"):
            shutil.rmtree(left)

    def _newest_step(self) -> int | None:
        """Step of the newest valid checkpoint, which has been fetched."""
        committed = self.steps()
        for step in reversed(committed):
            try:
                self.fetch(step)
            except (CheckpointError, OSError) as error:
                self._report(f"checkpoint {self._location}/{folder_name(step)} is passed over: {error}")
                continue
            self._fetch_history()
            return step
        if committed:
            raise CheckpointError(
                f"{self._location}: none of the checkpoints here is valid ({len(committed)} were tried): bring one "
                f"back from a copy, or move them away to begin anew"
            )
        return None

    def _fetch_history(self) -> None:
        if self._history is None or self._history.exists():
            return
        self._history.parent.mkdir(parents=True, exist_ok=True)
        part = self._history.with_name(f"{self._history.name}.part")
        try:
            self._objects.get(self._history.name, part)
        except CheckpointError as error:
            self._report(f"the run goes on without the metrics of its earlier steps: {error}")
        else:
            os.replace(part, self._history)

    def _folder(self, step: int) -> Path:
        return self._staging / folder_name(step)

    # --- Write -------------------------------------------------------------------------------------------------

    def save(
        self, progress: Position, tensors: Tensors, *, sidecars: Mapping[str, str | bytes], loss: float | None = None
    ) -> None:
        """Begin to write a checkpoint; returns when the tensors have been copied. All ranks call it.

        A step that has a valid checkpoint is not saved again: there is nothing to win, and a valid one to lose.

        Parameters
        ----------
        progress
            Where the run is.
        tensors
            Copied before this returns. Sharded tensors are written by the ranks that hold the shards; of whole ones,
            which are the same on all ranks, each rank writes some.
        sidecars
            Further files by name: config.json, tokenizer.json, manifest.json.
        loss
            Of the last step, for those who look at the checkpoint.

        Raises
        ------
        CheckpointError
            The checkpoint before this one could not be written.
        """
        began = time.perf_counter()
        self.wait()
        if progress.step == self.newest_step and progress.step:
            return
        copies = self._stager.stage({key: self._share(group) for key, group in tensors.items()})
        assert isinstance(copies, dict)
        files = {**sidecars, "trainer.json": describe(progress, loss)}
        stall = time.perf_counter() - began
        self._thread = threading.Thread(
            target=self._write, args=(progress.step, copies, files, stall), name="checkpoint", daemon=True
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
        self._check()

    def collect(self) -> list[Saved]:
        """The checkpoints that were finished since the last call; does not wait.

        Raises
        ------
        CheckpointError
            One could not be written.
        """
        self._check()
        saved, self._saved = self._saved, []
        return saved

    def _check(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointError(
                f"a checkpoint could not be written to {self._location}: {shown(str(error))}"
            ) from error

    def _share(self, group: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this rank writes: its shards, and of the whole tensors every n-th, the largest ones first."""
        whole = [name for name, tensor in group.items() if not isinstance(tensor, DTensor)]
        dealt = sorted(whole, key=lambda name: -group[name].numel())
        others = set(whole) - set(dealt[self._world.rank :: self._world.size])
        return {name: tensor.detach() for name, tensor in group.items() if name not in others}

    def _write(self, step: int, tensors: Tensors, sidecars: Mapping[str, str | bytes], stall: float) -> None:
        """Runs in the thread, on every rank. A fault on one rank is an error on all of them, so that none waits."""
        began = time.perf_counter()
        folder = self._staging / f"partial-{folder_name(step)}"
        try:
            self._agreed(lambda: self._make_room(step, folder))
            dcp.save(
                {key: dict(group) for key, group in tensors.items()},
                storage_writer=FileSystemWriter(folder),
                process_group=self._world.saving,
                no_dist=self._world.size == 1,
            )
            parts = self._agreed(lambda: self._finish_share(step, folder, sidecars))
            record = {name: entry for part in parts for name, entry in part.items()}
            self._agreed(lambda: self._commit(step, folder, record) if self._world.is_main else None)
            self.newest_step = step
            if self._remote and self._world.is_local_main:
                shutil.rmtree(folder, ignore_errors=True)
            size = sum(int(entry["bytes"]) for entry in record.values())
            seconds = time.perf_counter() - began
            self._saved.append(Saved(step=step, stall_seconds=stall, write_seconds=seconds, bytes=size))
            if self._world.is_main:
                self._retain(step)
        except BaseException as error:  # raised by the next `wait` or `collect`
            self._error = error

    def _agreed(self, action: Callable[[], object]) -> list:
        """What `action` returns on each rank; an exception where it raised one on some rank."""
        result: object = None
        fault = ""
        try:
            result = action()
        except BaseException as error:
            if self._world.size == 1:
                raise
            fault = f"{type(error).__name__} on rank {self._world.rank}: {error}"
        outcomes = self._world.all_gather_object((result, fault))
        for _, fault in outcomes:
            if fault:
                raise CheckpointError(fault)
        return [result for result, _ in outcomes]

    def _make_room(self, step: int, folder: Path) -> None:
        """Remove what was left of this step, and make the folder to write to."""
        if self._world.is_main:
            self._delete(step)
        if self._world.is_local_main:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def _finish_share(
        self, step: int, folder: Path, sidecars: Mapping[str, str | bytes]
    ) -> dict[str, dict[str, int | str]]:
        """Complete and upload this rank's files; returns what the commit record says of them."""
        mine = list(folder.glob(f"__{self._world.rank}_*.distcp"))
        if self._world.is_main:
            for name, content in sidecars.items():
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
            mine += [folder / ".metadata", *(folder / name for name in sidecars)]
        if self._remote:
            for file in mine:
                self._objects.put(file, f"{folder_name(step)}/{file.name}")
        return record_of(mine)

    def _commit(self, step: int, folder: Path, files: Mapping[str, Mapping[str, int | str]]) -> None:
        """Make the files a checkpoint."""
        commit = folder / "COMMIT.json"
        commit.write_text(commit_record(step, files))
        if self._remote:
            if self._history is not None and self._history.exists():
                # A copy, since the run goes on writing it; lines after this step are left out when it is read.
                self._objects.put(Path(shutil.copy(self._history, folder)), self._history.name)
            self._objects.put(commit, f"{folder_name(step)}/COMMIT.json")
            return
        for path in folder.iterdir():
            _sync(path)
        folder.rename(self._folder(step))
        _sync(self._staging)

    def _retain(self, newest: int) -> None:
        """Delete what is older than the checkpoints to keep, and what a kill has left of a write or a deletion.

        Later steps than the one just written are checkpoints that were passed over as damaged. They do not count, so
        that no valid one is deleted in their favour.
        """
        try:
            older = {step: files for step, files in self.folders().items() if step <= newest}
            committed = [step for step, files in older.items() if "COMMIT.json" in files]
            kept = set(committed[-self._keep :])
            if self._keep_every is not None:
                kept |= {step for step in committed if step % self._keep_every == 0}
            for step in older:
                if step not in kept:
                    self._delete(step)
        except (StorageError, OSError) as error:  # the checkpoint itself is safe
            self._report(f"old checkpoints are left in {self._location} for now: {error}")

    def _delete(self, step: int) -> None:
        # The commit record first: a deletion that is cut short must not leave a valid-looking rest.
        for name in sorted(self.folders().get(step, ()), key=lambda name: name != "COMMIT.json"):
            self._objects.delete(f"{folder_name(step)}/{name}")
        if not self._remote:
            shutil.rmtree(self._folder(step), ignore_errors=True)


def load_model(
    path: str | Path, *, ema: bool = True, device: str | torch.device = "cpu"
) -> tuple[HRM, Tokenizer, dict[str, int]]:
    """The model of a checkpoint, with what is needed to talk to it.

    Parameters
    ----------
    path
        A checkpoint's folder, a run's folder, or its folder of checkpoints; the last one may be an fsspec URL. Of
        several checkpoints the newest valid one.
    ema
        Averaged weights instead of the last ones.
    device
        Where the model is put.

    Returns
    -------
    model, tokenizer, special
        `special` maps each of `corpus.contract.SPECIAL_TOKENS` to its id.

    Raises
    ------
    CheckpointError
        There is no valid checkpoint at `path`.
    StorageError
        The store does not answer.
    """
    with tempfile.TemporaryDirectory() as staging:
        folder = _fetched(str(path), Path(staging)) if is_url(str(path)) else find(local_path(str(path)))
        trained = load(folder, ema=ema)
    return trained.model.to(device), Tokenizer.from_str(trained.tokenizer), dict(trained.special)


def _fetched(url: str, staging: Path) -> Path:
    """The checkpoint at a URL, or the newest valid one of several there, on this machine."""
    place, step = _place_and_step(url)
    checkpoints = Checkpoints(place, staging=staging, keep=1, report=lambda text: print(text, file=sys.stderr))
    if step is not None:
        return checkpoints.fetch(step)
    newest = checkpoints.newest()
    if newest is None:
        raise CheckpointError(f"{shown(url)}: no valid checkpoint here; expected step-NNNNNNNN, or a folder of such")
    return newest.folder


def _place_and_step(location: str) -> tuple[str, int | None]:
    """The folder of checkpoints that a location means, and the step, if it is the folder of one."""
    above, _, last = location.rstrip("/").rpartition("/")
    step = step_of(last)
    return (location, None) if step is None else (above or ".", step)


def _sync(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- Command ------------------------------------------------------------------------------------------------------

EXAMPLE = """examples:
  python -m trainer.checkpoints out/train
  python -m trainer.checkpoints s3://bucket/run/checkpoints

exit codes: 0 the newest valid one is the last line that says so, 1 none is valid or the place cannot be read"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.checkpoints",
        description="List the checkpoints of a run, each checked against the hashes of its commit record.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("place", help="a run's folder, or the folder or URL of its checkpoints or of one of them")
    options = parser.parse_args(arguments)
    given = options.place if is_url(options.place) else str(local_path(options.place))
    inside = Path(given) / "checkpoints"
    place, only = _place_and_step(str(inside) if not is_url(given) and inside.is_dir() else given)
    table = Table("step", "valid", "size", "loss", "time", box=None)
    valid = False
    try:
        for step, files in Checkpoints(place, staging=Path(), keep=1).folders().items():
            if only not in (None, step):
                continue
            try:
                loss, saved = _look(place, step)
                valid, verdict = True, "yes"
            except CheckpointError as error:
                loss, saved = "", ""
                verdict = str(error) if "COMMIT.json" in files else "it was never finished: no COMMIT.json"
            table.add_row(f"{step:,}", verdict, f"{sum(files.values()) / 2**20:,.1f} MiB", loss, saved)
    except (StorageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
    if not valid:
        print(f"{shown(given)}: no valid checkpoint here", file=sys.stderr)
    return 0 if valid else 1


def _look(place: str, step: int) -> tuple[str, str]:
    """Loss and time of a valid checkpoint."""
    with tempfile.TemporaryDirectory() as staging:
        folder = Checkpoints(place, staging=Path(staging), keep=1).fetch(step)
        about = open_checkpoint(folder, verified=True).sidecar("trainer.json")
    loss = about.get("loss")
    return "" if loss is None else f"{loss:.4f}", str(about.get("time", ""))


if __name__ == "__main__":
    sys.exit(main())
