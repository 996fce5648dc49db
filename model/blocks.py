"""The layers of a stack: gated attention and SwiGLU, each with a parameter-free RMSNorm before it.

x ← x + Attn(norm x); x ← x + SwiGLU(norm x). After the last block one more norm is applied to the residual stream
(MagicNorm), so the output of a stack has unit mean square at every position, however often the stack is applied.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from model.attention import DenseMask, Mask, attend
from model.cache import KeyValueCache
from model.config import ModelConfig
from model.linear import Linear
from model.rope import Rope

Recompute = Literal["none", "elementwise", "blocks"]
RECOMPUTE: tuple[Recompute, ...] = get_args(Recompute)
"""none: keep all activations for the backward pass. elementwise: keep the outputs of matrix products and attention,
recompute norms, rotations, gates and activation functions between them. blocks: keep the inputs of blocks only."""

_KEPT_OPERATIONS = frozenset(
    {
        "aten::mm",
        "aten::_scaled_mm",  # float8
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention",
        "aten::_scaled_dot_product_efficient_attention",
        "aten::_scaled_dot_product_cudnn_attention",
        "torch_attn::_varlen_attn",
        "flex_attention",
    }
)
"""Names of the operations whose outputs are kept with `elementwise`. The math implementation of dense attention is not
among them: its weights are queries × keys."""


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) over the last dimension, without parameters; computed in float32, returned in x's dtype."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.eps = config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return (x * torch.rsqrt(norm.square() / x.shape[-1] + self.eps)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention whose output is gated per channel: W_o (σ(g) ⊙ attention(q, k, v))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = config.num_heads
        self.head_dim = config.head_dim
        width = config.num_heads * config.head_dim
        self.gqkv_proj = Linear(config.hidden_size, 4 * width)  # rows: gate, query, key, value
        self.o_proj = Linear(width, config.hidden_size)

    def forward(self, x: Tensor, rope: Rope, mask: Mask, cache: KeyValueCache | None = None) -> Tensor:
        rows, length, _ = x.shape
        gate, query, key, value = self.gqkv_proj(x).view(rows, length, 4, self.heads, self.head_dim).unbind(2)
        query, key = rope.rotate(query), rope.rotate(key)
        if cache is not None:
            assert isinstance(mask, DenseMask)
            key, value = cache.extend(key, value, rope.positions, mask.keys)
        attended = attend(query, key, value, mask)
        return self.o_proj((gate.sigmoid() * attended).reshape(rows, length, -1))


class SwiGLU(nn.Module):
    """W_down (silu(W_gate x) ⊙ W_up x)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_up_proj = Linear(config.hidden_size, 2 * config.intermediate_size)  # rows: gate, up
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """Attention, then SwiGLU, each added to the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.norm = RMSNorm(config)
        self.attn = Attention(config)
        self.mlp = SwiGLU(config)
        self.recompute: Recompute = "none"
        self._compiled: Callable[..., Tensor] | None = None
        self._compiled_keeping_products: Callable[..., Tensor] | None = None

    def compile_training(self, **options: Any) -> None:
        """Compile the training computation; evaluation and decoding, which have many shapes, are not compiled.

        Parameters
        ----------
        **options
            Further options of `torch.compile`.
        """
        options |= {"fullgraph": True, "dynamic": False}
        self._compiled = torch.compile(self._compute, **options)
        self._compiled_keeping_products = torch.compile(self._compute_keeping_products, **options)

    def forward(self, x: Tensor, rope: Rope, mask: Mask, cache: KeyValueCache | None = None) -> Tensor:
        if not self.training:
            return self._compute(x, rope, mask, cache)
        if self.recompute == "elementwise" and torch.is_grad_enabled():
            return (self._compiled_keeping_products or self._compute_keeping_products)(x, rope, mask)
        compute = self._compiled or self._compute
        if self.recompute == "blocks" and torch.is_grad_enabled():
            output: Tensor = checkpoint(compute, x, rope, mask, use_reentrant=False, preserve_rng_state=False)
            return output
        return compute(x, rope, mask, cache)

    def _compute(self, x: Tensor, rope: Rope, mask: Mask, cache: KeyValueCache | None = None) -> Tensor:
        x = x + self.attn(self.norm(x), rope, mask, cache)
        return x + self.mlp(self.norm(x))

    def _compute_keeping_products(self, x: Tensor, rope: Rope, mask: Mask) -> Tensor:
        """Compute the output so that the backward pass recomputes elementwise operations only."""
        contexts = functools.partial(create_selective_checkpoint_contexts, _policy)
        output: Tensor = checkpoint(
            self._compute,
            *(x, rope, mask),
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=contexts,
        )
        return output


def _policy(context: Any, operation: Any, *inputs: Any, **options: Any) -> CheckpointPolicy:
    """Whether to keep the output of an operation of a block."""
    name = operation.name() if callable(getattr(operation, "name", None)) else str(operation)
    if name.partition(".")[0] not in _KEPT_OPERATIONS:
        return CheckpointPolicy.PREFER_RECOMPUTE
    if name.endswith("mm"):
        fan_in, fan_out = inputs[1].shape
        if fan_in > fan_out:  # the down projection, whose output is added to the states: no backward pass needs it
            return CheckpointPolicy.PREFER_RECOMPUTE
    return CheckpointPolicy.MUST_SAVE


class Stack(nn.Module):
    """Blocks, and a norm on the residual stream after the last one (MagicNorm)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers_per_stack))
        self.norm = RMSNorm(config)

    def forward(self, x: Tensor, rope: Rope, mask: Mask, caches: list[KeyValueCache] | None = None) -> Tensor:
        for index, block in enumerate(self.layers):
            x = block(x, rope, mask, None if caches is None else caches[index])
        return self.norm(x)
