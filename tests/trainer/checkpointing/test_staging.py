"""Claims about the copies from which checkpoints are written."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from trainer.checkpointing.staging import StagingBuffers


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of device, with a process group of one rank."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    backend = "nccl" if request.param == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield request.param
    dist.destroy_process_group()


def test_copies_equal_the_originals_and_do_not_follow_their_changes(device: str) -> None:
    weight, step = torch.randn(3, 4, device=device).T, torch.tensor(7, device=device)
    expected = weight.cpu().clone()
    copies = StagingBuffers(pinned=device == "cuda").copy({"model": {"weight": weight}, "m": {"step": step}})
    weight.zero_()
    step.zero_()
    assert copies["model"]["weight"].device.type == "cpu"
    assert torch.equal(copies["model"]["weight"], expected)
    assert copies["m"]["step"].item() == 7


def test_copies_of_sharded_tensors_are_sharded_alike(device: str) -> None:
    mesh = init_device_mesh(device, (1,))
    sharded = distribute_tensor(torch.arange(12.0, device=device).reshape(6, 2), mesh, [Shard(0)])
    copy = StagingBuffers(pinned=device == "cuda").copy({"model": {"weight": sharded}})["model"]["weight"]
    sharded.to_local().zero_()
    assert isinstance(copy, DTensor)
    assert (copy.shape, copy.placements, copy.device_mesh) == (sharded.shape, sharded.placements, mesh)
    assert copy.to_local().device.type == "cpu"
    assert torch.equal(copy.to_local(), torch.arange(12.0).reshape(6, 2))


def test_memory_is_reused_unless_a_tensor_has_another_shape(device: str) -> None:
    buffers = StagingBuffers(pinned=device == "cuda")

    def staged(rows: int) -> torch.Tensor:
        copy = buffers.copy({"model": {"weight": torch.full((rows, 2), float(rows), device=device)}})["model"]["weight"]
        assert copy.is_pinned() == (device == "cuda")
        assert (copy == rows).all()
        assert copy.shape == (rows, 2)
        return copy

    first = staged(3)
    assert staged(3).data_ptr() == first.data_ptr()
    staged(5)


def test_copies_are_made_on_the_cpu_whatever_the_default_device_is() -> None:
    tensor = torch.ones(3)
    with torch.device("meta"):
        copy = StagingBuffers(pinned=False).copy({"model": {"weight": tensor}})["model"]["weight"]
    assert torch.equal(copy, tensor)


def test_copies_are_complete_where_no_page_locked_memory_is_granted(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("page-locked memory needs a driver, which is here")
    buffers = StagingBuffers(pinned=True)
    tensors = {"model": {"a": torch.arange(5), "b": torch.ones(2, 3)}}
    for _ in range(2):
        copies = buffers.copy(tensors)["model"]
        assert all(torch.equal(copies[name], tensor) for name, tensor in tensors["model"].items())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("checkpoints: copies without page-locked memory, which take longer (")
