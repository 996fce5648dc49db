"""What identifies a model that was scored: its weights, tokenizer, and the way it generates."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Tokenizer

from corpus.contract import SPECIAL_TOKENS, without_special_tokens
from model.hrm import HRM
from model.loading import weights_hash


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
