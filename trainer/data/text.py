"""Text to tokens, as the samples were written."""

from tokenizers import Tokenizer

from corpus.contract import without_special_tokens


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """A copy for encoding text, in which nothing is taken for a special token."""
    return Tokenizer.from_str(without_special_tokens(tokenizer.to_str()))
