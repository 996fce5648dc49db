"""Claims about the model: its values, its gradients, its weights."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.architectures import carries_gradient
from model.batch import IGNORE, PackedBatch
from model.config import ModelConfig, config_for
from model.hrm import HRM
from tests.model import reference
from tests.model.packing import VOCABULARY, Sample, pack, samples

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=4, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
SCHEDULE = {
    # L1 L2 L3 H1 L4 L5 L6 H2, "." where an application carries no gradient
    2: "......LH",
    3: "...H..LH",
    4: "...H.LLH",
    5: "...HLLLH",
    6: "..LHLLLH",
    7: ".LLHLLLH",
    8: "LLLHLLLH",
}
LENGTH = 32


@pytest.fixture(scope="module")
def model() -> HRM:
    return HRM(CONFIG, seed=7)


def random_samples(count: int, seed: int = 0) -> list[Sample]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        prefix, response = torch.randint(1, 8, (2,), generator=generator).tolist()
        tokens = torch.randint(0, VOCABULARY, (prefix + response,), generator=generator)
        found.append(Sample(tuple(tokens.tolist()), prefix))
    return found


def gradients(model: HRM, batch: PackedBatch, k: int) -> dict[str, Tensor | None]:
    model.zero_grad()
    model(batch, k=k)[0].backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def fully_labelled(batch: PackedBatch) -> PackedBatch:
    """The batch with every position of every sample labelled."""
    labels = torch.full_like(batch.labels, IGNORE)
    for row, begin, _, total in batch.segments.tolist():
        labels[row, begin : begin + total] = 0
    return replace(batch, labels=labels)


def logits_of_samples(model: HRM, rows: list[list[Sample]], length: int) -> list[Tensor]:
    with torch.no_grad():
        logits, _ = model.labelled_logits(fully_labelled(pack(rows, length)))
    return list(logits.split([len(sample) for row in rows for sample in row]))


class TestAgainstTheReference:
    """Loss and gradients equal those of tests/model/reference.py."""

    @pytest.mark.parametrize("k", SCHEDULE)
    def test_loss_and_every_gradient_equal_a_float64_model_that_detaches_by_the_schedule(self, model, k):
        packed = [random_samples(2, 1), random_samples(3, 2)]
        batch = pack(packed, 64)
        weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
        names = [name for name, _ in model.named_parameters()]
        for name in names:
            weights[name].requires_grad_()
        expected = reference.loss(packed[0] + packed[1], weights, CONFIG, SCHEDULE[k])
        expected.backward()
        nll, count = model(batch, k=k)
        assert nll.dtype == torch.float32
        assert count == sum(len(sample) - sample.prefix for sample in packed[0] + packed[1])
        torch.testing.assert_close(nll.double(), expected, rtol=1e-5, atol=0)
        for name, gradient in gradients(model, batch, k).items():
            expected = weights[name].grad
            assert (gradient is None) == (expected is None), name
            if gradient is not None and expected is not None:
                assert (gradient - expected).norm() <= 1e-4 * expected.norm(), name

    @pytest.mark.parametrize("prefix", [1, 3, 6])
    def test_logits_of_unpacked_rows_equal_the_reference(self, model, prefix):
        tokens = torch.tensor([[5, 3, 60, 0, 7, 7], [1, 2, 3, 4, 5, 6]])
        weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
        with torch.no_grad():
            logits = model.logits(tokens, torch.tensor([prefix, 2]))
        for row, length in ((0, prefix), (1, 2)):
            expected = reference.logits(Sample(tuple(tokens[row].tolist()), length), weights, CONFIG, "LLLHLLLH")
            torch.testing.assert_close(logits[row].double(), expected, atol=2e-5, rtol=1e-5)


class TestTruncation:
    @pytest.mark.parametrize("k", SCHEDULE)
    def test_the_last_k_applications_carry_gradients(self, k):
        assert carries_gradient(CONFIG.schedule, k) == tuple(letter != "." for letter in SCHEDULE[k])

    def test_k_is_split_by_the_same_rule_for_other_cycles(self):
        config = config_for("tiny", 10, H_cycles=3, L_cycles=1)
        assert carries_gradient(config.schedule, 2) == (False, False, False, False, True, True)
        assert carries_gradient(config.schedule, 3) == (False, False, False, True, True, True)
        assert carries_gradient(config.schedule, 5) == (False, True, True, True, True, True)

    @pytest.mark.parametrize("k", [-1, 0, 1, 9])
    def test_a_k_outside_of_the_range_is_refused(self, k):
        with pytest.raises(ValueError, match=f"k is {k}; expected a whole number from 2 to 8"):
            carries_gradient(CONFIG.schedule, k)

    def test_the_embedding_has_a_gradient_only_if_an_application_that_reads_it_carries_one(self, model):
        batch = pack([random_samples(2)], LENGTH)
        assert gradients(model, batch, 2)["embed_tokens.weight"] is None
        assert gradients(model, batch, 3)["embed_tokens.weight"].abs().sum() > 0

    def test_the_value_does_not_depend_on_k(self, model):
        batch = pack([random_samples(2)], LENGTH)
        assert len({model(batch, k=k)[0].item() for k in SCHEDULE}) == 1

    def test_earlier_applications_keep_no_activations(self, model):
        batch = pack([random_samples(2), random_samples(2)], LENGTH)

        def kept(k: int) -> int:
            sizes: dict[int, int] = {}

            def note(tensor: Tensor) -> Tensor:
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                nll, _ = model(batch, k=k)
            assert nll.requires_grad
            return sum(sizes.values())

        one_more = [kept(k + 1) - kept(k) for k in (3, 4, 5)]
        assert max(one_more) <= 1.1 * min(one_more)
        assert kept(8) - kept(2) >= 5.5 * min(one_more)

    def test_no_grad_around_the_call_is_honoured(self, model):
        with torch.no_grad():
            assert not model(pack([random_samples(2)], LENGTH))[0].requires_grad


class TestPacking:
    @settings(deadline=None, max_examples=25)
    @given(
        sample=samples(),
        before=st.lists(samples(6), max_size=2),
        after=st.lists(samples(6), max_size=2),
        other=st.lists(samples(10), max_size=2),
        above=st.booleans(),
    )
    def test_logits_of_a_sample_do_not_depend_on_where_and_beside_what_it_is_packed(
        self, model, sample, before, after, other, above
    ):
        (alone,) = logits_of_samples(model, [[sample]], len(sample))
        rows = [[*before, sample, *after]]
        rows = [other, *rows] if above else [*rows, other]
        index = len(before) + (len(other) if above else 0)
        packed = logits_of_samples(model, rows, 40)[index]
        torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-4)

    @settings(deadline=None, max_examples=25)
    @given(sample=samples(), changed=st.integers(0, 11), neighbour=samples())
    def test_a_token_is_felt_by_the_whole_sample_from_the_prefix_and_by_later_positions_from_the_response(
        self, model, sample, changed, neighbour
    ):
        changed %= len(sample)
        tokens = list(sample.tokens)
        tokens[changed] = (tokens[changed] + 1) % VOCABULARY
        other = Sample(tuple(tokens), sample.prefix)
        before = logits_of_samples(model, [[neighbour, sample, neighbour]], 40)
        after = logits_of_samples(model, [[neighbour, other, neighbour]], 40)
        felt = (before[1] != after[1]).any(-1).tolist()
        first = 0 if changed < sample.prefix else changed
        assert felt == [position >= first for position in range(len(sample))]
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[2], after[2])

    def test_what_stands_in_the_padding_changes_nothing(self, model):
        batch = pack([random_samples(2), []], LENGTH)
        padded = torch.ones_like(batch.tokens, dtype=torch.bool)
        for row, begin, _, total in batch.segments.tolist():
            padded[row, begin : begin + total] = False
        other = replace(batch, tokens=torch.where(padded, 9, batch.tokens))
        assert torch.equal(model(batch)[0], model(other)[0])
        for name, gradient in gradients(model, other, 5).items():
            assert torch.equal(gradient, gradients(model, batch, 5)[name]), name


class TestWithoutTargets:
    @pytest.mark.parametrize("k", SCHEDULE)
    @pytest.mark.parametrize(
        "rows",
        [[[Sample((3, 4, 5), 3), Sample((1,), 1)], [Sample((2, 2), 2)]], [[], []]],
        ids=["empty responses", "padding only"],
    )
    @pytest.mark.parametrize("bf16", [False, True])
    def test_loss_and_gradients_are_zero(self, model, rows, k, bf16):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            nll, count = model(pack(rows, 8), k=k)
        assert nll.item() == 0
        assert count.item() == 0
        model.zero_grad()
        nll.backward()
        for name, p in model.named_parameters():
            if name == "embed_tokens.weight" and k == 2:
                assert p.grad is None
            else:
                assert p.grad.count_nonzero() == 0, name

    def test_rows_of_padding_beside_samples_leave_everything_finite(self, model):
        batch = pack([random_samples(3), [], random_samples(1)], LENGTH)
        for gradient in gradients(model, batch, 8).values():
            assert gradient.isfinite().all()


class TestPrecision:
    @pytest.mark.parametrize("k", SCHEDULE)
    def test_autocast_computes_in_bf16_with_the_gradients_of_fp32(self, device, k):
        model = HRM(CONFIG, seed=3).to(device)
        batch = pack([random_samples(3, 4), random_samples(3, 5)], 64).to(device)
        exact_nll, _ = model(batch, k=k)
        exact = gradients(model, batch, k)
        with torch.autocast(device, torch.bfloat16):
            assert model.state_dtype == torch.bfloat16
            nll, _ = model(batch, k=k)
            logits, _ = model.labelled_logits(batch, k=k)
        assert logits.dtype == torch.bfloat16
        assert nll.dtype == torch.float32
        torch.testing.assert_close(nll, exact_nll, rtol=0.02, atol=0)
        model.zero_grad()
        nll.backward()
        for name, p in model.named_parameters():
            expected = exact[name]
            assert (p.grad is None) == (expected is None), name
            if p.grad is not None:
                assert p.grad.dtype == torch.float32
                assert torch.cosine_similarity(p.grad.flatten(), expected.flatten(), dim=0) > 0.98, name

    def test_a_step_repeated_gives_the_same_bits(self, model):
        batch = pack([random_samples(3), random_samples(2, 9)], 64)
        first, second = (gradients(model, batch, 5) for _ in range(2))
        for name, gradient in first.items():
            assert torch.equal(gradient, second[name]), name

    def test_a_stack_compiles_without_a_graph_break(self, model):
        torch._dynamo.reset()
        batch = pack([random_samples(3), random_samples(2, 9)], 64)
        expected = model(batch)[0]
        compiled = HRM(CONFIG, seed=7)
        compiled.L_module.compile(backend="aot_eager", fullgraph=True)
        compiled.H_module.compile(backend="aot_eager", fullgraph=True)
        nll = compiled(batch)[0]
        torch.testing.assert_close(nll, expected)
        nll.backward()
        wanted = gradients(model, batch, 5)
        for name, p in compiled.named_parameters():
            torch.testing.assert_close(p.grad, wanted[name], msg=name)


class TestMagicNorm:
    @pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
    def test_every_state_has_unit_mean_square_whatever_the_weights(self, scale):
        model = HRM(CONFIG, seed=1)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "layers" in name:
                    p.mul_(scale)
        states = []
        for stack in (model.L_module, model.H_module):
            stack.register_forward_hook(lambda module, inputs, out: states.append(out))
        model(pack([random_samples(3)], 64))
        assert len(states) == CONFIG.applications
        for state in states:
            torch.testing.assert_close(state.square().mean(-1), torch.ones(state.shape[:-1]), rtol=1e-4, atol=0)

    def test_blocks_have_no_parameters_but_their_projections(self, model):
        assert {name.split(".", 3)[3] for name in model.state_dict() if name.startswith("H_module")} == {
            "attn.gqkv_proj.weight",
            "attn.o_proj.weight",
            "mlp.gate_up_proj.weight",
            "mlp.down_proj.weight",
        }


class TestWeights:
    @pytest.fixture(scope="class")
    def wide(self) -> HRM:
        return HRM(config_for("tiny", vocab_size=512, hidden_size=256), seed=5)

    def test_weights_are_truncated_normal_with_the_standard_deviation_of_their_width(self, wide):
        for name, tensor in wide.state_dict().items():
            std = 1.0 if name == "z_L_init" else 1 / math.sqrt(tensor.shape[1])
            spread = 4 / math.sqrt(tensor.numel())
            assert tensor.std().item() == pytest.approx(std, rel=spread), name
            assert abs(tensor.mean().item()) < spread * std, name
            assert tensor.abs().max() <= 3.05 * std, name
            if tensor.numel() > 10_000:
                assert tensor.abs().max() >= 2.9 * std, name
                inside = (tensor.abs() <= std).float().mean().item()
                assert inside == pytest.approx(0.6756, abs=0.02), name  # of a normal cut at 3 and rescaled

    def test_scaled_embeddings_have_unit_variance(self, wide):
        states = []
        wide.L_module.register_forward_pre_hook(lambda module, inputs: states.append(inputs[0] - wide.z_L_init))
        with torch.no_grad():
            wide.logits(torch.arange(512)[None], torch.tensor([512]))
        assert states[0].std().item() == pytest.approx(1, rel=0.02)

    def test_the_seed_decides_all_weights(self):
        first, again, other = HRM(CONFIG, seed=1), HRM(CONFIG, seed=1), HRM(CONFIG, seed=2)
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name]), name
            assert not torch.equal(tensor, other.state_dict()[name]), name

    def test_the_stacks_and_their_blocks_begin_different(self, model):
        blocks = [*model.L_module.layers, *model.H_module.layers]
        values = {block.attn.o_proj.weight[0, 0].item() for block in blocks}
        assert len(values) == len(blocks)

    def test_weights_are_drawn_on_the_cpu_whatever_the_default_device_is(self, model):
        other = HRM(CONFIG, seed=8)
        with torch.device("meta"):
            other.init_weights(7)
        for name, tensor in other.state_dict().items():
            assert torch.equal(tensor, model.state_dict()[name]), name

    @pytest.mark.gpu
    def test_weights_made_on_a_gpu_are_those_made_on_a_cpu(self, model, cuda):
        with torch.device(cuda):
            there = HRM(CONFIG, seed=7)
        for name, tensor in there.state_dict().items():
            assert torch.equal(tensor.cpu(), model.state_dict()[name]), name

    def test_a_saved_state_loads_without_unpickling_code(self, model, tmp_path):
        torch.save(model.state_dict(), tmp_path / "model.pt")
        other = HRM(CONFIG, seed=8)
        other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
        batch = pack([random_samples(3)], 64)
        assert torch.equal(model(batch)[0], other(batch)[0])

    def test_names_are_the_published_ones_without_their_prefix(self, model):
        stack = [
            f"{stack}_module.layers.{layer}.{part}.weight"
            for stack in "HL"
            for layer in (0, 1)
            for part in ("attn.gqkv_proj", "attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
        ]
        assert set(model.state_dict()) == {*stack, "embed_tokens.weight", "lm_head.weight", "z_L_init"}
        assert "z_L_init" not in dict(model.named_parameters())
