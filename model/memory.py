"""Memory of a training step, by arithmetic: what the forward pass keeps for the backward pass, tensor by tensor.

    config, K, tokens, execution ─ activation_memory ─▶ bytes by tensor at the end of the forward pass

Let d be the width of the states, w the width of all heads together, f the inner width of SwiGLU, and e the bytes of a
number (2 in bf16, 4 in fp32). A block that carries gradients keeps per token, for each of its applications:

    recompute                none, eager          none, compiled      elementwise     blocks
    input                    d                    d                   d               d
    input of gqkv_proj       d                    d                   –               –
    gate, query, key, value  4w                   4w                  4w              –
    rotated query, key       2w                   2w                  –               –
    attention                w                    w                   w               –
    factors of the gate      2w                   w                   –               –
    input of o_proj          w                    w                   –               –
    after attention          d                    d                   d               –
    input of gate_up_proj    d                    d                   –               –
    gate, up                 2f                   2f                  2f              –
    silu(gate)               f                    –                   –               –
    input of down_proj       f                    f                   –               –
    numbers of e bytes       4d + 10w + 4f        4d + 9w + 3f        2d + 5w + 2f    d

For L (d = w) in bf16 and compiled, this is 55 KB per token and block, 32 KB with `elementwise`. Without `recompute`,
the partitioner of torch.compile decides what is kept; these are the decisions of Inductor's.
Norms and attention keep some float32 numbers per token besides. `tests/model/test_memory.py` compares all of it with
the storages that are alive after a forward pass. Workspaces are estimates.
"""

from dataclasses import dataclass

from model.architectures import carries_gradient
from model.attention import Kernel
from model.blocks import Recompute
from model.config import ModelConfig
from model.loss import CHUNK_LOGITS


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationMemory:
    """Bytes that a forward and backward pass needs besides weights and gradients."""

    per_token: dict[str, float]
    """Bytes per token at the end of the forward pass, by tensor; the sum over all applications that keep it."""
    per_target: dict[str, float]
    """Bytes per labelled position at the end of the forward pass."""
    fixed: dict[str, float]
    """Bytes that do not depend on the number of tokens."""
    workspace_per_token: float
    """Bytes per token of the temporary tensors of one block in its backward pass; an estimate."""
    chunk_targets: int
    """Labelled positions whose logits the loss computes at once."""
    workspace_per_target: float
    """Bytes per labelled position of a chunk of the temporary tensors of the loss."""
    workspace_of_head: float
    """Bytes of the temporary copies of the head and of its gradient from one chunk."""

    def kept(self, tokens: int, targets: int) -> float:
        """Bytes at the end of the forward pass of this many positions and labelled positions."""
        per_token, per_target = sum(self.per_token.values()), sum(self.per_target.values())
        return per_token * tokens + per_target * targets + sum(self.fixed.values())

    def peak(self, tokens: int, targets: int) -> float:
        """Largest number of bytes during the pass: everything kept, and the larger one of the two workspaces."""
        loss = self.workspace_of_head + self.workspace_per_target * min(targets, self.chunk_targets)
        return self.kept(tokens, targets) + max(loss, self.workspace_per_token * tokens)


def activation_memory(
    config: ModelConfig,
    *,
    k: int,
    row_tokens: int,
    number_bytes: int,
    recompute: Recompute = "none",
    compiled: bool = False,
    kernel: Kernel = "dense",
    casts_weights: bool = False,
) -> ActivationMemory:
    """Compute the memory of the activations of one forward and backward pass.

    Parameters
    ----------
    config
        The model.
    k
        Number of applications that carry gradients.
    row_tokens
        Tokens of a row, on which the size of a dense mask depends.
    number_bytes
        Bytes of a number of the states: 2 in bf16, 4 in fp32.
    recompute, compiled, kernel
        As in `model.execution.Execution`.
    casts_weights
        Whether each rank casts its float32 weights to the dtype of the states; see `model.linear`.

    Returns
    -------
    ActivationMemory
        `fixed` includes the cast weights and the head's gradient, which the loss computes in the forward pass.

    Raises
    ------
    ValueError
        The model does not allow this k.
    """
    e = float(number_bytes)
    d, w, f = config.hidden_size, config.num_heads * config.head_dim, config.intermediate_size
    norms, lse = 8.0, 4.0 * config.num_heads  # norm and its inverse root; logarithm of the sum of attention weights
    keeps_all = {
        "block inputs": e * d,
        "inputs of gqkv_proj": e * d,
        "gate, query, key, value": 4 * e * w,
        "rotated query, key": 2 * e * w,
        "attention": e * w + lse,
        "factors of the gate": (1 if compiled else 2) * e * w,
        "inputs of o_proj": e * w,
        "states after attention": e * d,
        "inputs of gate_up_proj": e * d,
        "SwiGLU gate, up": 2 * e * f,
        "silu(gate)": 0.0 if compiled else e * f,
        "inputs of down_proj": e * f,
        "norms": 2 * norms,
    }
    keeps_products = {
        "block inputs": e * d,
        "gate, query, key, value": 4 * e * w,
        "attention": e * w + lse,
        "states after attention": e * d if w <= d else 0.0,
        "SwiGLU gate, up": 2 * e * f,
    }
    per_token: dict[str, float] = {}
    block_parameters = 5 * d * w + 3 * d * f
    for application, carries in zip(config.schedule, carries_gradient(config.schedule, k), strict=True):
        if not carries:
            continue
        if recompute == "elementwise":
            kept = keeps_products
        elif recompute == "blocks" and application.stack == "L_module":
            kept = {"block inputs": e * d}
        else:
            kept = keeps_all
        for name, size in kept.items():
            per_token[name] = per_token.get(name, 0.0) + config.layers_per_stack * size
        per_token["last norms of stacks"] = per_token.get("last norms of stacks", 0.0) + e * d + norms
    per_token["rotations"] = 8 * config.head_dim
    per_token["masks"] = _mask_bytes(kernel, row_tokens, e)
    per_token["batch"] = 3 * 8
    vocabulary = config.vocab_size * d
    fixed: dict[str, float] = {"gradient of the head": 4 * vocabulary}
    if casts_weights:
        fixed["cast weights"] = e * len(config.stacks) * config.layers_per_stack * block_parameters
    # In the backward pass of a block: gradients of its widest tensors, and what it recomputes.
    block = e * (4 * f + 2 * d) if compiled else e * (4 * f + 2 * d) + 4 * 2 * w
    if recompute != "none":
        block += sum(keeps_all.values()) - sum(keeps_products.values())
    return ActivationMemory(
        per_token={name: size for name, size in per_token.items() if size},
        per_target={"gradients of the states": e * d, "indices": 3 * 8},
        fixed=fixed,
        workspace_per_token=block,
        chunk_targets=max(1, CHUNK_LOGITS // config.vocab_size),
        # Logits and their softmax in float32, the gradient of the logits in e bytes.
        workspace_per_target=config.vocab_size * (8 + e),
        workspace_of_head=2 * e * vocabulary,
    )


def _mask_bytes(kernel: Kernel, row_tokens: int, number_bytes: float) -> float:
    """Bytes of an attention mask per token."""
    if kernel == "dense":
        return number_bytes * (row_tokens + 1)
    if kernel == "varlen":
        return 1 + number_bytes
    return 2 * 8 + number_bytes  # first and last visible key; lists of blocks are small
