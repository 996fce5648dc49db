"""`python -m model.export CKPT DIR`: a checkpoint as a folder that transformers loads.

    checkpoint ─ averaged weights ─▶ config.json, model.safetensors       (model.hf)
               ─ tokenizer ────────▶ tokenizer.json, tokenizer_config.json, chat_template.jinja
               ─ special tokens ───▶ generation_config.json

The exported tokenizer marks all tokens of a text with `token_type_ids` 1, by which transformers knows the prefix, and
its chat template writes a question the way the model was trained on:

    <|im_start|> conditions… instruction <|im_end|>

    tokenizer.apply_chat_template([{"role": "user", "content": "2 + 2?"}], condition=["direct"], return_dict=True, …)
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model import hf
from model.loading import CheckpointError, LoadedModel, find_checkpoint, load_checkpoint

BEGIN, END_OF_PREFIX, END_OF_RESPONSE, PAD = "<|im_start|>", "<|im_end|>", "<|box_end|>", "<|endoftext|>"

CHAT_TEMPLATE = """\
{%- set tags = {'direct': '<|object_ref_start|>', 'cot': '<|object_ref_end|>', 'synth': '<|quad_end|>', \
'noisy': '<|quad_start|>'} -%}
{%- if messages | length != 1 or messages[0]['role'] != 'user' -%}
{{- raise_exception('this model answers one user message; it knows neither a system prompt nor turns') -}}
{%- endif -%}
{%- set condition = condition | default([]) -%}
{%- for name in condition if name not in tags -%}
{{- raise_exception('unknown condition ' ~ name ~ ': expected some of direct, cot, synth, noisy') -}}
{%- endfor -%}
{{- '<|im_start|>' -}}
{%- for name, tag in tags.items() if name in condition -%}{{- tag -}}{%- endfor -%}
{{- messages[0]['content'] -}}
{{- '<|im_end|>' -}}
"""
"""HRM-Text's prompt format in jinja; `condition` is a list of names."""

EXAMPLE = """example:
  python -m model.export out/train out/hf
  python -m model.export out/train/checkpoints/step-00002500 out/hf-last --weights last

exit codes: 0 written, 1 the checkpoint cannot be exported, 2 usage"""


def export(trained: LoadedModel, folder: Path, *, max_positions: int) -> None:
    """Write a trained model as a folder that transformers loads.

    Parameters
    ----------
    trained
        Out of a checkpoint.
    folder
        Made; appears when it is whole.
    max_positions
        Longest sample in tokens that the model was trained on.

    Raises
    ------
    model.hf.FormatError
        The model is one of HRM's rivals.
    FileExistsError
        There is something at `folder`.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder, or remove it")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        ids = {
            key: trained.special[token]
            for key, token in (("bos_token_id", BEGIN), ("eos_token_id", END_OF_RESPONSE), ("pad_token_id", PAD))
        }
        hf.save(trained.model, partial, max_positions=max_positions, token_ids=ids)
        files: dict[str, Mapping[str, Any]] = {
            "generation_config.json": {"do_sample": False, **ids},
            "tokenizer.json": _marking_the_prefix(json.loads(trained.tokenizer_json)),
            "tokenizer_config.json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": BEGIN,
                "eos_token": END_OF_RESPONSE,
                "pad_token": PAD,
                "clean_up_tokenization_spaces": False,
                "model_max_length": max_positions,
                "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
                "padding_side": "left",
            },
        }
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (partial / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _marking_the_prefix(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer.json, such that all tokens of a text have type 1."""
    first, second = ({"Sequence": {"id": name, "type_id": 1}} for name in "AB")
    template = {"type": "TemplateProcessing", "single": [first], "pair": [first, second], "special_tokens": {}}
    return {**tokenizer, "post_processor": template}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m model.export",
        description="Write a checkpoint as a folder that transformers (5.9 or later) loads by from_pretrained.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="a checkpoint's folder, or a run's folder: its newest checkpoint")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument(
        "--weights",
        choices=["averaged", "last"],
        default="averaged",
        help="the exponential moving average (default), or the weights of the last step",
    )
    options = parser.parse_args(arguments)
    if options.folder.exists():
        parser.error(f"{options.folder} exists; name a new folder, or remove it")
    try:
        checkpoint = find_checkpoint(options.checkpoint)
        row_tokens = json.loads((checkpoint / "manifest.json").read_text())["plan"]["row_tokens"]
        export(load_checkpoint(checkpoint, ema=options.weights == "averaged"), options.folder, max_positions=row_tokens)
    except (CheckpointError, hf.FormatError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.folder}: the {options.weights} weights of {checkpoint.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
