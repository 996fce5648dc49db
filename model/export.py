"""Export a checkpoint as a folder that transformers loads.

    checkpoint ─ averaged weights ────────▶ config.json, model.safetensors       (model.hf)
               ─ tokenizer.json ──────────▶ tokenizer.json, tokenizer_config.json
               ─ template of config.json ─▶ chat_template.jinja, generation_config.json

The exported tokenizer gives all tokens of a text `token_type_ids` 1, by which transformers knows the prefix, and its
chat template writes a prompt the way the model was trained on:

    <|im_start|> condition tags… instruction <|im_end|>

    tokenizer.apply_chat_template([{"role": "user", "content": "2 + 2?"}], condition=["direct"], return_dict=True, …)
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.command import run

if TYPE_CHECKING:
    from model.loading import LoadedModel

EXAMPLE = """example:
  python -m model.export out/train out/hf
  python -m model.export out/train/checkpoints/step-00002500 out/hf-last --weights last

exit codes: 0 written, 1 the checkpoint cannot be exported, 2 usage"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a prompt is written as tokens, from the config.json of a checkpoint."""

    start: str
    """First tag of a prefix."""
    end_of_prefix: str
    end_of_response: str
    pad: str
    conditions: Sequence[tuple[str, str]]
    """Condition and its tag, in the order in which a prefix has them after `start`."""

    def chat_template(self) -> str:
        """Return a jinja chat template; its variable `condition` is a list of condition names."""
        tags = ", ".join(f"{json.dumps(name)}: {json.dumps(tag)}" for name, tag in self.conditions)
        return (
            f"{{%- set tags = {{{tags}}} -%}}\n"
            "{%- if messages | length != 1 or messages[0]['role'] != 'user' -%}\n"
            "{{- raise_exception('this model answers one user message, without system prompt or turns') -}}\n"
            "{%- endif -%}\n"
            "{%- set condition = condition | default([]) -%}\n"
            "{%- for name in condition if name not in tags -%}\n"
            "{{- raise_exception('unknown condition ' ~ name ~ ': expected some of ' ~ tags | join(', ')) -}}\n"
            "{%- endfor -%}\n"
            f"{{{{- {json.dumps(self.start)} -}}}}\n"
            "{%- for name, tag in tags.items() if name in condition -%}{{- tag -}}{%- endfor -%}\n"
            "{{- messages[0]['content'] -}}\n"
            f"{{{{- {json.dumps(self.end_of_prefix)} -}}}}\n"
        )


def export(loaded: "LoadedModel", folder: Path, *, template: Template, max_positions: int) -> None:
    """Write a trained model as a folder that transformers loads.

    Parameters
    ----------
    loaded
        The model of a checkpoint.
    folder
        Created; appears when it is complete.
    template
        How prompts are written.
    max_positions
        Tokens of the longest sample that the model was trained on.

    Raises
    ------
    model.hf.FormatError
        The model is a baseline, which the format hrm_text cannot describe.
    FileExistsError
        `folder` exists.
    """
    from model import hf

    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder, or remove it")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokens = {"bos": template.start, "eos": template.end_of_response, "pad": template.pad}
    ids = {f"{name}_token_id": loaded.special[token] for name, token in tokens.items()}
    files: dict[str, Mapping[str, Any]] = {
        "generation_config.json": {"do_sample": False, **ids},
        "tokenizer.json": _with_type_ids(json.loads(loaded.tokenizer_json)),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{name}_token": token for name, token in tokens.items()},
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_positions,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "padding_side": "left",
        },
    }
    try:
        hf.save(loaded.model, partial, max_positions=max_positions, token_ids=ids)
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (partial / "chat_template.jinja").write_text(template.chat_template(), encoding="utf-8")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _with_type_ids(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that gives all tokens of a text the type id 1."""
    first, second = ({"Sequence": {"id": name, "type_id": 1}} for name in "AB")
    template = {"type": "TemplateProcessing", "single": [first], "pair": [first, second], "special_tokens": {}}
    return {**tokenizer, "post_processor": template}


class Weights(StrEnum):
    """Which weights of a checkpoint."""

    AVERAGED = "averaged"
    LAST = "last"


def _export(
    checkpoint: Annotated[
        Path, typer.Argument(help="a checkpoint's folder, or a run's folder, of which the newest is exported")
    ],
    folder: Annotated[Path, typer.Argument(help="folder to create")],
    weights: Annotated[
        Weights, typer.Option(help="the exponential moving average, or the weights of the last step")
    ] = Weights.AVERAGED,
) -> None:
    """Write a checkpoint as a folder that transformers (5.9 or later) loads by from_pretrained."""
    if folder.exists():
        raise typer.BadParameter(f"{folder} exists; name a new folder, or remove it")
    from model import hf
    from model.loading import CheckpointError, find_checkpoint, load_checkpoint

    try:
        found = find_checkpoint(checkpoint)
        config = json.loads((found / "config.json").read_text(encoding="utf-8"))
        loaded = load_checkpoint(found, ema=weights is Weights.AVERAGED)
        export(loaded, folder, template=Template(**config["template"]), max_positions=config["max_positions"])
    except (CheckpointError, hf.FormatError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(f"{folder}: the {weights} weights of {found.name}")


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Run the command and return its exit code."""
    return run(_export, arguments, program=program or "python -m model.export", epilog=EXAMPLE)


if __name__ == "__main__":
    sys.exit(main())
