"""Checked reading of a `tokenizer.json`."""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

MAX_BYTES = 64 * 2**20
"""Largest size of a tokenizer.json; one with 262,144 tokens has half of it."""
_SHOWN = 80
_EVERY_BYTE = "".join(map(chr, range(256))) + "\u4e2d\U0001f600"


class TokenizerError(ValueError):
    """Content that is not the expected tokenizer, as a phrase."""


def parse_tokenizer(
    content: bytes, special: Mapping[str, int] | None = None, *, vocab_size: int | None = None
) -> Tokenizer:
    """Parse a tokenizer.json.

    Parameters
    ----------
    content
        The file's bytes.
    special
        Special tokens that it must have, with their ids.
    vocab_size
        Number of ids that the model has; None: not known.

    Raises
    ------
    TokenizerError
        The content is not a tokenizer, a special token is missing or has another id, two tokens have one id, or an id
        is not one of the model's.
    """
    if len(content) > MAX_BYTES:
        raise TokenizerError(f"is larger than {MAX_BYTES:,} bytes")
    try:
        found = json.loads(content)
        _check_processor(found.get("post_processor"))
        tokenizer = Tokenizer.from_buffer(content)
        for texts in (("",), ("", ""), (_EVERY_BYTE,)):  # only encoding finds a part that names an unknown token
            tokenizer.encode(*texts)
        # Texts are encoded without special tokens, so that a tag in a text is text.
        plain = Tokenizer.from_str(json.dumps({**found, "added_tokens": [], "post_processor": None}))
        plain.encode(_EVERY_BYTE)
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
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    if len(set(ids)) < len(ids):
        raise TokenizerError(f"has {len(ids):,} tokens with {len(set(ids)):,} ids, expected an id for each token")
    if vocab_size is not None and max(ids, default=0) >= vocab_size:
        raise TokenizerError(f"has the id {max(ids):,}, expected ids below the model's vocab_size of {vocab_size:,}")
    return tokenizer


def _check_processor(processor: Any) -> None:
    """Raise if a post-processor names a token that it does not describe: encoding with it panics, which is printed."""
    for part in [processor, *(processor or {}).get("processors", [])]:
        if part and part["type"] == "TemplateProcessing":
            named = {piece["SpecialToken"]["id"] for piece in part["single"] + part["pair"] if "SpecialToken" in piece}
            if unknown := named - set(part["special_tokens"]):
                raise ValueError(f"its post-processor names {min(unknown)!r}, which it does not describe")
