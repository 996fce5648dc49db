"""Prompts of generation: from an instruction, or the turns of a conversation, to the token ids of a prefix.

    {"instruction": …} or {"messages": [{"role": …, "content": …}, …]} ─ parse ─▶ Prompt ─ ids ─▶ prefix

The turns of a conversation become one instruction by the rule of `corpus.turns`, as in a build.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from corpus.config import ConfigError
from corpus.contract import order_conditions, prefix_ids
from corpus.turns import instruction_of
from trainer.data.text import plain_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What to ask."""

    instruction: str
    """Without blanks around it, like the instructions of a dataset."""
    conditions: tuple[str, ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row of a file that it was read from."""


def prompt(
    turns: Sequence[tuple[str, str]], conditions: Sequence[str] = (), row: Mapping[str, Any] | None = None
) -> Prompt:
    """Make a prompt of the (role, text) turns before the answer.

    Raises
    ------
    ValueError
        The turns have no text or an unknown role, a condition is unknown, or a text is not UTF-8.
    """
    instruction = instruction_of(turns).strip()
    if not instruction:
        raise ValueError("the prompt is empty")
    if not is_unicode(instruction):
        raise ValueError("the prompt is not UTF-8 text")
    return Prompt(instruction=instruction, conditions=order_conditions(conditions), row=row or {})


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: an argument with other bytes cannot, nor a JSON escape of half a pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_prompts(path: Path, *, system: str | None = None, conditions: Sequence[str] = ()) -> list[Prompt]:
    """Read a file of prompts, a JSON object a line; blank lines are skipped.

    Parameters
    ----------
    path
        Rows with `instruction`, a text, or `messages`, a list of objects with `role` and `content`; and `condition`, a
        list of names, or none for `conditions`.
    system
        Text before the turns of each row; None: none.
    conditions
        Of rows that do not name their own.

    Raises
    ------
    ConfigError
        The file cannot be read, or a line is not a prompt; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompts.append(_parse(json.loads(line), system, conditions))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: {error or 'is nested too deep'}") from None
    if not prompts:
        raise ConfigError(f"{path}: has no prompts; expected a JSON object with instruction or messages on each line")
    return prompts


def ids(prompts: Sequence[Prompt], tokenizer: Tokenizer, special: Mapping[str, int]) -> list[list[int]]:
    """Return the token ids of each prompt's prefix."""
    plain = plain_tokenizer(tokenizer)
    texts = plain.encode_batch([prompt.instruction for prompt in prompts], add_special_tokens=False)
    return [prefix_ids(special, prompt.conditions, encoded.ids) for prompt, encoded in zip(prompts, texts, strict=True)]


def _parse(row: Any, system: str | None, conditions: Sequence[str]) -> Prompt:
    if not isinstance(row, dict):
        raise ValueError(f"is {type(row).__name__}; expected an object with instruction or messages")
    if ("instruction" in row) == ("messages" in row):
        raise ValueError("expected one of instruction and messages")
    turns = [] if system is None else [("system", system)]
    if "instruction" in row:
        turns.append(("user", _text(row, "instruction")))
    elif isinstance(row["messages"], list) and all(isinstance(message, dict) for message in row["messages"]):
        turns += [(_text(message, "role"), _text(message, "content")) for message in row["messages"]]
    else:
        raise ValueError("messages: expected a list of objects with role and content")
    if turns and turns[-1][0] == "assistant":
        raise ValueError("the last message is of the assistant; expected one to answer")
    named = row.get("condition")
    if named is not None and not (isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise ValueError("condition: expected a list of names")
    return prompt(turns, conditions if named is None else named, row)


def _text(row: Mapping[str, Any], key: str) -> str:
    if not isinstance(row.get(key), str):
        raise ValueError(f"{key}: expected text")
    return str(row[key])
