"""HRM-Text: two stacks applied in turn to two states, and a head on the last one.

    tokens ─ embedding · √d ─▶ z_H          z_L = z_L_init
    H_cycles times:  L_cycles times z_L ← L(z_L + z_H);  z_H ← H(z_H + z_L)
    z_H ─ head ─▶ logits

Only the last applications carry gradients (truncated backpropagation); the earlier ones run without a graph.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import DenseMask, dense_mask, key_intervals
from model.batch import IGNORE, PackedBatch
from model.blocks import Stack
from model.cache import KeyValueCache
from model.config import ModelConfig
from model.rope import Rope

_TRUNCATED_STD = math.sqrt(1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2)))
"""Standard deviation of a standard normal cut at ±3."""


def carries_gradient(config: ModelConfig, k: int) -> tuple[bool, ...]:
    """Which applications carry gradients, in the order they run (L … L H, H_cycles times).

    Of k applications min(H_cycles, k - 1) are the last ones of H, the rest the last ones of L.

    Raises
    ------
    ValueError
        k is below 2 (the last H would have nothing to learn from) or asks for more applications than there are.
    """
    from_h = min(config.H_cycles, k - 1)
    from_l = k - from_h
    all_l = config.H_cycles * config.L_cycles
    if k < 2 or from_l > all_l:
        raise ValueError(f"k is {k}; expected a whole number from 2 to {config.applications}, the model's applications")
    carries = []
    for cycle in range(config.H_cycles):
        for step in range(config.L_cycles):
            carries.append(cycle * config.L_cycles + step >= all_l - from_l)
        carries.append(cycle >= config.H_cycles - from_h)
    return tuple(carries)


class HRM(nn.Module):
    """The hierarchical recurrent model.

    Weights are float32 masters. Under `torch.autocast` the states and the matrix products are in its dtype; norms,
    rotary embedding and loss are in float32 always.

    Parameters
    ----------
    config
        Shape of the model.
    seed
        Of the initial weights; see `init_weights`.
    """

    z_L_init: Tensor  # noqa: N815 - the published name

    def __init__(self, config: ModelConfig, *, seed: int = 0):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.L_module = Stack(config)
        self.H_module = Stack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("z_L_init", torch.empty(config.hidden_size))
        if not self.z_L_init.is_meta:
            self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw all weights anew; the values depend on `seed` and torch's version only, not on the device.

        Normal cut at three standard deviations and rescaled, so that the standard deviation is 1/√fan_in for the
        projections, 1/√d for embedding and head, 1 for the initial z_L.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in self.state_dict().items():
            std = 1.0 if name == "z_L_init" else 1 / math.sqrt(tensor.shape[-1])
            drawn = torch.empty(tensor.shape, dtype=torch.float32)
            nn.init.trunc_normal_(drawn, std=1.0, a=-3.0, b=3.0, generator=generator)
            tensor.copy_(drawn.mul_(std / _TRUNCATED_STD))

    def forward(self, batch: PackedBatch, *, k: int = 5) -> tuple[Tensor, Tensor]:
        """Loss of a packed batch.

        Parameters
        ----------
        batch
            Packed samples, on the model's device.
        k
            How many of the last applications carry gradients; see `carries_gradient`.

        Returns
        -------
        nll : Tensor
            float32 scalar: negative log-likelihood in nats, summed over the labelled positions; 0 without any.
        count : Tensor
            int64 scalar: number of labelled positions.
        """
        logits, labels = self.labelled_logits(batch, k=k)
        return F.cross_entropy(logits.float(), labels, reduction="sum"), torch.tensor(len(labels), device=labels.device)

    def labelled_logits(self, batch: PackedBatch, *, k: int = 5) -> tuple[Tensor, Tensor]:
        """Logits [N, V] of the N labelled positions, and their labels [N], in the order of rows and positions."""
        rows, length = batch.tokens.shape
        begin, end = key_intervals(batch.segments, rows, length)
        mask = dense_mask(begin, end, length, self.state_dtype)
        z_H = self.run(batch.tokens, batch.position_ids, mask, carries=carries_gradient(self.config, k))
        labelled = batch.labels != IGNORE
        return self.lm_head(z_H[labelled]), batch.labels[labelled]

    def logits(self, tokens: Tensor, prefix_len: Tensor) -> Tensor:
        """Logits of every position of unpacked rows, without gradient truncation.

        Parameters
        ----------
        tokens
            int64 [B, T]; what follows a shorter sample in its row is seen by none of its positions.
        prefix_len
            int [B]: tokens of the prefix, which see each other.

        Returns
        -------
        Tensor
            [B, T, V].
        """
        rows, length = tokens.shape
        position = torch.arange(length, device=tokens.device).expand(rows, length)
        end = torch.maximum(prefix_len[:, None].to(tokens.device), position + 1)
        mask = dense_mask(torch.zeros_like(end), end, length, self.state_dtype)
        return self.lm_head(self.run(tokens, position, mask))

    @property
    def state_dtype(self) -> torch.dtype:
        """dtype of the states: autocast's where it is on, the weights' otherwise."""
        weight = self.embed_tokens.weight
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype

    def run(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: DenseMask,
        *,
        carries: Sequence[bool] | None = None,
        caches: Sequence[list[KeyValueCache]] | None = None,
    ) -> Tensor:
        """All applications: the last z_H.

        Parameters
        ----------
        tokens, positions
            int64 [R, T]: token ids, and positions inside the sample.
        mask
            What each position sees.
        carries
            Whether each application carries gradients, in the order they run; None: all.
        caches
            For decoding: one list per application, with one cache per block.

        Returns
        -------
        Tensor
            [R, T, d].
        """
        rope = Rope.at(positions, self.config.head_dim, self.config.rope_theta)
        z_H = (self.embed_tokens(tokens) * math.sqrt(self.config.hidden_size)).to(self.state_dtype)
        z_L = self.z_L_init.to(self.state_dtype)
        grad = torch.is_grad_enabled()
        step = 0

        def apply(stack: Stack, state: Tensor, other: Tensor) -> Tensor:
            nonlocal step
            with torch.set_grad_enabled(grad and (carries is None or carries[step])):
                state = stack(state + other, rope, mask, None if caches is None else caches[step])
            step += 1
            return state

        for _ in range(self.config.H_cycles):
            for _ in range(self.config.L_cycles):
                z_L = apply(self.L_module, z_L, z_H)
            z_H = apply(self.H_module, z_H, z_L)
        return z_H
