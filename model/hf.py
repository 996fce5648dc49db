"""Read and write the Hugging Face format `hrm_text` (transformers 5.9 and later).

    HRM ─ save ─▶ config.json, model.safetensors ─ load ─▶ HRM

Tensor names are those of `HRM` with the prefix `model.`, except for the head's, which has no prefix. The config counts
blocks per stack.
"""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.config import ModelConfig
from model.fields import FieldError, Fields, read_fields, shown
from model.hrm import HRM

_FIXED: Mapping[str, Any] = {
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
"""Keys of a config.json for which `HRM` supports one value; transformers assumes the same value for a missing key."""

_ROPE: Mapping[str, Any] = {"rope_type": "default", "partial_rotary_factor": 1.0}
"""The same for rope_parameters."""


class FormatError(ValueError):
    """A folder does not hold an hrm_text model, or a model cannot be described by the format."""


def config_json(
    config: ModelConfig,
    *,
    max_positions: int,
    token_ids: Mapping[str, int],
    remote_code: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of config.json.

    Parameters
    ----------
    config
        Configuration of an HRM.
    max_positions
        Tokens of the longest sample that the model was trained on.
    token_ids
        `bos_token_id`, `eos_token_id`, `pad_token_id` and `end_of_prefix_token_id`, as far as they are known.
    remote_code
        Keys by which transformers finds code in the folder, if the code is trusted: `auto_map`, `custom_pipelines`.

    Raises
    ------
    FormatError
        The model is a baseline.
    """
    if config.architecture != "hrm":
        raise FormatError(
            f"the model's architecture is {config.architecture}; expected hrm, the only one that the format hrm_text "
            f"describes"
        )
    return {
        "architectures": ["HrmTextForCausalLM"],
        "model_type": "hrm_text",
        "dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers_per_stack,
        "num_attention_heads": config.num_heads,
        "head_dim": config.head_dim,
        "H_cycles": config.H_cycles,
        "L_cycles": config.L_cycles,
        "L_bp_cycles": [0, 3],  # gradients through the last three of L and all of H: K = 5
        "embedding_scale": math.sqrt(config.hidden_size),
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "max_position_embeddings": max_positions,
        "prefix_lm": config.mask == "prefix_lm",
        **_FIXED,
        **token_ids,
        **(remote_code or {}),
    }


def save(
    model: HRM,
    folder: Path,
    *,
    max_positions: int,
    token_ids: Mapping[str, int] | None = None,
    remote_code: Mapping[str, Any] | None = None,
) -> None:
    """Write a model's config.json and model.safetensors, in float32.

    Parameters
    ----------
    model
        The model.
    folder
        An existing folder.
    max_positions, token_ids, remote_code
        As for `config_json`.

    Raises
    ------
    FormatError
        The model is a baseline.
    """
    config = config_json(model.config, max_positions=max_positions, token_ids=token_ids or {}, remote_code=remote_code)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {_stored_name(name): tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # safetensors lets only the owner read it


def load(folder: str | Path) -> HRM:
    """Load a model that `save` or transformers wrote.

    Parameters
    ----------
    folder
        Has config.json and model.safetensors, or model.safetensors.index.json and the files it names.

    Returns
    -------
    HRM
        On the CPU, in evaluation mode, with float32 weights regardless of the stored precision.

    Raises
    ------
    FormatError
        The folder does not hold an hrm_text model, its config has values that `HRM` does not support, or its tensors
        are not those of the config.
    OSError
        A file cannot be read.
    """
    folder = Path(folder)
    found = _read(folder / "config.json")
    try:
        config = _model_config(found)
        scale = _embedding_scale(found, config)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{folder / 'config.json'}: {error}") from None
    try:
        stored = {name: tensor for file in _tensor_files(folder) for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise FormatError(f"{folder}: a file of tensors is damaged ({error}); copy it again") from None
    with torch.device("meta"):
        model = HRM(config)
    for name, tensor in stored.items():
        if not tensor.is_floating_point():
            raise FormatError(f"{folder}: {shown(name)} has the type {tensor.dtype}, expected one of real numbers")
    expected = {_stored_name(name): (name, tensor.shape) for name, tensor in model.state_dict().items()}
    if differing := sorted(expected.keys() ^ stored.keys()):
        fault = "is missing" if differing[0] in expected else "is not in the model of config.json"
        raise FormatError(f"{folder}: {shown(differing[0])} {fault}; expected the {len(expected)} tensors of hrm_text")
    weights: dict[str, Tensor] = {}
    for theirs, (name, shape) in expected.items():
        tensor = stored[theirs]
        if tensor.shape != shape:
            raise FormatError(
                f"{folder}: {theirs} has shape {list(tensor.shape)}, expected {list(shape)} by config.json; copy both "
                f"files from the same model"
            )
        weights[name] = tensor.float()
    if not math.isclose(scale, 1, rel_tol=1e-6):
        weights["embed_tokens.weight"] = weights["embed_tokens.weight"] * scale
    model.load_state_dict(weights, assign=True)
    model.requires_grad_()
    return model.eval()


def _stored_name(name: str) -> str:
    return name if name.startswith("lm_head.") else f"model.{name}"


def _read(path: Path) -> Fields:
    try:
        return read_fields(path)
    except FileNotFoundError:
        raise FormatError(f"{path} is missing; expected a folder with an hrm_text model") from None
    except FieldError as error:
        raise FormatError(f"{path}: {error}") from None


def _model_config(found: Fields) -> ModelConfig:
    content = found.content
    if content.get("model_type") != "hrm_text":
        raise FieldError(f"model_type is {shown(content.get('model_type'))}; expected 'hrm_text'")
    for key, value in _FIXED.items():
        if content.get(key, value) != value:
            raise FieldError(f"{key} is {shown(content[key])}; expected {value!r}, the only value that HRM supports")
    # Before transformers 5, these keys were not inside rope_parameters.
    top_level = {key: content[key] for key in ("rope_theta", "partial_rotary_factor") if key in found}
    given = found.fields("rope_parameters").content if "rope_parameters" in found else {}
    rope = {**_ROPE, "rope_theta": 10_000.0, **top_level, **given}
    theta = Fields(rope, "rope_parameters").number("rope_theta")
    if {key: value for key, value in rope.items() if key != "rope_theta"} != _ROPE:
        raise FieldError(
            f"rope_parameters has {shown(rope)}, expected rope_theta only; HRM supports no other rotations"
        )

    def count(name: str, default: int | None = None) -> int:
        return default if default is not None and name not in found else found.count(name, at_least=1)

    # transformers writes stack applications × blocks as num_hidden_layers.
    blocks = "num_layers_per_stack" if "num_layers_per_stack" in found else "num_hidden_layers"
    is_prefix_lm = content.get("prefix_lm", True)
    if not isinstance(is_prefix_lm, bool):
        raise FieldError(f"prefix_lm is {shown(is_prefix_lm)}, expected true or false")
    return ModelConfig(
        vocab_size=count("vocab_size"),
        num_layers=2 * count(blocks),
        hidden_size=count("hidden_size"),
        num_heads=count("num_attention_heads"),
        head_dim=count("head_dim"),
        intermediate_size=count("intermediate_size"),
        H_cycles=count("H_cycles", 2),
        L_cycles=count("L_cycles", 3),
        rope_theta=theta,
        norm_eps=found.number("rms_norm_eps") if "rms_norm_eps" in found else 1e-6,
        mask="prefix_lm" if is_prefix_lm else "causal",
    )


def _embedding_scale(found: Fields, config: ModelConfig) -> float:
    """Return the factor of the embedding, relative to HRM's, which is the root of the width."""
    scale = found.number("embedding_scale") if "embedding_scale" in found else math.sqrt(config.hidden_size)
    if not 0 < scale < math.inf:
        raise FieldError(f"embedding_scale is {scale}, expected a number above 0")
    return scale / math.sqrt(config.hidden_size)


def _tensor_files(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists():
        return [whole]
    if not index.exists():
        raise FormatError(f"{folder} has no model.safetensors and no model.safetensors.index.json")
    try:
        files = _read(index).fields("weight_map")
        names = sorted({files.text(tensor) for tensor in files})
    except FieldError as error:
        raise FormatError(f"{index}: {error}") from None
    for name in names:
        if Path(name).name != name:
            raise FormatError(f"{index} names {name!r}, a file outside of the folder; do not use this model")
        if not (folder / name).exists():
            raise FormatError(f"{index} names {name}, which is missing; copy it again")
    return [folder / name for name in names]
