"""Claims about counted operations, compared with those that torch's counter sees."""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.architectures import ARCHITECTURES, possible_depths
from model.config import ModelConfig, config_for
from model.flops import causal_pairs, main, peak_flops, same_cost_layers, training_flops, visible_pairs
from model.hrm import HRM
from tests.model.packing import VOCABULARY, Sample, pack

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=4, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
LENGTH, PREFIX = 16, 5
TOKENS, TARGETS = 2 * LENGTH, 2 * (LENGTH - PREFIX)


def counted(config: ModelConfig, k: int) -> dict[str, int]:
    """Operations that torch sees in a forward and backward pass over two rows, by kind of product."""
    model = HRM(config)
    batch = pack([[Sample(tuple(range(LENGTH)), PREFIX)]] * 2, LENGTH)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch, k=k)[0].backward()
    return {str(op).split(".")[1]: flops for op, flops in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_count_equals_that_of_torch_for_every_architecture_and_depth(architecture):
    config = replace(CONFIG, architecture=architecture)
    for k in possible_depths(config.schedule):
        seen = counted(config, k)
        flops = training_flops(config, k=k, tokens=TOKENS, targets=TARGETS, pairs=TOKENS * LENGTH)
        # With the smallest K of two kinds of applications, the first one that carries gradients reads states without a
        # graph, so the gradient of the input of its first projection is not computed.
        first = 2 * 4 * 30 * 24 * TOKENS if k == 2 and architecture in ("hrm", "trm_h2l1", "trm_h2l3") else 0
        assert seen["mm"] == flops.core + flops.head - first, k
        assert seen["bmm"] == flops.attention, k


def test_published_formula_per_token():
    config = config_for("L", 65_536)
    for k in (2, 5, 8):
        flops = training_flops(config, k=k)
        assert flops.core == (8 + 2 * k) * config.core_parameters
        assert flops.head == 6 * 65_536 * 1280
        assert flops.attention == 0


def test_transformer_costs_six_operations_a_parameter():
    config = config_for("B", 1024, architecture="transformer")
    assert training_flops(config, k=1).core == 6 * config.core_parameters


def test_causal_pairs_are_those_on_and_below_the_diagonal():
    assert [causal_pairs(length) for length in (0, 1, 7)] == [0, 1, int(torch.ones(7, 7).tril().sum())]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_other_number_of_layers_comes_closer_to_the_reference(architecture):
    reference = config_for("L", 1024)
    target = training_flops(reference, k=5).core
    config = replace(reference, architecture=architecture)
    k = config.depths[1]
    found = same_cost_layers(config, reference, k=k, reference_k=5)
    off = abs(training_flops(found, k=k).core - target)
    for layers in (found.num_layers - 2, found.num_layers + 2):
        assert off <= abs(training_flops(replace(config, num_layers=layers), k=k).core - target)


def test_command_prints_a_line_for_each_architecture(capsys):
    assert main(["--size", "B", "--length", "128"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[3 : 3 + len(ARCHITECTURES)]] == list(ARCHITECTURES)
    ratio = {line.split()[0]: float(line.split()[-2].rstrip("×")) for line in printed[3 : 3 + len(ARCHITECTURES)]}
    assert ratio["hrm"] == 1.0
    assert ratio["rins"] == ratio["trm_h2l3"] == 1.0
    assert ratio["transformer"] > ratio["looped"] > 1.0


def test_command_refuses_an_invalid_depth(capsys):
    assert main(["--k", "9"]) == 2
    assert "k is 9; expected a whole number from 2 to 8" in capsys.readouterr().err


def test_visible_pairs_are_those_that_the_mask_shows():
    prefix, total = torch.tensor([3, 1, 5]), torch.tensor([7, 4, 6])
    for mask in ("prefix_lm", "causal"):
        shown = 0
        for p, t in zip(prefix.tolist(), total.tolist(), strict=True):
            mutual = p if mask == "prefix_lm" else 1
            shown += sum(max(mutual, position + 1) for position in range(t))
        assert visible_pairs(prefix, total, mask) == shown


def test_peak_is_that_of_the_data_sheet_whose_words_a_device_name_has():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA GeForce RTX 4090") is None
