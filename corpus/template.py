"""How a pair is written as tokens: the special tags and the order they stand in.

    <|im_start|> conditions… instruction <|im_end|> | response <|box_end|>
    └───────────────── prefix ────────────────────┘ └───── response ─────┘

The pipeline writes samples by this template; the trainer asks the model by it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

START = "<|im_start|>"
END_OF_PREFIX = "<|im_end|>"
END_OF_RESPONSE = "<|box_end|>"
PAD = "<|endoftext|>"

CONDITION_TAGS: Mapping[str, str] = {
    "direct": "<|object_ref_start|>",
    "cot": "<|object_ref_end|>",
    "synth": "<|quad_end|>",
    "noisy": "<|quad_start|>",
}
"""Condition name to its tag; the order here is the order in a sample."""

SPECIAL_TOKENS: tuple[str, ...] = (PAD, START, END_OF_PREFIX, END_OF_RESPONSE, *CONDITION_TAGS.values())
"""All tags. Text never tokenizes to one of them."""


def order_conditions(conditions: Iterable[str]) -> tuple[str, ...]:
    """Conditions without repeats, in template order.

    Raises
    ------
    ValueError
        For a name that is no condition.
    """
    names = set(conditions)
    unknown = sorted(names - set(CONDITION_TAGS))
    if unknown:
        raise ValueError(f"unknown condition {unknown[0]!r}: expected some of {', '.join(CONDITION_TAGS)}")
    return tuple(name for name in CONDITION_TAGS if name in names)


def prefix_ids(special: Mapping[str, int], conditions: Iterable[str], instruction: Sequence[int]) -> list[int]:
    """Token ids of the prefix that asks for a response.

    Parameters
    ----------
    special
        Tag to token id, for all of `SPECIAL_TOKENS`.
    conditions
        Condition names; written in template order.
    instruction
        Token ids of the instruction's text.
    """
    tags = [special[CONDITION_TAGS[name]] for name in order_conditions(conditions)]
    return [special[START], *tags, *instruction, special[END_OF_PREFIX]]


def without_special_tokens(tokenizer_json: str) -> str:
    """A `tokenizer.json` for text alone: it takes nothing in a text for a tag, adds none and cuts nothing."""
    content = json.loads(tokenizer_json)
    content["added_tokens"] = []
    content["post_processor"] = content["truncation"] = content["padding"] = None
    return json.dumps(content, ensure_ascii=False)
