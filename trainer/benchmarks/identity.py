"""What identifies a model that was scored: its weights, tokenizer, and the way it generates."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import xxhash
from tokenizers import Tokenizer

from corpus.contract import SPECIAL_TOKENS, without_special_tokens
from model.hrm import HRM


def weights_hash(model: HRM) -> str:
    """XXH3-128 of all tensors with their names and shapes, in hex; equal for equal weights of any origin."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def model_identity(
    model: HRM, tokenizer: Tokenizer, special: Mapping[str, int], *, precision: str, device: torch.device, batch: int
) -> dict[str, Any]:
    """Return everything about a model and its generation that decides answers, as JSON."""
    tags = [special[tag] for tag in SPECIAL_TOKENS if tag in special]
    vocabulary = f"{without_special_tokens(tokenizer.to_str())} {tags}".encode()
    return {
        "architecture": model.config.architecture,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_xxh3_128": weights_hash(model),
        "tokenizer_sha256": hashlib.sha256(vocabulary).hexdigest(),
        "decoding": "greedy",
        "precision": precision,
        "device": device.type,
        "batch": batch,
    }
