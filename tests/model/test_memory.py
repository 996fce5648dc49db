"""Claims about the arithmetic of memory, against the storages that are alive after a forward pass."""

from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.architectures import carries_gradient
from model.batch import PackedBatch
from model.blocks import RECOMPUTE, Block, Recompute, Stack
from model.config import ModelConfig, config_for
from model.execution import Execution, prepare
from model.hrm import HRM
from model.memory import activation_memory
from tests.model.packing import Sample, pack

VOCABULARY, ROWS, LENGTH = 256, 2, 128
CONFIGS = {
    "tiny": config_for("tiny", VOCABULARY),
    # Proportions of L: width and heads alike, an inner width of 2.8 times that.
    "small L": config_for("L", VOCABULARY, num_layers=4, hidden_size=128, num_heads=2, head_dim=64),
    "wide heads": config_for("tiny", VOCABULARY, num_layers=2, hidden_size=64, num_heads=3, head_dim=32),
}


class Storages(TorchDispatchMode):
    """Remembers the storages that operations return."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._known[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return result

    def alive(self, model: HRM) -> int:
        """Bytes of those that are not freed, without the weights."""
        weights = {tensor.untyped_storage()._cdata for tensor in model.state_dict().values()}
        return sum(size for key, (storage, size) in self._known.items() if key not in weights and not storage.expired())


def batch() -> PackedBatch:
    sample = Sample(tuple(range(32)), 11)
    return pack([(LENGTH // 32) * [sample] for _ in range(ROWS)], LENGTH)


def predicted(config: ModelConfig, k: int, *, bf16: bool, recompute: Recompute, **options) -> float:
    memory = activation_memory(
        config,
        k=k,
        row_tokens=LENGTH,
        number_bytes=2 if bf16 else 4,
        recompute=recompute,
        casts_weights=bf16,
        **options,
    )
    made_before = memory.per_token["batch"] * ROWS * LENGTH
    return memory.kept(ROWS * LENGTH, int((batch().labels != -100).sum())) - made_before


@pytest.mark.parametrize("recompute", RECOMPUTE)
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("k", [2, 3, 5, 8])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_bytes_that_a_forward_pass_keeps_are_those_of_the_arithmetic(config, k, bf16, recompute):
    model = HRM(config, seed=1)
    prepare(model, Execution(recompute=recompute))
    storages = Storages()
    with storages, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        nll, _ = model(batch(), k=k)
    assert storages.alive(model) == pytest.approx(predicted(config, k, bf16=bf16, recompute=recompute), rel=0.05)
    del nll


@contextmanager
def flex_with_a_backward_pass_on_a_cpu(monkeypatch):
    """FlexAttention in plain operations, which torch refuses to differentiate on a CPU because it is slow."""
    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *tensors: None)
        yield


def partitioned_by_inductor():
    """Backend of torch.compile that runs the graphs of forward and backward pass that Inductor would compile."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_compiler
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.fx_passes.joint_graph import joint_graph_passes

    def partition(graph, inputs, **options):
        joint_graph_passes(graph)
        return min_cut_rematerialization_partition(graph, inputs, compiler="inductor", **options)

    run = make_boxed_compiler(lambda graph, _: graph)
    return aot_autograd(fw_compiler=run, partition_fn=partition, decompositions=select_decomp_table())


@pytest.mark.slow  # traces graphs
def test_compiled_blocks_keep_the_bytes_of_the_arithmetic_and_give_the_same_gradients(monkeypatch):
    config = config_for("L", VOCABULARY, num_layers=2, hidden_size=128, num_heads=2, head_dim=64)
    gradients = []
    backend = partitioned_by_inductor()
    for recompute in ("none", "elementwise"):
        torch._dynamo.reset()
        model = HRM(config, seed=1)
        prepare(model, Execution(recompute=recompute, attention="flex"))
        for block in model.modules():
            if isinstance(block, Block):
                block.compile_training(backend=backend)
        weights = {tensor.untyped_storage()._cdata for tensor in model.state_dict().values()}
        kept = {}

        def keep(tensor: Tensor, kept: dict[int, Tensor] = kept) -> Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with (
            flex_with_a_backward_pass_on_a_cpu(monkeypatch),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16),
        ):
            nll, _ = model(batch(), k=5)
            counted = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
            nll.backward()
        expected = predicted(config, 5, bf16=True, recompute=recompute, compiled=True, kernel="flex")
        assert counted == pytest.approx(expected, rel=0.05)
        gradients.append([p.grad for p in model.parameters()])
    for kept_all, recomputed in zip(*gradients, strict=True):
        assert torch.equal(kept_all, recomputed)


def test_published_batches_fit_into_80_gigabytes_with_elementwise_recomputation_only():
    for size, tokens in (("L", 21_504), ("XL", 12_288)):
        config = config_for(size, 65_536)
        state = 20 * config.parameters
        peaks = {
            recompute: state
            + activation_memory(
                config,
                k=5,
                row_tokens=tokens,
                number_bytes=2,
                recompute=recompute,
                compiled=True,
                kernel="flex",
                casts_weights=True,
            ).peak(tokens, tokens)
            for recompute in ("none", "elementwise")
        }
        assert peaks["elementwise"] < 0.94 * 80e9 < peaks["none"], size


@pytest.mark.parametrize(
    ("size", "rows", "recompute", "kernel", "measured"),
    [
        ("L", 4, "none", "flex", 67.7),
        ("L", 4, "none", "varlen", 70.1),
        ("L", 6, "blocks", "varlen", 49.8),
        ("XL", 2, "none", "varlen", 69.7),
    ],
)
def test_arithmetic_gives_the_memory_that_an_h100_measured(size, rows, recompute, kernel, measured):
    """GiB of torch.cuda.max_memory_allocated in `tests.benchmarks.model --compile --k 5`, torch 2.11, one run each.

    Compiled blocks cast their weights in each application at that time, and kept the copies of those not recomputed.
    """
    config = config_for(size, 65_536)
    options = {"k": 5, "row_tokens": 4096, "number_bytes": 2, "compiled": True}
    memory = activation_memory(config, recompute=recompute, kernel=kernel, **options)
    carries = zip(config.schedule, carries_gradient(config.schedule, 5), strict=True)
    kept = [a.stack for a, carried in carries if carried and (recompute == "none" or a.stack != "L_module")]
    with torch.device("meta"):
        stack = sum(p.numel() for p in Stack(config).parameters())
    tokens = rows * 4096
    peak = 20 * config.parameters + memory.peak(tokens, 2 * tokens // 3) + 2 * stack * len(kept)
    assert peak / 2**30 == pytest.approx(measured, rel=0.05)
