"""Reference implementation of the model: one sample at a time, in float64, without the code of model/.

Functions take the weights by their names in the state dict.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.config import ModelConfig
from tests.model.packing import Sample

Weights = Mapping[str, Tensor]


def sees(query: int, key: int, prefix: int) -> bool:
    """Whether position `query` of a sample sees position `key`."""
    if query < prefix:
        return key < prefix
    return key <= query


def norm(x: Tensor, config: ModelConfig) -> Tensor:
    return x / (x**2).mean(-1, keepdim=True).add(config.norm_eps).sqrt()


def rotated(x: Tensor, config: ModelConfig) -> Tensor:
    """Rotary embedding of [T, head_dim] as a product of complex numbers."""
    half = config.head_dim // 2
    frequencies = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(len(x), dtype=torch.float64)[:, None] * frequencies
    product = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((product.real, product.imag), -1)


def attention(x: Tensor, weights: Weights, name: str, prefix: int, config: ModelConfig) -> Tensor:
    gate, query, key, value = (x @ weights[f"{name}.gqkv_proj.weight"].T).chunk(4, -1)
    visible = torch.tensor([[sees(i, j, prefix) for j in range(len(x))] for i in range(len(x))])
    heads = []
    for head in range(config.num_heads):
        channels = slice(head * config.head_dim, (head + 1) * config.head_dim)
        scores = rotated(query[:, channels], config) @ rotated(key[:, channels], config).T / config.head_dim**0.5
        heads.append(scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value[:, channels])
    return (torch.sigmoid(gate) * torch.cat(heads, -1)) @ weights[f"{name}.o_proj.weight"].T


def swiglu(x: Tensor, weights: Weights, name: str) -> Tensor:
    gate, up = (x @ weights[f"{name}.gate_up_proj.weight"].T).chunk(2, -1)
    return (gate * torch.sigmoid(gate) * up) @ weights[f"{name}.down_proj.weight"].T


def stack(x: Tensor, weights: Weights, name: str, prefix: int, config: ModelConfig) -> Tensor:
    for layer in range(config.num_layers // 2):
        x = x + attention(norm(x, config), weights, f"{name}.layers.{layer}.attn", prefix, config)
        x = x + swiglu(norm(x, config), weights, f"{name}.layers.{layer}.mlp")
    return norm(x, config)


def logits(sample: Sample, weights: Weights, config: ModelConfig, carries: str) -> Tensor:
    """Logits [T, V]; `carries` has one letter per application, "." if its output is detached."""
    carries_next = iter(carries)

    def apply(name: str, x: Tensor) -> Tensor:
        out = stack(x, weights, name, sample.prefix, config)
        return out if next(carries_next) != "." else out.detach()

    z_H = weights["embed_tokens.weight"][list(sample.tokens)] * config.hidden_size**0.5
    z_L = weights["z_L_init"].expand_as(z_H)
    for _ in range(config.H_cycles):
        for _ in range(config.L_cycles):
            z_L = apply("L_module", z_L + z_H)
        z_H = apply("H_module", z_H + z_L)
    assert next(carries_next, None) is None
    return z_H @ weights["lm_head.weight"].T


def loss(samples: Sequence[Sample], weights: Weights, config: ModelConfig, carries: str) -> Tensor:
    """Negative log-likelihood of all response tokens, summed."""
    total = torch.zeros((), dtype=torch.float64)
    for sample in samples:
        log_probabilities = logits(sample, weights, config, carries).log_softmax(-1)
        for position in range(sample.prefix, len(sample)):
            total = total - log_probabilities[position - 1, sample.tokens[position]]
    return total
