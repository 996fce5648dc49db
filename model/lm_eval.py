"""`python -m model.lm_eval --model millrace --model_args pretrained=FOLDER --tasks …`: lm-eval with our model.

    lm-eval's request ─ chat template ─▶ prompt ─ model.batching, model.likelihood ─▶ answer, log-likelihood

The command is lm-eval's own, which must be installed, with one model more, `millrace`. This package computes the model,
so that transformers is not needed, and the whole prompt is the prefix. Arguments of the model:

    pretrained   a run's folder, a checkpoint, or an exported folder
    condition    names of conditions, joined by +, such as synth+cot; by default those of the exported folder
    weights      averaged (default) or last, of a checkpoint
    dtype        auto (default: bfloat16 on CUDA, float32 on a CPU), bfloat16 or float32
    max_length   tokens of prompt and answer together; by default the longest sample of the training

A text that lm-eval asks for without `--apply_chat_template` becomes the message of a user.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import torch

from model.batching import answer_all
from model.chat import ChatModel, load_chat_model
from model.likelihood import log_likelihoods

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    raise SystemExit(f"error: lm-eval cannot be imported ({error}): pip install lm-eval") from None

logger = logging.getLogger(__name__)

_NEW_TOKENS = 256
"""Largest length of an answer where a task names none, as in lm-eval's own models."""


@register_model("millrace")
class MillraceLM(LM):
    """HRM-Text for lm-eval; for the parameters see the module."""

    def __init__(
        self,
        pretrained: str,
        condition: str | None = None,
        weights: str = "averaged",
        dtype: str = "auto",
        max_length: int | None = None,
        batch_size: int | str = 32,
        device: str | None = None,
        max_batch_size: int | None = None,
    ):
        super().__init__()
        for name, value, known in (
            ("weights", weights, ("averaged", "last")),
            ("dtype", dtype, ("auto", "bfloat16", "float32")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")
        self.chat: ChatModel = load_chat_model(pretrained, ema=weights == "averaged")
        self.condition = None if condition is None else condition.split("+")
        self.tags = self.chat.tags(self.condition)
        self.name = pretrained
        self.max_length = max_length or self.chat.max_positions
        self.rows = 32 if str(batch_size).startswith("auto") else int(batch_size)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        is_half = dtype == "bfloat16" or (dtype == "auto" and self._device.type == "cuda")
        self.model = self.chat.loaded.model.to(self._device, torch.bfloat16 if is_half else torch.float32)
        self.end_id = self.chat.end_id

    @property
    def tokenizer_name(self) -> str:
        """Name of the chat template, for lm-eval's cache of requests."""
        return f"{self.name}+{self.condition}".replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the source of the chat template."""
        return self.chat.template

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Write a chat that ends with a turn of the user as a prompt."""
        if chat_history[-1]["role"] == "assistant":
            raise ValueError("the task begins the model's answer (gen_prefix), which this model does not support")
        return self.chat.render(chat_history, self.condition)

    def prompt_ids(self, context: str) -> list[int]:
        """Token ids of a prompt that `apply_chat_template` wrote, or of a text as the message of a user."""
        before, after = self.tags
        if not (context.startswith(before) and context.endswith(after)):
            context = self.chat.render([{"role": "user", "content": context.strip()}], self.condition)
        return self.chat.ids(context, self.condition)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """See `lm_eval.api.model.LM`; greedy only."""
        prompts, limits = [], []
        for context, options in (request.args for request in requests):
            if options.get("do_sample") or options.get("temperature"):
                raise ValueError("this model answers greedily; remove do_sample and temperature from the task")
            prompt = self.prompt_ids(context)
            prompts.append(prompt)
            wanted = next(
                (int(options[key]) for key in ("max_gen_toks", "max_new_tokens") if key in options), _NEW_TOKENS
            )
            limits.append(max(0, min(wanted, self.max_length - len(prompt))))
        if full := limits.count(0):
            logger.warning("%d of %d prompts fill the context and get the empty answer", full, len(limits))
        answers = answer_all(
            self.model,
            prompts,
            limits=limits,
            end_id=self.end_id,
            rows=self.rows,
            captured=self._device.type == "cuda",
        )
        decode = self.chat.loaded.tokenizer.decode
        return [
            _until(decode(answer, skip_special_tokens=False), request.args[1].get("until"))
            for answer, request in zip(answers, requests, strict=True)
        ]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """See `lm_eval.api.model.LM`; blanks before an answer, which separate it from a context, are left out."""
        pairs = []
        for context, answer in (request.args for request in requests):
            if not context.strip():
                raise ValueError("this model scores answers to a prompt; the task scores texts without one")
            pairs.append((self.prompt_ids(context), self.chat.text_ids(answer.lstrip())))
        return log_likelihoods(self.model, pairs, rows=self.rows)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Not defined: the model has no likelihood of a text that is no answer."""
        raise NotImplementedError("HRM-Text answers instructions; it has no likelihood of a text without one")


def _until(text: str, stops: str | Sequence[str] | None) -> str:
    """Cut a text before the first of some strings."""
    for stop in [stops] if isinstance(stops, str) else stops or ():
        text = text.partition(stop)[0] if stop else text
    return text


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    sys.exit(cli_evaluate())
