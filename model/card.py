"""README.md of an exported model: what it is, how it is asked, and what it was trained on."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from model.config import ModelConfig

LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
"""Names of licences, as the card's header has them."""

_CARD = """\
---
license: {license}
library_name: transformers
pipeline_tag: text-generation
tags: [hrm_text, prefix-lm]
---

# {name}

A hierarchical recurrent language model (HRM-Text, [arXiv 2605.20613](https://arxiv.org/abs/2605.20613)), trained with
Millrace. It answers an instruction; it does not continue text.

## Ask it

```python
from transformers import pipeline

ask = pipeline("text-generation", model="{name}", trust_remote_code=True)
chat = [{{"role": "user", "content": "What is 12 + 30?"}}]
print(ask(chat, max_new_tokens=64, return_full_text=False)[0]["generated_text"])
```

**`trust_remote_code=True` matters** (transformers 5.9 or later). The tokens of a prompt see each other. The class of
transformers needs `token_type_ids` to know which these are; `pipeline()` and lm-eval do not pass them, and then get
worse answers without a warning. `modeling_prefix_lm.py` in this folder finds the prompt by its end tag instead.
Without that code, pass the tokenizer's whole output: `model.generate(**tokenizer.apply_chat_template(chat,
return_dict=True, return_tensors="pt"), max_new_tokens=64)`, or `is_causal=False` to `ask` or `generate`, where a whole
prompt is the prefix; never to a pass that scores or trains on answers, which would then see what follows.

```sh
lm_eval --model hf --model_args pretrained={name},trust_remote_code=True --apply_chat_template --tasks TASK
```

Without `--apply_chat_template` lm-eval scores the options of a question wrongly: the tokenizer ends each text as a
prompt.

## Prompt

    {start} condition tags … instruction {end_of_prefix} response {end_of_response}

The chat template writes it, and so does the tokenizer for a plain text. Conditions name the style of the answer:
`apply_chat_template(…, condition=["synth", "cot"])`, or `ask(…, tokenizer_encode_kwargs={{"condition": […]}})`; their
tags stand in the order {tags}. {default}
A conversation becomes one instruction: system texts at the beginning as they are; then, if a user's turn is the only
other one, its bare text, else every turn with its role (`User: …`), separated by blank lines.

## Training

| | |
|---|---|
{facts}
"""


def card(
    name: str,
    *,
    license: str,
    weights: str,
    config: Mapping[str, Any],
    model: ModelConfig,
    step: int,
    manifest: Mapping[str, Any],
    condition: Sequence[str] = (),
) -> str:
    """Return the content of README.md.

    Parameters
    ----------
    name
        Name of the model.
    license
        Identifier of its licence, for the header.
    weights
        Which weights they are: averaged or last.
    config, manifest
        Content of the checkpoint's config.json and manifest.json; of the latter, missing keys are left out.
    model
        The model's configuration.
    step
        Optimizer steps of training.
    condition
        Conditions of a prompt that does not name its own.
    """
    run, plan = manifest.get("manifest") or {}, manifest.get("plan") or {}
    batch_tokens = plan.get("batch_tokens")
    start = run.get("init")
    facts = {
        "parameters": f"{model.parameters:,} ({model.core_parameters:,} not in embedding and head)",
        "steps": f"{step:,}",
        "tokens a step": None if batch_tokens is None else f"{batch_tokens:,}",
        "context": f"{config['max_positions']:,} tokens",
        "weights": "exponential moving average" if weights == "averaged" else "of the last step",
        "started from": None if not start else f"`{PurePosixPath(str(start).rstrip('/')).name}`",
        "dataset (fingerprint)": None if "fingerprint" not in plan else f"`{plan['fingerprint']}`",
        "learning rate": (run.get("optimizer") or {}).get("lr"),
    }
    template = config["template"]
    return _CARD.format(
        name=name,
        license=license,
        start=template["start"],
        end_of_prefix=template["end_of_prefix"],
        end_of_response=template["end_of_response"],
        tags=", ".join(f"`{tag}` ({condition})" for condition, tag in template["conditions"]),
        default=f"Without `condition` a prompt has {' and '.join(condition)}." if condition else "",
        facts="\n".join(f"| {key} | {value} |" for key, value in facts.items() if value is not None),
    )
