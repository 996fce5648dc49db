"""Claims about model configurations."""

import math
import re

import pytest
import torch

from model.config import SIZES, ModelConfig, config_for
from model.hrm import HRM


@pytest.mark.parametrize(
    ("size", "layers", "width", "heads", "inner", "millions"),
    [
        ("B", 12, 1024, 8, 2816, 167),
        ("L", 24, 1280, 10, 3584, 527),
        ("XL", 32, 1536, 12, 4096, 981),  # 981,467,136: published as 982 M, rounded up
        ("XXL", 72, 1792, 14, 4864, None),
        ("XXL-wide", 32, 2560, 20, 6912, None),
    ],
)
def test_published_sizes_have_the_published_shapes_and_parameter_counts(size, layers, width, heads, inner, millions):
    config = config_for(size, vocab_size=65_536)
    shape = (config.num_layers, config.hidden_size, config.num_heads, config.head_dim, config.intermediate_size)
    assert shape == (layers, width, heads, 128, inner)
    with torch.device("meta"):
        model = HRM(config)
    core = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("H_module.", "L_module.")))
    assert core == config.core_parameters
    assert sum(p.numel() for p in model.parameters()) == config.parameters
    if millions is not None:
        assert round(core / 1e6) == millions


def test_every_size_can_be_built_by_name():
    for size in SIZES:
        assert config_for(size, vocab_size=100).vocab_size == 100


def test_the_inner_width_follows_from_the_hidden_size_unless_it_is_given():
    assert config_for("tiny", 100, hidden_size=1024).intermediate_size == 2816
    assert config_for("tiny", 100, hidden_size=1024, intermediate_size=64).intermediate_size == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 3}, "num_layers is 3; it counts the H and the L stack together, so it must be even: try 4"),
        ({"head_dim": 7}, "head_dim is 7; .* try 8"),
        ({"hidden_size": 0}, "hidden_size is 0; expected a whole number of at least 1"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'; expected a whole number"),
        ({"hidden_size": math.inf}, "hidden_size is inf; expected a whole number"),
        ({"H_cycles": 1.5}, "H_cycles is 1.5; expected a whole number"),
        ({"L_cycles": True}, "L_cycles is True; expected a whole number"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0; expected a number above 0"),
        ({"rope_theta": "1e4"}, "rope_theta is '1e4'; expected a number above 0"),
        ({"norm_eps": -1.0}, "norm_eps is -1.0; expected a number above 0"),
        ({"hiden_size": 8}, "unknown model field 'hiden_size'; did you mean 'hidden_size'"),
    ],
)
def test_an_invalid_configuration_is_refused_with_a_valid_value(changes, message):
    with pytest.raises(ValueError, match=message):
        config_for("tiny", 100, **changes)


def test_an_unknown_size_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=re.escape("unknown model size 'huge'; known sizes: tiny, B, L, XL")):
        config_for("huge", 100)


def test_applications_follow_from_the_cycles():
    config = ModelConfig(
        vocab_size=8,
        num_layers=2,
        hidden_size=8,
        num_heads=1,
        head_dim=8,
        intermediate_size=8,
        H_cycles=3,
        L_cycles=2,
    )
    assert config.applications == 9
    assert config.layers_per_stack == 1
