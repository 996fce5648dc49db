"""The checkpoints of one run: written in the background, found again after a restart, deleted when superseded.

    save     tensors ─ copied to the CPU (the stall) ─▶ a thread: each rank writes its files ─▶ hashes, to rank 0
             ─▶ COMMIT.json ─▶ retention
    newest   listing ─▶ from the newest step down: fetch, verify, skip damaged ones ─▶ Checkpoint

The location is a folder that all machines of a run share, or an fsspec URL. For a URL each rank writes its files to a
staging folder on its own machine and uploads them; the commit record is uploaded last. A step's folder without a
commit record is not a checkpoint, and a later retention deletes it.

A run takes the location's lease (`own`), so that two runs, or a paused run and its successor, do not write there: the
lease is checked before files are deleted, before the upload and before the commit. Files at a URL are created and not
overwritten, so that an upload which began before a pause cannot damage a checkpoint of the successor.
"""

import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.tensor import DTensor

from corpus.storage import MismatchError, StorageError
from corpus.storage.lease import CONFLICTS, Lease, LeaseError, acquire
from corpus.storage.location import local_path
from corpus.storage.redact import redact
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.shortage import lack
from corpus.storage.store import Store
from model.loading import CheckpointError, Tensors, file_hash, recorded_files, verify
from trainer.checkpointing.checkpoint import (
    Checkpoint,
    commit_record,
    file_records,
    folder_name,
    open_checkpoint,
    step_of,
    trainer_json,
)
from trainer.checkpointing.staging import StagingBuffers
from trainer.distributed.world import SINGLE, World
from trainer.position import Position

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Statistics of a checkpoint that was written."""

    step: int
    stall_seconds: float
    """How long `save` blocked training: waiting for the previous checkpoint, and copying the tensors."""
    write_seconds: float
    """Time in the background from then until the commit record was stored."""
    bytes: int


class CheckpointManager:
    """Saves, finds and deletes the checkpoints of one run.

    Parameters
    ----------
    location
        Folder or fsspec URL of the checkpoints.
    staging
        Local folder for files that are uploaded to or downloaded from a URL.
    keep
        Number of newest checkpoints to keep.
    keep_every
        Also keep checkpoints whose step is a multiple of this.
    storage_timeout
        Seconds for which a failing request to a store that has worked before is retried, even after a request to
        stop: a run that stops without its checkpoint loses work.
    world
        The ranks that save and load together.
    history
        A local file (the metrics) that is uploaded to a URL with each checkpoint, and downloaded if it is missing,
        so that it survives the loss of the machine.
    """

    def __init__(
        self,
        location: str,
        *,
        staging: Path,
        keep: int,
        keep_every: int | None = None,
        storage_timeout: float = 0.0,
        world: World = SINGLE,
        history: Path | None = None,
    ):
        self._store = Store(location, timeout=storage_timeout or None)
        self._lease_store = Store(location, attempts=INTERACTIVE_ATTEMPTS)
        self._lease: Lease | None = None
        """Of rank 0, from `own` to `release`."""
        self._create = False
        """Whether files at the URL are created and not overwritten."""
        self._owned: set[int] | None = None
        """Steps that retention may delete: those found when the lease was acquired, and those written since."""
        self._partial = "partial"
        self._remote = self._store.remote
        self._location = self._store.shown
        self._staging = staging if self._remote else local_path(location)
        self._keep = keep
        self._keep_every = keep_every
        self._world = world
        self._history = history if self._remote else None
        self._buffers = StagingBuffers(pinned=world.device.type == "cuda")
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._saved: list[Saved] = []
        self.newest_step = 0
        """Step of the newest checkpoint known to be valid; 0 if there is none."""

    # --- Own ---------------------------------------------------------------------------------------------------

    def own(self) -> None:
        """Become the only run that writes to the location, until `release`. All ranks call it.

        Waits for the lease of a run that was killed on another machine (`corpus.storage.lease`) and says so.

        Raises
        ------
        LeaseError
            Another run is writing there.
        """

        def take() -> tuple[bool, str]:
            self._lease = acquire(self._lease_store, "the training run", say=logger.warning)
            self._owned = set(self.folders())
            return self._lease.conditional, f"partial-{uuid.uuid4().hex[:8]}"

        conditional, self._partial = self._world.broadcast_from_main(take)
        self._create = self._remote and conditional

    def release(self) -> None:
        """Let another run write to the location."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _check_owner(self) -> None:
        if self._lease is not None:
            self._lease.check()

    # --- Find --------------------------------------------------------------------------------------------------

    def folders(self) -> dict[int, dict[str, int]]:
        """File names and sizes of each step's folder, committed or not, in ascending order of steps."""
        found: dict[int, dict[str, int]] = {}
        for path, size in self._store.list().items():
            folder, _, name = path.partition("/")
            step = step_of(folder)
            if step is not None:
                found.setdefault(step, {})[name] = size
        return dict(sorted(found.items()))

    def steps(self) -> list[int]:
        """Steps whose folder has a commit record, in ascending order."""
        return [step for step, files in self.folders().items() if "COMMIT.json" in files]

    def check_writable(self) -> None:
        """Check that checkpoints can be stored at the URL. All ranks call it.

        Raises
        ------
        StorageError
            They cannot.
        """
        if self._remote:
            self._world.broadcast_from_main(self._store.probe)

    def newest(self, use: Callable[[Checkpoint], None] | None = None) -> Checkpoint | None:
        """Find the newest valid checkpoint and fetch it to this machine. All ranks call it.

        Parameters
        ----------
        use
            Called with the checkpoint, to read it. If it raises `CheckpointError` on one rank, the checkpoint is not
            valid, and the one before is tried.

        Returns
        -------
        Checkpoint or None
            None if no checkpoint has been committed.

        Raises
        ------
        CheckpointError
            There are checkpoints, but none is valid.
        StorageError
            The store does not respond.
        """
        before: int | None = None
        while True:
            step: int | None = self._world.broadcast_from_main(partial(self._newest_step, before))
            if step is None:
                return None
            if self._remote and self._world.is_local_main and not self._world.is_main:
                self.fetch(step)
            self._world.barrier()
            fault = ""
            try:
                checkpoint = open_checkpoint(self._folder(step), verified=True)
                if use is not None:
                    use(checkpoint)
            except CheckpointError as error:
                fault = str(error)
            fault = next(filter(None, self._world.share(fault)), "")
            if not fault:
                self.newest_step = step
                return checkpoint
            if self._world.is_main:
                self._skip(step, fault)
            before = step

    def fetch(self, step: int) -> Path:
        """Fetch a step's checkpoint to this machine and verify it.

        Returns
        -------
        Path
            Its local folder.

        Raises
        ------
        CheckpointError
            It is not valid; the message says why.
        StorageError
            The store does not respond.
        """
        folder = self._folder(step)
        if self._remote:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._get(f"{folder.name}/COMMIT.json", folder / "COMMIT.json")
            for name, (size, digest) in recorded_files(folder).items():
                self._get(f"{folder.name}/{name}", folder / name, size=size, digest=digest)
        verify(folder)
        return folder

    def clean(self) -> None:
        """Delete partial checkpoints of killed runs, and earlier downloads, from this machine."""
        for folder in self._staging.glob("*step-*" if self._remote else "partial-*step-*"):
            shutil.rmtree(folder)

    def _skip(self, step: int, fault: object) -> None:
        logger.warning("skipping checkpoint %s/%s: %s", self._location, folder_name(step), fault)

    def _newest_step(self, before: int | None) -> int | None:
        """Fetch the newest valid checkpoint, of those before a step, and return its step."""
        committed = self.steps()
        for step in reversed(committed):
            if before is not None and step >= before:
                continue
            try:
                self.fetch(step)
            except StorageError:
                raise
            except (CheckpointError, OSError) as error:
                self._skip(step, error)
                continue
            self._fetch_history()
            return step
        if committed:
            raise CheckpointError(
                f"{self._location}: none of the checkpoints here is valid ({len(committed)} were checked); restore "
                f"one from a copy, or move them away to start the run again"
            )
        return None

    def _fetch_history(self) -> None:
        if self._history is None or self._history.exists():
            return
        self._history.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._get(self._history.name, self._history)
        except CheckpointError as error:
            logger.warning("the run continues without the metrics of its earlier steps: %s", error)

    def _get(self, name: str, local: Path, *, size: int | None = None, digest: str | None = None) -> None:
        """Fetch a file, which must have this size in bytes and this XXH3-128 hash."""

        def fault(copy: Path) -> str | None:
            found = copy.stat().st_size
            if size is not None and found != size:
                return f"has {found:,} bytes; COMMIT.json says {size:,}"
            if digest is not None and file_hash(copy) != digest:
                return "does not have the hash that COMMIT.json says"
            return None

        try:
            self._store.get(name, local, check=fault)
        except FileNotFoundError:
            raise CheckpointError(f"{self._location}/{name} is missing") from None
        except MismatchError as error:
            raise CheckpointError(str(error)) from None

    def _folder(self, step: int) -> Path:
        return self._staging / folder_name(step)

    # --- Write -------------------------------------------------------------------------------------------------

    def save(
        self, position: Position, tensors: Tensors, *, sidecars: Mapping[str, str | bytes], loss: float | None = None
    ) -> None:
        """Copy the tensors and start writing a checkpoint in the background. All ranks call it.

        If the step already has a valid checkpoint, that one is kept and nothing is written.

        Parameters
        ----------
        position
            Position of the run.
        tensors
            Tensors by group and name, which may change once this returns. A rank writes its shards of DTensors; plain
            tensors, which are equal on all ranks, are divided among the ranks.
        sidecars
            Further files by name: config.json, tokenizer.json, manifest.json.
        loss
            Loss of the last step, recorded for people who list checkpoints.

        Raises
        ------
        CheckpointError
            The previous checkpoint could not be written.
        """
        began = time.perf_counter()
        self.wait()
        if position.step == self.newest_step and position.step:
            return
        copies = self._buffers.copy({key: self._own_share(group) for key, group in tensors.items()})
        files = {**sidecars, "trainer.json": trainer_json(position, loss)}
        stall = time.perf_counter() - began
        self._thread = threading.Thread(
            target=self._write, args=(position.step, copies, files, stall), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until no checkpoint is being written.

        Raises
        ------
        CheckpointError
            The checkpoint could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._raise_error()

    def collect(self) -> list[Saved]:
        """Return the checkpoints that were completed since the last call, without waiting.

        Raises
        ------
        CheckpointError
            A checkpoint could not be written.
        """
        self._raise_error()
        saved, self._saved = self._saved, []
        return saved

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            what = lack(error)
            reason = str(error).strip() if what is None else f"{what}; the same command continues"
            raise CheckpointError(
                f"a checkpoint could not be written to {self._location}: {redact(reason.splitlines()[-1])}"
            ) from error

    def _own_share(self, group: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors this rank writes: all DTensors, and every n-th plain tensor in descending order of size."""
        plain = [name for name, tensor in group.items() if not isinstance(tensor, DTensor)]
        plain.sort(key=lambda name: -group[name].numel())
        others = set(plain) - set(plain[self._world.rank :: self._world.size])
        return {name: tensor for name, tensor in group.items() if name not in others}

    def _write(self, step: int, tensors: Tensors, sidecars: Mapping[str, str | bytes], stall: float) -> None:
        """Write a checkpoint, in the thread of each rank. A failure on one rank is raised on all, so none waits."""
        began = time.perf_counter()
        folder = self._staging / f"{self._partial}-{folder_name(step)}"
        try:
            self._on_all_ranks(lambda: self._prepare_folder(step, folder))
            dcp.save(
                {key: dict(group) for key, group in tensors.items()},
                storage_writer=FileSystemWriter(folder),
                process_group=self._world.saving,
                no_dist=self._world.size == 1,
            )
            parts = self._on_all_ranks(lambda: self._finish_files(step, folder, sidecars))
            records = {name: record for part in parts for name, record in part.items()}
            self._on_all_ranks(lambda: self._commit(step, folder, records) if self._world.is_main else None)
            self.newest_step = step
            if self._owned is not None:
                self._owned.add(step)
            if self._remote and self._world.is_local_main:
                shutil.rmtree(folder, ignore_errors=True)
            size = sum(int(record["bytes"]) for record in records.values())
            seconds = time.perf_counter() - began
            self._saved.append(Saved(step=step, stall_seconds=stall, write_seconds=seconds, bytes=size))
            if self._world.is_main:
                self._retain(step)
        except BaseException as error:  # raised by the next `wait` or `collect`
            self._error = self._cause(error)

    def _cause(self, error: BaseException) -> BaseException:
        """Return why writing failed: a lost lease, whose new holder deletes incomplete checkpoints, or `error`."""
        if self._world.is_main:
            try:
                self._check_owner()
            except LeaseError as lost:
                return lost
            except OSError:
                pass
        return error

    def _on_all_ranks(self, action: Callable[[], object]) -> list:
        """Results of `action` by rank; raises on all ranks if it raised on one."""
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

    def _prepare_folder(self, step: int, folder: Path) -> None:
        """Delete what is left of the step from before, and make the folder to write to."""
        if self._world.is_main:
            self._check_owner()
            self._delete(step)
        if self._world.is_local_main:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def _finish_files(
        self, step: int, folder: Path, sidecars: Mapping[str, str | bytes]
    ) -> dict[str, dict[str, int | str]]:
        """Complete and upload this rank's files; returns their entries for the commit record."""
        files = list(folder.glob(f"__{self._world.rank}_*.distcp"))
        if self._world.is_main:
            for name, content in sidecars.items():
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
            files += [folder / ".metadata", *(folder / name for name in sidecars)]
        if self._remote:
            for file in files:
                self._put(file, f"{folder_name(step)}/{file.name}")
        return file_records(files)

    def _put(self, file: Path, name: str) -> None:
        """Upload a file; one that a paused run has just written is replaced, if this run still has the lease."""
        for _ in range(CONFLICTS):
            self._check_owner()
            try:
                self._store.put(file, name, create=self._create)
                return
            except FileExistsError:
                self._check_owner()
                self._store.delete(name, mark=self._store.mark(name))
        raise LeaseError(f"{self._location}/{name}: another run keeps writing this file; stop it")

    def _commit(self, step: int, folder: Path, records: Mapping[str, Mapping[str, int | str]]) -> None:
        """Write the commit record, which makes the files a checkpoint."""
        commit = folder / "COMMIT.json"
        commit.write_text(commit_record(step, records))
        self._check_owner()
        if self._remote:
            if self._history is not None and self._history.exists():
                # A copy, because the run keeps writing the file; its reader drops lines after the checkpoint's step.
                self._store.put(Path(shutil.copy(self._history, folder)), self._history.name)
            self._put(commit, f"{folder_name(step)}/COMMIT.json")
            return
        for path in folder.iterdir():
            _fsync(path)
        folder.rename(self._folder(step))
        _fsync(self._staging)

    def _retain(self, newest: int) -> None:
        """Delete superseded checkpoints of this run, and the remains of interrupted writes and deletions.

        Steps after the newest belong to checkpoints that were skipped as damaged. They are neither deleted nor
        counted, so that no valid checkpoint is deleted instead of a damaged one.
        """
        try:
            self._check_owner()
            older = {
                step: files
                for step, files in self.folders().items()
                if step <= newest and (self._owned is None or step in self._owned)
            }
            committed = [step for step, files in older.items() if "COMMIT.json" in files]
            kept = set(committed[-self._keep :])
            if self._keep_every is not None:
                kept |= {step for step in committed if step % self._keep_every == 0}
            for step in older:
                if step not in kept:
                    self._delete(step)
        except OSError as error:  # the new checkpoint itself is stored
            logger.warning("old checkpoints in %s could not be deleted yet: %s", self._location, error)

    def _delete(self, step: int) -> None:
        # The commit record first, so that an interrupted deletion leaves no seemingly valid checkpoint.
        for name in sorted(self.folders().get(step, ()), key=lambda name: name != "COMMIT.json"):
            path = f"{folder_name(step)}/{name}"
            mark = None
            if self._create:
                try:
                    mark = self._store.mark(path)
                except FileNotFoundError:
                    continue
                self._check_owner()
            self._store.delete(path, mark=mark)
        if not self._remote:
            shutil.rmtree(self._folder(step), ignore_errors=True)


def _fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
