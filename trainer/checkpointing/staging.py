"""Copies of a run's state in CPU memory, from which a checkpoint is written while training continues.

    model and optimizer tensors, whole or sharded, on any device ─ StagingBuffers.copy ─▶ the same tensors on the CPU

The first copy allocates the buffers, later ones reuse them. The `DefaultStager` of torch.distributed.checkpoint does
not serve here: with torch 2.11 it fails when it is used a second time.
"""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from model.loading import Tensors


class StagingBuffers:
    """Reusable CPU buffers for the tensors of checkpoints.

    Parameters
    ----------
    pinned
        Allocate page-locked memory, to which a GPU copies at the full speed of the bus; if the system grants no more of
        it, ordinary memory from then on, and one line says so.
    """

    def __init__(self, *, pinned: bool):
        self._pinned = pinned
        self._buffers: dict[tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def copy(self, tensors: Tensors) -> dict[str, dict[str, Tensor]]:
        """Copy tensors to the CPU and wait until the copies are complete.

        Parameters
        ----------
        tensors
            Tensors by group and name. Of a DTensor only this rank's shard is copied.

        Returns
        -------
        dict
            The copies, with the shapes, dtypes and shardings of the originals; the next call overwrites them.
        """
        copies = {
            group: {name: self._copied((group, name), tensor) for name, tensor in part.items()}
            for group, part in tensors.items()
        }
        if any(buffer.is_pinned() for buffer in self._buffers.values()):  # the only copies that are not complete
            torch.cuda.current_stream().synchronize()
        return copies

    def _copied(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        buffer = self._buffers.get(key)
        if buffer is None or (buffer.shape, buffer.dtype) != (local.shape, local.dtype):
            buffer = self._allocated(local)
            self._buffers[key] = buffer
        buffer.copy_(local, non_blocking=buffer.is_pinned())
        # Not DTensor.from_local, which would move the copy back to the GPU of the device mesh.
        return DTensor(buffer, tensor._spec, requires_grad=False) if isinstance(tensor, DTensor) else buffer

    def _allocated(self, like: Tensor) -> Tensor:
        if self._pinned:
            try:
                return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=True)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                print(f"checkpoints: copies without page-locked memory, which take longer ({reason})", flush=True)
                self._pinned = False
        return torch.empty(like.shape, dtype=like.dtype, device="cpu")
