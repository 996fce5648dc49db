"""The Hugging Face format `hrm_text` (transformers 5.9 and later), written and read.

    HRM ─ save ─▶ config.json, model.safetensors ─ load ─▶ HRM

Tensors have our names behind `model.`, the head's alone has it as it is; blocks are counted per stack.
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
from model.hrm import HRM

_FIXED: Mapping[str, Any] = {
    "attention_bias": False,
    "hidden_act": "silu",
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
"""Keys of a config.json that can have one value only in our model; transformers has the same for missing ones."""


class FormatError(ValueError):
    """A folder that is no hrm_text model, or a model that the format has no place for."""


def config_json(config: ModelConfig, *, max_positions: int, token_ids: Mapping[str, int]) -> dict[str, Any]:
    """Content of config.json.

    Parameters
    ----------
    config
        Of an HRM.
    max_positions
        Longest sample in tokens that the model was trained on.
    token_ids
        `bos_token_id`, `eos_token_id` and `pad_token_id`, those there are.

    Raises
    ------
    FormatError
        The model is one of HRM's rivals.
    """
    if config.architecture != "hrm":
        raise FormatError(
            f"the model's architecture is {config.architecture}; the format hrm_text knows HRM only, so it cannot be "
            f"exported"
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
        "L_bp_cycles": [0, 3],  # the last three of L, and all of H: K = 5
        "embedding_scale": math.sqrt(config.hidden_size),
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "max_position_embeddings": max_positions,
        "prefix_lm": config.mask == "prefix_lm",
        **_FIXED,
        **token_ids,
    }


def save(model: HRM, folder: Path, *, max_positions: int, token_ids: Mapping[str, int] | None = None) -> None:
    """Write a model's config.json and model.safetensors, in float32.

    Parameters
    ----------
    model
        The model.
    folder
        An existing folder.
    max_positions, token_ids
        As for `config_json`.

    Raises
    ------
    FormatError
        The model is one of HRM's rivals.
    """
    config = config_json(model.config, max_positions=max_positions, token_ids=token_ids or {})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tensors = {_their_name(name): tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copymode(folder / "config.json", folder / "model.safetensors")  # which safetensors writes for its owner only


def load(folder: str | Path) -> HRM:
    """Read a model that `save` or transformers has written.

    Parameters
    ----------
    folder
        Has config.json and model.safetensors, or model.safetensors.index.json and the files it names.

    Returns
    -------
    HRM
        On the CPU, in evaluation mode, with float32 weights whatever the stored precision.

    Raises
    ------
    FormatError
        The folder is no hrm_text model, describes one that ours cannot be, or its tensors are not those of the config.
    OSError
        A file cannot be read.
    """
    folder = Path(folder)
    found = _read_json(folder / "config.json")
    config = _our_config(found, folder)
    try:
        stored = {name: tensor for file in _tensor_files(folder) for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise FormatError(f"{folder}: a file of tensors is damaged ({error}); fetch it again") from None
    with torch.device("meta"):
        model = HRM(config)
    expected = {_their_name(name): (name, tensor.shape) for name, tensor in model.state_dict().items()}
    if differing := sorted(expected.keys() ^ stored.keys()):
        fault = "is missing" if differing[0] in expected else "has no place in the model of config.json"
        raise FormatError(f"{folder}: {differing[0]} {fault}; expected the {len(expected)} tensors of hrm_text")
    weights: dict[str, Tensor] = {}
    for theirs, (name, shape) in expected.items():
        tensor = stored[theirs]
        if tensor.shape != shape:
            raise FormatError(
                f"{folder}: {theirs} has shape {list(tensor.shape)}; config.json asks for {list(shape)}: are the two "
                f"of one model?"
            )
        weights[name] = tensor.float()
    # Our scale follows from the width; another one is the same as another embedding.
    scale = float(found.get("embedding_scale", math.sqrt(config.hidden_size))) / math.sqrt(config.hidden_size)
    if not math.isclose(scale, 1, rel_tol=1e-6):
        weights["embed_tokens.weight"] = weights["embed_tokens.weight"] * scale
    model.load_state_dict(weights, assign=True)
    model.requires_grad_()
    return model.eval()


def _their_name(name: str) -> str:
    return name if name.startswith("lm_head.") else f"model.{name}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{path} is missing; expected the folder of an hrm_text model") from None
    except ValueError as error:
        raise FormatError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path} holds {type(content).__name__}; expected an object")
    return content


def _our_config(found: Mapping[str, Any], folder: Path) -> ModelConfig:
    where = folder / "config.json"
    if found.get("model_type") != "hrm_text":
        raise FormatError(f"{where}: model_type is {found.get('model_type')!r}; expected 'hrm_text'")
    for key, value in _FIXED.items():
        if found.get(key, value) != value:
            raise FormatError(f"{where}: {key} is {found[key]!r}; this model is defined for {value!r} only")
    # Before transformers 5, these keys stood by themselves.
    alone = {key: found[key] for key in ("rope_theta", "partial_rotary_factor") if key in found}
    rope = {"rope_type": "default", "partial_rotary_factor": 1.0, **alone, **(found.get("rope_parameters") or {})}
    theta = rope.pop("rope_theta", 10_000.0)
    if rope != {"rope_type": "default", "partial_rotary_factor": 1.0}:
        raise FormatError(f"{where}: rope_parameters has {rope}; this model is defined for a rope_theta alone")
    try:
        # What transformers has written carries stack applications × blocks as num_hidden_layers.
        per_stack = found.get("num_layers_per_stack") or found["num_hidden_layers"]
        return ModelConfig(
            vocab_size=found["vocab_size"],
            num_layers=2 * per_stack,
            hidden_size=found["hidden_size"],
            num_heads=found["num_attention_heads"],
            head_dim=found["head_dim"],
            intermediate_size=found["intermediate_size"],
            H_cycles=found.get("H_cycles", 2),
            L_cycles=found.get("L_cycles", 3),
            rope_theta=theta,
            norm_eps=found.get("rms_norm_eps", 1e-6),
            mask="prefix_lm" if found.get("prefix_lm", True) else "causal",
        )
    except KeyError as error:
        raise FormatError(f"{where} has no {error}") from None
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from None


def _tensor_files(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists():
        return [whole]
    if not index.exists():
        raise FormatError(f"{folder} has no model.safetensors and no model.safetensors.index.json")
    names = sorted({str(name) for name in (_read_json(index).get("weight_map") or {}).values()})
    for name in names:
        if Path(name).name != name:
            raise FormatError(f"{index} names {name!r}, a file outside of the folder; do not use it")
        if not (folder / name).exists():
            raise FormatError(f"{index} names {name}, which is missing; fetch it again")
    return [folder / name for name in names]
