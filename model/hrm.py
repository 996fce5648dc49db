"""HRM-Text: two stacks applied in turn to two states, and a head on the last one.

    tokens ─ embedding · √d ─▶ z_H          z_L = z_L_init
    H_cycles times:  L_cycles times z_L ← L(z_L + z_H);  z_H ← H(z_H + z_L)
    z_H ─ head ─▶ logits

Only the last applications carry gradients (truncated backpropagation); earlier ones run without an autograd graph.
The order of applications is data (`model.architectures`): the baselines are this module with other schedules.
"""

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from model.architectures import carries_gradient
from model.attention import Kernel, Mask, dense_mask, mask_of
from model.batch import IGNORE, PackedBatch
from model.blocks import Stack
from model.cache import KeyValueCache
from model.config import ModelConfig
from model.linear import cast_weights
from model.loss import label_nll
from model.rope import Rope

_TRUNCATED_STD = math.sqrt(1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2)))
"""Standard deviation of a standard normal distribution truncated at ±3."""


class HRM(nn.Module):
    """The hierarchical recurrent model, or the baseline that `config.architecture` names.

    Weights are float32. Under `torch.autocast`, states and matrix products have its dtype; norms, rotary embedding and
    loss are always computed in float32.

    Parameters
    ----------
    config
        Hyperparameters.
    seed
        Seed of the initial weights; see `init_weights`.
    """

    z_L_init: Tensor  # noqa: N815 - the published name

    def __init__(self, config: ModelConfig, *, seed: int = 0):
        super().__init__()
        self.config = config
        self.attention: Kernel = "dense"  # for training; evaluation has too many shapes to compile a kernel for each
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        for name in config.stacks:
            self.add_module(name, Stack(config))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("z_L_init", torch.empty(config.hidden_size))
        if not self.z_L_init.is_meta:
            self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw all weights, on the CPU: the values depend only on `seed` and the version of torch.

        The distribution is normal, truncated at three standard deviations and rescaled, with standard deviation
        1/√fan_in for projections, 1/√d for embedding and head, and 1 for the initial z_L.
        """
        generator = torch.Generator("cpu").manual_seed(seed)
        for name, tensor in self.state_dict().items():
            std = 1.0 if name == "z_L_init" else 1 / math.sqrt(tensor.shape[-1])
            drawn = torch.empty(tensor.shape, dtype=torch.float32, device="cpu")
            nn.init.trunc_normal_(drawn, std=1.0, a=-3.0, b=3.0, generator=generator)
            tensor.copy_(drawn.mul_(std / _TRUNCATED_STD))

    def forward(self, batch: PackedBatch, *, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Compute the loss of a packed batch.

        Parameters
        ----------
        batch
            Packed samples, on the model's device.
        k
            Number of applications that carry gradients, see `model.architectures.carries_gradient`; None: the number
            after the ramp of training.

        Returns
        -------
        nll : Tensor
            float32 scalar: negative log-likelihood in nats, summed over the labelled positions.
        count : Tensor
            int64 scalar: number of labelled positions.
        """
        states, labels = self.labelled_states(batch, k=k)
        return label_nll(states, self.lm_head.weight, labels), torch.tensor(len(labels), device=labels.device)

    def labelled_logits(self, batch: PackedBatch, *, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Compute logits [N, V] and labels [N] of the N labelled positions, ordered by row and position."""
        states, labels = self.labelled_states(batch, k=k)
        return self.lm_head(states), labels

    def labelled_states(self, batch: PackedBatch, *, k: int | None = None) -> tuple[Tensor, Tensor]:
        """Compute final states [N, d] and labels [N] of the N labelled positions, ordered by row and position."""
        rows, length = batch.tokens.shape
        # Synchronizes with the GPU, so before the forward pass is queued.
        labelled = (batch.labels.flatten() != IGNORE).nonzero()[:, 0]
        row, begin, prefix, total = batch.segments.unbind(1)
        segments = torch.stack((row, begin, self.mutual_prefix(prefix), total), 1)
        kernel = self.attention if self.training else "dense"
        mask = mask_of(segments, rows=rows, length=length, dtype=self.state_dtype, kernel=kernel)
        carries = carries_gradient(self.config.schedule, self.config.depths[1] if k is None else k)
        if self.training:
            cast_weights(self, self.state_dtype)
        state = self.run(batch.tokens, batch.position_ids, mask, carries=carries)
        return state.flatten(0, 1).index_select(0, labelled), batch.labels.flatten()[labelled]

    def logits(self, tokens: Tensor, prefix_len: Tensor) -> Tensor:
        """Compute the logits of all positions of unpacked rows, without gradient truncation.

        Parameters
        ----------
        tokens
            int64 [B, T]; a shorter sample does not see the padding after it.
        prefix_len
            int [B]: length of the prefix, whose tokens see each other.

        Returns
        -------
        Tensor
            [B, T, V].
        """
        rows, length = tokens.shape
        position = torch.arange(length, device=tokens.device).expand(rows, length)
        end = torch.maximum(self.mutual_prefix(prefix_len)[:, None].to(tokens.device), position + 1)
        mask = dense_mask(torch.zeros_like(end), end, length, self.state_dtype)
        return self.lm_head(self.run(tokens, position, mask))

    def mutual_prefix(self, prefix_len: Tensor) -> Tensor:
        """Number of first positions that see each other: `prefix_len`, or 1 under the causal mask."""
        return prefix_len if self.config.mask == "prefix_lm" else torch.ones_like(prefix_len)

    @property
    def state_dtype(self) -> torch.dtype:
        """Dtype of the states: that of autocast if it is enabled, otherwise that of the weights."""
        weight = self.embed_tokens.weight
        if torch.is_autocast_enabled(weight.device.type):
            return torch.get_autocast_dtype(weight.device.type)
        return weight.dtype

    def run(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Mask,
        *,
        carries: Sequence[bool] | None = None,
        caches: Sequence[list[KeyValueCache]] | None = None,
    ) -> Tensor:
        """Run all applications and return the last state [R, T, d]; for the parameters see `states`."""
        for state in self.states(tokens, positions, mask, carries=carries, caches=caches):
            last = state
        return last

    def states(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Mask,
        *,
        carries: Sequence[bool] | None = None,
        caches: Sequence[list[KeyValueCache]] | None = None,
    ) -> Iterator[Tensor]:
        """Run all applications and yield the state that each writes.

        Parameters
        ----------
        tokens, positions
            int64 [R, T]: token ids, and positions within the samples.
        mask
            Visible keys of each position.
        carries
            Whether each application carries gradients; None: all do.
        caches
            For decoding: a list per application with a cache per block.

        Yields
        ------
        Tensor
            [R, T, d].
        """
        rope = Rope.at(positions, self.config.head_dim, self.config.rope_theta)
        state = {
            "z_H": (self.embed_tokens(tokens) * math.sqrt(self.config.hidden_size)).to(self.state_dtype),
            "z_L": self.z_L_init.to(self.state_dtype),
        }
        grad = torch.is_grad_enabled()
        for index, application in enumerate(self.config.schedule):
            stack = self.get_submodule(application.stack)
            with torch.set_grad_enabled(grad and (carries is None or carries[index])):
                total = reduce(torch.add, (state[name] for name in application.reads))
                output = stack(total, rope, mask, None if caches is None else caches[index])
            state[application.writes] = output
            yield output
