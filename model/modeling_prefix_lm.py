"""HRM-Text for transformers that finds the prefix of a prompt without being given `token_type_ids`.

`model.export` copies this file into the folder that it writes, where `trust_remote_code=True` selects it. In a prompt
of HRM-Text the tag `<|im_end|>` ends the prefix and occurs nowhere else, so the tokens tell where the prefix is.
The class of transformers needs `token_type_ids` for that, which `pipeline()` and lm-eval do not pass; without them it
masks the prompt causally, as the model was never trained.
"""

# mypy: ignore-errors
# The version of transformers that has this model is not among the dependencies.

import inspect
from typing import Any

import torch
import transformers
from transformers.utils import logging

logger = logging.get_logger(__name__)


class AnswerPipeline(transformers.TextGenerationPipeline):
    """The pipeline of transformers. Since config.json names it, `pipeline()` refuses to run without trusted code."""


class HrmTextForCausalLM(transformers.HrmTextForCausalLM):
    """The class of transformers, in which the tokens up to the end tag of the prefix see each other."""

    def forward(self, input_ids: torch.Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Compute logits, and the loss of `labels`, with the prefix marked."""
        mask = args[0] if args else kwargs.get("attention_mask")
        kwargs["token_type_ids"] = self._marks(input_ids, mask, kwargs)
        return super().forward(input_ids, *args, **kwargs)

    forward.__signature__ = inspect.signature(transformers.HrmTextForCausalLM.forward)  # generate() reads it

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Prepare the inputs of a step, with the prefix marked before a mask is made for a static cache."""
        marks = self._marks(input_ids, kwargs.get("attention_mask"), kwargs)
        if marks is not None:
            kwargs["token_type_ids"] = marks
        return super().prepare_inputs_for_generation(input_ids, *args, **kwargs)

    def _marks(
        self, input_ids: torch.Tensor | None, mask: torch.Tensor | None, others: dict[str, Any]
    ) -> torch.Tensor | None:
        """Return `token_type_ids` [B, T], 1 for the tokens of each row's prefix; None if they cannot be found."""
        given = others.get("token_type_ids")
        cache = others.get("cache", others.get("past_key_values"))
        if not self.config.prefix_lm or (cache is not None and cache.get_seq_length() > 0):
            return given
        if input_ids is None:
            if given is None:
                logger.warning_once("inputs_embeds without token_type_ids: the prompt is masked causally")
            return given
        ends = input_ids == self.config.end_of_prefix_token_id
        has_prefix = ends.any(-1, keepdim=True)
        if given is None and not has_prefix.all():
            logger.warning_once(
                "a prompt has no end tag of its prefix and is masked causally, which the model was not trained for: "
                "write prompts with the tokenizer's chat template"
            )
        prefix = (ends.cumsum(-1) - ends.long() == 0) & has_prefix
        if mask is not None and mask.shape == input_ids.shape:
            prefix &= mask.bool()
        if given is not None:
            prefix = torch.where(has_prefix, prefix & (given == 1), given == 1)
        return prefix.long()
