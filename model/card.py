"""README.md of an exported model: what it is, how it is asked, and what it was trained on."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
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
transformers needs `token_type_ids` to know which these are, and `pipeline()` and lm-eval do not pass them.
`modeling_prefix_lm.py` in this folder finds the prompt by its end tag instead. If its code is not trusted, `pipeline()`
stops with an error. Without that code, pass the tokenizer's whole output:
`model.generate(**tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt"), max_new_tokens=64)`, or
`is_causal=False` to `generate`, where a whole prompt is the prefix; never to a pass that scores or trains on answers,
which would then see what follows.

## Score it with lm-eval

```sh
lm_eval --model hf --model_args pretrained={name},trust_remote_code=True --apply_chat_template --tasks TASK
python -m model.lm_eval --model millrace --model_args pretrained={name} --tasks TASK    # with Millrace's code
```

**Without `trust_remote_code=True` lm-eval's `hf` masks the prompt causally and prints wrong scores without a warning.**
Without `--apply_chat_template` it scores the options of a question wrongly: the tokenizer ends each text as a prompt.
The model `millrace` needs neither.

## Serve it

vLLM (since its pull request 43098) and SGLang (since 27887) have a class for `hrm_text`. By their source both let all
tokens of a request's prompt see each other, without marks, and SGLang turns off what contradicts that (chunked prefill,
radix cache, CUDA graphs, attention backends other than Triton); with vLLM, start it with `--no-enable-prefix-caching
--no-enable-chunked-prefill`. The prompt must be exactly what the chat template writes for turns that end with the
user's. A prompt with the beginning of an answer, and log-likelihoods of prompt tokens, by which lm-eval's `vllm` and
`sglang` score options, are not what the model was trained for. This folder was not run with either of them; what was
checked is that `generate` of transformers with that mask (`is_causal=False`) gives the answers of the training code.

## Prompt

    {start} condition tags … instruction {end_of_prefix} response {end_of_response}

The chat template writes it, and so does the tokenizer for a plain text. Conditions name the style of the answer:
`apply_chat_template(…, condition=["synth", "cot"])`, or `ask(…, tokenizer_encode_kwargs={{"condition": […]}})`; their
tags stand in the order {tags}. {default}
**Tags in a text.** A message that spells `{end_of_prefix}` or another special token is text to the model, as in its
training: the chat template writes codes for it, which tokenizer.json restores, in every program that uses both. A text
given to the tokenizer without the template is read so with `trust_remote_code=True`; without it, pass
`split_special_tokens=True`. Tags are tags in what only the template should write: texts encoded with
`add_special_tokens=False`, contexts and options of lm-eval's `hf`, and plain prompts (completions) of vLLM and SGLang.

A conversation becomes one instruction: system texts at the beginning as they are; then, if a user's turn is the only
other one, its bare text, else every turn with its role (`User: …`), separated by blank lines.

## Training

| | |
|---|---|
{facts}
{scores}"""


class ScoresError(ValueError):
    """A file is no results of the benchmark command, or those of other weights; the message says which."""


def read_scores(path: Path, weights: str) -> dict[str, Mapping[str, Any]]:
    """Read the scores of a model from the results.json of `python -m trainer.benchmark`.

    Parameters
    ----------
    path
        The file.
    weights
        Hash of the model's weights, which the scores must have.

    Returns
    -------
    dict
        Score by task: `metric`, `score`, the interval's `low` and `high`, `n`, `deviations` from the protocol.

    Raises
    ------
    ScoresError
        The file is something else, or has the scores of other weights.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        scored, tasks = content["model"]["weights_xxh3_128"], content["tasks"]
        columns: dict[str, Mapping[str, Any]] = {
            str(name): {key: task[key] for key in ("metric", "score", "low", "high", "n", "deviations")}
            for name, task in tasks.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoresError(f"{path} is not the results.json of trainer.benchmark ({error!r})") from None
    if scored != weights:
        raise ScoresError(f"{path} has the scores of the weights {scored}; these are {weights}: score them again")
    return columns


def _scores_section(scores: Mapping[str, Mapping[str, Any]]) -> str:
    if not scores:
        return ""
    rows = [
        f"| {name} | {task['metric']} | {task['score']:.1%} | {task['low']:.1%} to {task['high']:.1%} | {task['n']:,} "
        f"| {'; '.join(map(str, task['deviations'])) or 'none'} |"
        for name, task in scores.items()
    ]
    head = "| task | metric | score | 95 % interval | questions | deviations from the protocol |"
    return "\n".join(["", "## Scores", "", head, "|---|---|---|---|---|---|", *rows, ""])


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
    scores: Mapping[str, Mapping[str, Any]] | None = None,
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
    scores
        Of `read_scores`; None: the card has none.
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
        scores=_scores_section(scores or {}),
    )
