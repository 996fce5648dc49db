"""Encoding of text in the way the samples were encoded."""

from tokenizers import Tokenizer

from corpus.contract import without_special_tokens


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy for encoding text, which matches no special tokens."""
    return Tokenizer.from_str(without_special_tokens(tokenizer.to_str()))
