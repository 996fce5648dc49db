"""Claims about execution options: they do not change results."""

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from model.batch import PackedBatch
from model.blocks import Block
from model.config import ModelConfig, config_for
from model.execution import Execution, prepare
from model.generate import generate
from model.hrm import HRM
from tests.model.packing import VOCABULARY, Sample, pack

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=4, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
LENGTH = 64


def batch_of(seed: int) -> PackedBatch:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(2):
        row = []
        for _ in range(4):
            prefix, response = torch.randint(1, 8, (2,), generator=generator).tolist()
            tokens = torch.randint(0, VOCABULARY, (prefix + response,), generator=generator)
            row.append(Sample(tuple(tokens.tolist()), prefix))
        rows.append(row)
    return pack(rows, LENGTH)


def losses_and_gradients(model: HRM, k: int) -> list[Tensor]:
    found = []
    for seed in range(3):
        model.zero_grad()
        nll, _ = model(batch_of(seed), k=k)
        nll.backward()
        found += [nll.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
    return found


@pytest.mark.slow  # compiles C++ kernels
def test_compiled_blocks_equal_eager_ones_in_one_graph_for_all_blocks_and_batches():
    torch._dynamo.reset()
    counters.clear()
    model, compiled = HRM(CONFIG, seed=1), HRM(CONFIG, seed=1)
    prepare(compiled, Execution(compile=True))
    for k in (2, 5):
        for found, expected in zip(losses_and_gradients(compiled, k), losses_and_gradients(model, k), strict=True):
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert not counters["graph_break"]
    # Without gradient, with gradient, and with gradient for L's first input, which needs none.
    assert counters["stats"]["unique_graphs"] <= 3
    compiled.eval()
    generate(compiled, [[1, 2], [3]], max_new_tokens=5, end_id=VOCABULARY)
    assert counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize("kernel", ["dense", "flex64", "varlen"])
def test_code_compiled_for_one_packing_is_used_for_all(kernel):
    """Graphs are captured and not run, since the kernels need a GPU; there each graph takes a minute to compile."""

    def captured(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., list[Tensor]]:
        (made,) = next(node for node in graph.graph.nodes if node.op == "output").args
        shapes = [[int(size) for size in node.meta["example_value"].shape] for node in made]
        return lambda *args: [torch.zeros(shape, requires_grad=torch.is_grad_enabled()) for shape in shapes]

    torch._dynamo.reset()
    counters.clear()
    model = HRM(CONFIG)
    prepare(model, Execution(attention=kernel))
    for block in model.modules():
        if isinstance(block, Block):
            block.compile_training(backend=captured)
    sample = Sample((1, 2, 3, 4), 2)
    for samples in range(1, 16):
        with torch.set_grad_enabled(kernel != "flex64"):  # which has no backward pass on a CPU
            model(pack([samples * [sample], samples // 2 * [sample]], LENGTH))
    assert counters["stats"]["unique_graphs"] <= 3
    assert not counters["graph_break"]


@pytest.mark.parametrize("recompute", ["elementwise", "blocks"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("k", [2, 5, 8])
def test_recomputed_activations_change_no_bit(k, bf16, recompute):
    model, recomputing = HRM(CONFIG, seed=1), HRM(CONFIG, seed=1)
    prepare(recomputing, Execution(recompute=recompute))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for found, expected in zip(losses_and_gradients(recomputing, k), losses_and_gradients(model, k), strict=True):
            assert torch.equal(found, expected)


def test_recomputation_of_blocks_is_refused_for_a_model_without_an_l_stack():
    model = HRM(config_for("tiny", 10, architecture="transformer"))
    with pytest.raises(ValueError, match="recompute: blocks is for the L stack, and transformer has none"):
        prepare(model, Execution(recompute="blocks"))


@pytest.mark.skipif(importlib.util.find_spec("torchao") is not None, reason="torchao is installed here")
def test_float8_without_torchao_names_the_package_to_install():
    with pytest.raises(ValueError, match="float8 needs torchao, which is not installed: pip install torchao"):
        prepare(HRM(CONFIG), Execution(float8=True))


def test_float8_applies_to_the_stacks_and_keeps_every_weight_and_its_name():
    pytest.importorskip("torchao", reason="torchao is not installed")
    model = HRM(config_for("tiny", 32, hidden_size=128, num_heads=4), seed=1)
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    prepare(model, Execution(float8=True))
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert type(model.lm_head) is nn.Linear
    assert {type(part).__name__ for part in model.L_module.modules() if isinstance(part, nn.Linear)} == {"Float8Linear"}


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kernel", ["dense", "flex", "flex64", "varlen"])
def test_every_kernel_trains_on_a_gpu_like_fp32_on_a_cpu(cuda, kernel, compiled):
    shape = {"num_layers": 4, "hidden_size": 64, "num_heads": 2, "head_dim": 32, "intermediate_size": 128}
    model = HRM(ModelConfig(vocab_size=VOCABULARY, **shape), seed=1)
    model(batch_of(0), k=5)[0].backward()
    there = HRM(model.config, seed=1).to(cuda)
    prepare(there, Execution(attention=kernel, compile=compiled))
    with torch.autocast("cuda", torch.bfloat16):
        nll, _ = there(batch_of(0).to(cuda), k=5)
    nll.backward()
    for (name, p), q in zip(model.named_parameters(), there.parameters(), strict=True):
        assert torch.cosine_similarity(p.grad.flatten(), q.grad.cpu().flatten(), dim=0) > 0.98, name
