"""Escapes that keep special tokens spelled in a text from being read as such, in an exported folder.

    message ─ chat template: escape ─▶ one text with tags ─ added tokens are split off ─▶ normalizer: unescape ─▶ BPE

The training data is encoded by a tokenizer without added tokens, so `<|im_end|>` in a text is text. An exported
tokenizer must find the tags that the chat template writes. In a text that spells an added token, the template therefore
replaces the first character of every added token by a code. The first steps of the tokenizer's normalizer, which runs
after added tokens are found, restore the characters. A code is two characters: `MARK`, a noncharacter of Unicode, and
one that counts from `_FIRST`. `MARK` itself has a code, so that every text is restored exactly.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK = "\ufdd0"
"""First character of a code; `corpus.contract` has it too."""
_FIRST = 0xE000
"""Code point of the second character of the code of `MARK`; the other codes count on from it."""
_LAST = 0xF8FF


@dataclass(frozen=True, slots=True, kw_only=True)
class Escapes:
    """What a text must not spell, and how it is escaped."""

    spellings: Sequence[str]
    """Texts that the tokenizer would not read as text: the added tokens, and `MARK`."""
    codes: Sequence[tuple[str, str]]
    """Character and its code, in the order of replacement."""

    def escape(self, text: str) -> str:
        """Return a text that spells no added token; most texts are returned as they are."""
        if any(spelling in text for spelling in self.spellings):
            for character, code in self.codes:
                text = text.replace(character, code)
        return text


NO_ESCAPES = Escapes(spellings=(), codes=())
"""For prompts whose tags and texts are encoded apart."""


def escapes_of(tokenizer: Mapping[str, Any]) -> Escapes:
    """Return the escapes for texts of a tokenizer.

    Parameters
    ----------
    tokenizer
        Content of tokenizer.json.

    Raises
    ------
    ValueError
        An added token has a character that codes consist of.
    """
    contents = sorted({token["content"] for token in tokenizer["added_tokens"]})
    for content in contents:
        if any(character == MARK or _FIRST <= ord(character) <= _LAST for character in content):
            raise ValueError(
                f"the added token {content!a} of tokenizer.json has U+FDD0 or a private character, by which text is "
                "distinguished from special tokens; rename it"
            )
    firsts = sorted({content[0] for content in contents})
    codes = [(character, MARK + chr(_FIRST + number)) for number, character in enumerate([MARK, *firsts])]
    return Escapes(spellings=[MARK, *contents], codes=codes)


def with_escapes(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json that finds its added tokens as they are spelled, and unescapes the text between them."""
    plain = without_escapes(tokenizer)
    # The last code to be replaced is the first to be restored, and that of MARK the last.
    steps: list[Any] = [
        {"type": "Replace", "pattern": {"String": code}, "content": character}
        for character, code in reversed(escapes_of(plain).codes)
    ]
    if plain["normalizer"] is not None:
        steps.append(plain["normalizer"])
    exact = {"normalized": False, "special": True, "lstrip": False, "rstrip": False, "single_word": False}
    return {
        **plain,
        "added_tokens": [{**token, **exact} for token in plain["added_tokens"]],
        "normalizer": {"type": "Sequence", "normalizers": steps},
    }


def without_escapes(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json whose normalizer unescapes nothing."""
    normalizer = tokenizer.get("normalizer")
    steps = normalizer.get("normalizers", []) if normalizer else []
    rest = [step for step in steps if not _unescapes(step)]
    if normalizer and len(rest) < len(steps):
        normalizer = {**normalizer, "normalizers": rest} if len(rest) > 1 else rest[0] if rest else None
    return {**tokenizer, "normalizer": normalizer}


def _unescapes(step: Mapping[str, Any]) -> bool:
    return step.get("type") == "Replace" and str(step["pattern"].get("String", "")).startswith(MARK)


def quoted(value: Any) -> str:
    """Return a value as a literal of a jinja template."""
    return json.dumps(value, ensure_ascii=False)
