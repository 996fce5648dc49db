"""Claims about HRM's baselines: what they compute, and which applications carry gradients."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.architectures import ARCHITECTURES, carries_gradient, possible_depths
from model.config import ModelConfig
from model.generate import Decoder, generate
from model.hrm import HRM
from tests.model import reference
from tests.model.packing import VOCABULARY, Sample, pack

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=4, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
BASELINES = [name for name in ARCHITECTURES if name != "hrm"]
SAMPLE = Sample((5, 3, 60, 0, 7, 9, 11), 3)
Apply = Callable[[str, Tensor], Tensor]


def transformer(apply: Apply, x: Tensor, z: Tensor) -> Tensor:
    return apply("R_module", x)


def looped(apply: Apply, x: Tensor, z: Tensor) -> Tensor:
    for carries in "..RR":
        z = apply("R_module", z + x) if carries == "R" else apply("R_module", z + x).detach()
    return z


def rins(apply: Apply, x: Tensor, z: Tensor) -> Tensor:
    for carries in "...LLLL":
        z = apply("L_module", z + x) if carries == "L" else apply("L_module", z + x).detach()
    return apply("H_module", z)


def trm_h2l1(apply: Apply, x: Tensor, z: Tensor) -> Tensor:
    z = apply("R_module", z + x).detach()
    y = apply("R_module", x + z).detach()
    z = apply("R_module", z + y)
    return apply("R_module", y + z)


def trm_h2l3(apply: Apply, x: Tensor, z: Tensor) -> Tensor:
    for _ in range(3):
        z = apply("R_module", z + x).detach()
    y = apply("R_module", x + z)
    for _ in range(3):
        z = apply("R_module", z + y)
    return apply("R_module", y + z)


EXPLICIT = {"transformer": transformer, "looped": looped, "rins": rins, "trm_h2l1": trm_h2l1, "trm_h2l3": trm_h2l3}
STACKS = {
    "hrm": {"L_module": 2, "H_module": 2},
    "transformer": {"R_module": 4},
    "looped": {"R_module": 4},
    "rins": {"L_module": 2, "H_module": 2},
    "trm_h2l1": {"R_module": 4},
    "trm_h2l3": {"R_module": 2},
}


def model_of(architecture: str, **changes: str) -> HRM:
    return HRM(replace(CONFIG, architecture=architecture, **changes), seed=4)


def weights_of(model: HRM) -> dict[str, Tensor]:
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for name, _ in model.named_parameters():
        weights[name].requires_grad_()
    return weights


def explicit_logits(architecture: str, weights: dict[str, Tensor], config: ModelConfig) -> Tensor:
    """Logits [T, V] of `SAMPLE` in float64, with an explicit schedule."""
    x = weights["embed_tokens.weight"][list(SAMPLE.tokens)] * config.hidden_size**0.5
    # The reference counts the layers of two stacks.
    blocks = replace(config, architecture="hrm", num_layers=2 * config.layers_per_stack)

    def apply(name: str, state: Tensor) -> Tensor:
        return reference.stack(state, weights, name, SAMPLE.prefix, blocks)

    z = EXPLICIT[architecture](apply, x, weights["z_L_init"].expand_as(x))
    return z @ weights["lm_head.weight"].T


@pytest.mark.parametrize("architecture", BASELINES)
def test_loss_and_every_gradient_equal_a_float64_model_with_an_explicit_schedule(architecture):
    model = model_of(architecture)
    weights = weights_of(model)
    log_probabilities = explicit_logits(architecture, weights, model.config).log_softmax(-1)
    expected = -sum(log_probabilities[place - 1, SAMPLE.tokens[place]] for place in range(SAMPLE.prefix, len(SAMPLE)))
    expected.backward()
    nll, _ = model(pack([[SAMPLE]], 9))
    nll.backward()
    torch.testing.assert_close(nll.double(), expected, rtol=1e-5, atol=0)
    for name, parameter in model.named_parameters():
        expected, found = weights[name].grad, parameter.grad
        assert (found is None) == (expected is None), name
        if found is not None and expected is not None:
            assert (found - expected).norm() <= 1e-4 * expected.norm(), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_has_its_stacks_and_parameters(architecture):
    model = model_of(architecture)
    found = {name: len(stack.layers) for name, stack in model.named_children() if name.endswith("_module")}
    assert found == STACKS[architecture]
    core = sum(p.numel() for name, p in model.named_parameters() if "_module." in name)
    assert core == model.config.core_parameters


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mask", ["prefix_lm", "causal"])
def test_cached_decoding_equals_computing_everything_again(architecture, mask):
    model = model_of(architecture, mask=mask)
    prompts = [[3, 1, 4, 1], [5], [9, 2, 6]]
    answers = torch.tensor([[5, 3, 5], [8, 9, 7], [9, 3, 2]])
    decoder = Decoder(model, rows=3, capacity=7)
    with torch.no_grad():
        logits = [decoder.prefill(prompts), *(decoder.step(column) for column in answers.T)]
        for row, prompt in enumerate(prompts):
            whole = torch.tensor([prompt + answers[row].tolist()])
            expected = model.logits(whole, torch.tensor([len(prompt)]))[0, len(prompt) - 1 :]
            torch.testing.assert_close(torch.stack([step[row] for step in logits]), expected, atol=2e-5, rtol=1e-4)
    assert len(generate(model, prompts, max_new_tokens=4, end_id=VOCABULARY)) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_under_the_causal_mask_no_position_depends_on_a_later_one(architecture):
    model = model_of(architecture, mask="causal")
    tokens = torch.tensor([[5, 3, 60, 0, 7, 9, 11]])
    changed = tokens.clone()
    changed[0, 2] = 4
    with torch.no_grad():
        before, after = (model.logits(row, torch.tensor([4]))[0] for row in (tokens, changed))
    assert (before != after).any(-1).tolist() == [False, False, True, True, True, True, True]


def test_packed_loss_under_the_causal_mask_is_that_of_samples_with_a_prefix_of_one_token():
    causal, prefix_lm = model_of("hrm", mask="causal"), model_of("hrm")
    batch = pack([[SAMPLE, SAMPLE]], 16)
    short = batch.segments.clone()
    short[:, 2] = 1
    assert torch.equal(causal(batch)[0], prefix_lm(replace(batch, segments=short))[0])
    assert not torch.equal(causal(batch)[0], prefix_lm(batch)[0])


@pytest.mark.parametrize(
    ("architecture", "k", "carrying"),
    [
        ("transformer", 1, "R"),
        ("looped", 2, "..RR"),
        ("looped", 4, "RRRR"),
        ("rins", 2, "......LH"),
        ("rins", 5, "...LLLLH"),
        ("trm_h2l1", 2, "..RR"),
        ("trm_h2l1", 3, ".RRR"),
        ("trm_h2l3", 5, "...RRRRR"),
    ],
)
def test_depth_counts_from_the_end(architecture, k, carrying):
    schedule = model_of(architecture).config.schedule
    assert carries_gradient(schedule, k) == tuple(letter != "." for letter in carrying)


@pytest.mark.parametrize(
    ("architecture", "k", "expected"),
    [("transformer", 2, "1"), ("looped", 5, "from 1 to 4"), ("rins", 1, "from 2 to 8"), ("trm_h2l1", 5, "from 2 to 4")],
)
def test_a_depth_outside_of_the_range_of_an_architecture_is_refused(architecture, k, expected):
    message = f"k is {k}; expected a whole number {expected} for this model's applications"
    with pytest.raises(ValueError, match=message):
        carries_gradient(model_of(architecture).config.schedule, k)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "trm"}, "architecture is 'trm'; expected one of hrm, transformer, looped, rins, trm_h2l1"),
        ({"mask": "full"}, "mask is 'full'; expected one of prefix_lm, causal"),
        ({"architecture": "rins", "L_cycles": 4}, "rins has its own schedule"),
        ({"architecture": "rins", "num_layers": 3}, "num_layers is 3"),
    ],
)
def test_an_invalid_configuration_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **fields)


@pytest.mark.parametrize("architecture", ["transformer", "looped", "trm_h2l1"])
def test_models_of_one_stack_may_have_an_odd_number_of_layers(architecture):
    assert replace(CONFIG, architecture=architecture, num_layers=3).layers_per_stack == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_depth_selects_that_many_applications_and_a_greater_depth_a_superset(architecture):
    config = replace(CONFIG, architecture=architecture)
    fewer = (False,) * config.applications
    for k in possible_depths(config.schedule):
        carries = carries_gradient(config.schedule, k)
        assert sum(carries) == k
        assert carries[-1]
        assert all(now for before, now in zip(fewer, carries, strict=True) if before)
        fewer = carries
    assert all(fewer)
    assert all(k in possible_depths(config.schedule) for k in config.depths)
