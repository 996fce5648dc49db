"""Text to and from tokens, as the samples were written."""

import json

from tokenizers import Tokenizer


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy for encoding text, in which nothing is taken for a special token."""
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    content["post_processor"] = content["truncation"] = content["padding"] = None
    return Tokenizer.from_str(json.dumps(content))
