"""HRM-Text for transformers that finds the prefix of a prompt without being given `token_type_ids`.

`model.export` copies this file into the folder that it writes, where `trust_remote_code=True` selects it. In a prompt
of HRM-Text the tag `<|im_end|>` ends the prefix and occurs nowhere else, so the tokens tell where the prefix is.
transformers' own class needs `token_type_ids` for that, which `pipeline()` and lm-eval do not pass; without them it
masks the prompt causally, as the model was never trained.
"""

from typing import Any

import torch
from transformers import HrmTextForCausalLM
from transformers.utils import logging

logger = logging.get_logger(__name__)


class HrmTextPrefixLM(HrmTextForCausalLM):
    """`HrmTextForCausalLM` in which the tokens up to the end tag of the prefix see each other."""

    def forward(  # the parameters by name: generate() inspects them
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Any = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """Compute logits, and the loss of `labels`, as `HrmTextForCausalLM` does with the prefix marked."""
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            token_type_ids=self._marks(input_ids, attention_mask, past_key_values, token_type_ids),
            inputs_embeds=inputs_embeds,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def prepare_inputs_for_generation(self, input_ids: torch.LongTensor, **kwargs: Any) -> dict[str, Any]:
        """Prepare the inputs of one step, with the prefix marked before a mask is made for a static cache."""
        marks = self._marks(
            input_ids, kwargs.get("attention_mask"), kwargs.get("past_key_values"), kwargs.get("token_type_ids")
        )
        if marks is not None:
            kwargs["token_type_ids"] = marks
        return super().prepare_inputs_for_generation(input_ids, **kwargs)

    def _marks(
        self,
        input_ids: torch.LongTensor | None,
        attention_mask: torch.Tensor | None,
        past_key_values: Any,
        given: torch.LongTensor | None,
    ) -> torch.Tensor | None:
        """Return `token_type_ids` [B, T], 1 for the tokens of each row's prefix; None if they cannot be found."""
        is_first = past_key_values is None or past_key_values.get_seq_length() == 0
        if not is_first or not self.config.prefix_lm:
            return given
        if input_ids is None:
            if given is None:
                logger.warning_once("inputs_embeds without token_type_ids: the prompt is masked causally")
            return given
        ends = input_ids == self.config.end_of_prefix_token_id
        has_prefix = ends.any(-1, keepdim=True)
        if given is None and not bool(has_prefix.all()):
            logger.warning_once(
                "a prompt has no end tag of its prefix and is masked causally, which the model was not trained for: "
                "write prompts with the tokenizer's chat template"
            )
        prefix = (ends.cumsum(-1) - ends.long() == 0) & has_prefix
        if attention_mask is not None and attention_mask.shape == input_ids.shape:
            prefix &= attention_mask.bool()
        return (prefix if given is None else torch.where(has_prefix, prefix & (given == 1), given == 1)).long()
