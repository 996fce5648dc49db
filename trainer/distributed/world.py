"""The processes of a run, one or as many as torchrun started, and their collective operations.

Gradients use the device's own backend (NCCL on CUDA, gloo on CPU). Checkpoints and control messages have gloo groups of
their own, so a checkpoint written in the background never blocks, or mixes with, the sum of the gradients.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from corpus.config import ConfigError
from corpus.storage.shortage import causes

T = TypeVar("T")

TIMEOUT = timedelta(hours=2)
"""How long a rank waits in a collective for another one, which may be evaluating, saving or starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among the processes of the run."""

    rank: int
    size: int
    device: torch.device
    control: dist.ProcessGroup | None
    """Group of control messages; None in a run of one process."""
    saving: dist.ProcessGroup | None
    """Group of checkpoints; None in a run of one process."""
    node: int = 0
    """Index of this process's machine."""
    is_local_main: bool = True
    """Whether this is the first process of its machine."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes what is written once per run."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor on the device by its sum over ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def broadcast(self, tensor: Tensor) -> None:
        """Replace a tensor on the CPU by that of rank 0."""
        if self.size > 1:
            dist.broadcast(tensor, src=0, group=self.control)

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        if self.size == 1:
            return flag
        box = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self.control)
        return bool(box.item())

    def all_gather(self, value: float) -> list[float]:
        """Every rank's value, by rank."""
        if self.size == 1:
            return [value]
        boxes = [torch.zeros(1, dtype=torch.float64) for _ in range(self.size)]
        dist.all_gather(boxes, torch.tensor([value], dtype=torch.float64), group=self.control)
        return [box.item() for box in boxes]

    def all_gather_object(self, value: T) -> list[T]:
        """Every rank's value, by rank; runs on the group of checkpoints, for the thread that writes them."""
        return self._gather(value, self.saving)

    def share(self, value: T) -> list[T]:
        """Every rank's value, by rank; runs on the group of control messages."""
        return self._gather(value, self.control)

    def _gather(self, value: T, group: dist.ProcessGroup | None) -> list[T]:
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, value, group=group)
        return boxes

    def broadcast_from_main(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 only and return its result, or raise its exception, on every rank."""
        if self.size == 1:
            return function()
        box: list[Any] = [None, None]
        if self.is_main:
            try:
                box[0] = function()
            except Exception as error:  # raised on all ranks below
                box[1] = error
        dist.broadcast_object_list(box, src=0, group=self.control)
        if box[1] is not None:
            raise box[1]
        result: T = box[0]
        return result

    @classmethod
    def join(cls, device: str, *, sharded: bool = False) -> "World":
        """Read this process's rank from torchrun's environment and set up the process groups.

        Parameters
        ----------
        device
            `auto` (CUDA if available), `cpu` or `cuda`.
        sharded
            Whether weights are sharded, which needs a process group in a run of one process too.

        Raises
        ------
        ConfigError
            The device does not exist on this machine, there are more ranks than devices, or torch has no backend for
            it.
        """
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if chosen not in ("cpu", "cuda"):
            raise ConfigError(f"device is {device!r}; expected auto, cpu or cuda")
        if chosen == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is 'cuda', but torch finds no CUDA device here; set device=cpu or device=auto")
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        place = torch.device("cpu")
        if chosen == "cuda":
            place = _device_of(int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count())
            torch.cuda.set_device(place)
        backend = "nccl" if chosen == "cuda" else "gloo"
        if (sharded or size > 1) and not dist.is_backend_available(backend):
            raise ConfigError(
                f"this build of torch ({torch.__version__}) has no {backend}, which several ranks and fsdp2 need on "
                f"{chosen}: install one that has it, or use one process with distribution=ddp"
            )
        if size == 1:
            if sharded:
                dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=TIMEOUT)
            return cls(rank=0, size=1, device=place, control=None, saving=None)
        dist.init_process_group(backend, timeout=TIMEOUT)
        return cls(
            rank=rank,
            size=size,
            device=place,
            control=_gloo_group(),
            saving=_gloo_group(),
            node=int(os.environ.get("GROUP_RANK", 0)),
            is_local_main=int(os.environ.get("LOCAL_RANK", 0)) == 0,
        )

    def leave(self) -> None:
        """Destroy the process groups."""
        if dist.is_initialized():
            dist.destroy_process_group()


def _device_of(local_rank: int, devices: int) -> torch.device:
    """The GPU of a rank of this machine.

    Raises
    ------
    ConfigError
        There are more ranks than GPUs; NCCL refuses two ranks on one.
    """
    if local_rank >= devices:
        raise ConfigError(
            f"rank {local_rank} of this machine needs a GPU of its own, and torch finds {devices} "
            f"(CUDA_VISIBLE_DEVICES is {os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}): start with "
            f"--nproc-per-node {devices}"
        )
    return torch.device("cuda", local_rank)


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error, or what led to it, means that another rank has ended or cannot be reached."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return False
    found = [cause for cause in causes(error) if isinstance(cause, RuntimeError)]
    return any(isinstance(cause, dist.DistError) or "gloo" in str(cause) for cause in found)


SINGLE = World(rank=0, size=1, device=torch.device("cpu"), control=None, saving=None)
"""A single process on the CPU."""


def _gloo_group() -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)  # every rank is in it
    return group
