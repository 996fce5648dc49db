"""Tokenizer of HRM-Text for transformers: of a plain text, which it makes a prompt itself, nothing is read as a tag.

`model.export` copies this file into the folder that it writes, where `trust_remote_code=True` selects it. The class of
transformers reads `<|im_end|>` in `tokenizer(text)` as the tag. Texts encoded with `add_special_tokens=False` are those
that the chat template wrote, with tags; the template escapes what messages spell.
"""

# mypy: ignore-errors
# The version of transformers that has this model is not among the dependencies.

from typing import Any

import transformers

MARK, CODE = "\ufdd0", "\ufdd0\ue000"
"""A character that the normalizer of tokenizer.json takes for the beginning of a code, and its own code."""


class HrmTextTokenizer(transformers.PreTrainedTokenizerFast):
    """The class of transformers, which reads no tags in a text that it adds the tags to."""

    def _encode_plus(
        self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **kwargs: Any
    ) -> transformers.BatchEncoding:
        """Encode a text, a pair, or a list of them."""
        if add_special_tokens:
            text, text_pair, kwargs["split_special_tokens"] = _escaped(text), _escaped(text_pair), True
        return super()._encode_plus(text, text_pair, add_special_tokens, **kwargs)


def _escaped(text: Any) -> Any:
    if isinstance(text, str):
        return text.replace(MARK, CODE)
    return type(text)(map(_escaped, text)) if isinstance(text, list | tuple) else text
