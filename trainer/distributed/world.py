"""The processes of a run: one, or as many as torchrun started; and what they do together.

Gradients travel on the device's own backend (NCCL on CUDA, gloo on CPU).
Checkpoints and agreements have gloo groups of their own, so that a checkpoint
written in the background never waits for, or mixes with, a gradient.
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

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a rank waits for another one, which may be evaluating, writing, or on its way to begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who this process is among those of the run."""

    rank: int
    size: int
    device: torch.device
    control: dist.ProcessGroup | None
    """For agreements; None in a run of one process."""
    saving: dist.ProcessGroup | None
    """For checkpoints; None in a run of one process."""
    node: int = 0
    """Number of this process's machine among those of the run."""
    leads_node: bool = True
    """Whether this process does what one process of each machine has to do."""

    @property
    def leads(self) -> bool:
        """Whether this process writes what only one may write."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor on the device by its sum over ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier(group=self.control)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank."""
        if self.size == 1:
            return flag
        box = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(box, dist.ReduceOp.MAX, group=self.control)
        return bool(box.item())

    def gather(self, value: float) -> list[float]:
        """The value of each rank, by rank."""
        if self.size == 1:
            return [value]
        boxes = [torch.zeros(1, dtype=torch.float64) for _ in range(self.size)]
        dist.all_gather(boxes, torch.tensor([value], dtype=torch.float64), group=self.control)
        return [box.item() for box in boxes]

    def exchange(self, value: T) -> list[T]:
        """What each rank has of the same thing, by rank; for the thread that writes checkpoints."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, value, group=self.saving)
        return boxes

    def from_leader(self, make: Callable[[], Any]) -> Any:
        """What `make` returns, called by the leader only; an exception of it is raised on every rank."""
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.leads:
            try:
                box[0] = make()
            except Exception as error:  # raised on all ranks below
                box[1] = error
        dist.broadcast_object_list(box, src=0, group=self.control)
        if box[1] is not None:
            raise box[1]
        return box[0]

    @classmethod
    def join(cls, device: str, *, sharded: bool = False) -> "World":
        """Find out from torchrun's environment who this process is, and meet the others.

        Parameters
        ----------
        device
            `auto` (CUDA if there is one), `cpu` or `cuda`.
        sharded
            Whether weights are sharded, which needs a process group in a run of one process too.

        Raises
        ------
        ConfigError
            `device` asks for a device that this machine does not have.
        """
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if chosen not in ("cpu", "cuda"):
            raise ConfigError(f"device is {device!r}; expected auto, cpu or cuda")
        if chosen == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is 'cuda', but torch finds no CUDA device here; set device=cpu or device=auto")
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        place = torch.device(chosen, int(os.environ.get("LOCAL_RANK", 0))) if chosen == "cuda" else torch.device("cpu")
        if chosen == "cuda":
            torch.cuda.set_device(place)
        backend = "nccl" if chosen == "cuda" else "gloo"
        if size == 1:
            if sharded:
                dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=PATIENCE)
            return cls(rank=0, size=1, device=place, control=None, saving=None)
        dist.init_process_group(backend, timeout=PATIENCE)
        return cls(
            rank=rank,
            size=size,
            device=place,
            control=_gloo_group(),
            saving=_gloo_group(),
            node=int(os.environ.get("GROUP_RANK", 0)),
            leads_node=int(os.environ.get("LOCAL_RANK", 0)) == 0,
        )

    def leave(self) -> None:
        """Part from the other ranks."""
        if dist.is_initialized():
            dist.destroy_process_group()


ALONE = World(rank=0, size=1, device=torch.device("cpu"), control=None, saving=None)
"""A process that is not part of a run."""


def _gloo_group() -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, dist.ProcessGroup)  # every rank is in it
    return group
