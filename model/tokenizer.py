"""Checked reading of a `tokenizer.json`."""

from collections.abc import Mapping

from tokenizers import Tokenizer

MAX_BYTES = 64 * 2**20
"""Largest size of a tokenizer.json; one with 262,144 tokens has half of it."""
_SHOWN = 80


class TokenizerError(ValueError):
    """Content that is not the expected tokenizer, as a phrase."""


def parse_tokenizer(content: bytes, special: Mapping[str, int] | None = None) -> Tokenizer:
    """Parse a tokenizer.json.

    Parameters
    ----------
    content
        The file's bytes.
    special
        Special tokens that it must have, with their ids.

    Raises
    ------
    TokenizerError
        The content is not a tokenizer, or a special token is missing or has another id.
    """
    if len(content) > MAX_BYTES:
        raise TokenizerError(f"is larger than {MAX_BYTES:,} bytes")
    try:
        tokenizer = Tokenizer.from_buffer(content)
        for texts in (("",), ("", "")):  # only encoding finds a post-processor that names an unknown token
            tokenizer.encode(*texts)
    except BaseException as error:  # the library raises bare Exception, and panics are no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        reason = " ".join(str(error).split())[:_SHOWN]
        raise TokenizerError(f"is not a tokenizer.json of the library tokenizers ({reason})") from None
    added = tokenizer.get_added_tokens_decoder()
    for tag, number in (special or {}).items():
        if number not in added or added[number].content != tag or not added[number].special:
            found = repr(added[number].content) if number in added else "no added token"
            raise TokenizerError(f"has {found} with the id {number}, expected the special token {tag}")
    return tokenizer
