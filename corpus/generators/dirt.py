"""Defects deliberately added to training rows, so that a build of generated data exercises every kind of drop.

A row has at most one defect. Duplicates are recognised and closed `<think>`
blocks are removed; rows with other defects do not yield a pair worth keeping.
"""

from collections.abc import Mapping
from enum import StrEnum
from random import Random

from corpus.generators.family import Text
from corpus.generators.schemas import SCHEMAS, Row


class Dirt(StrEnum):
    """Kinds of defects."""

    DUPLICATE = "duplicate"
    """An earlier row with other white space or letter case in the instruction."""
    THINK = "think"
    """A `<think>…</think>` block before the answer."""
    UNCLOSED_THINK = "unclosed_think"
    """A `<think>` block that never ends."""
    BROKEN_JSON = "broken_json"
    """The line is truncated."""
    EMPTY_INSTRUCTION = "empty_instruction"
    EMPTY_RESPONSE = "empty_response"
    MISSING_FIELD = "missing_field"
    """The answer field is missing."""
    OVER_LONG = "over_long"
    """Thousands of characters of boilerplate before the question."""
    REPETITIVE = "repetitive"
    """The answer, repeated hundreds of times."""


RATES: Mapping[Dirt, float] = {
    Dirt.DUPLICATE: 0.03,
    Dirt.THINK: 0.02,
    Dirt.UNCLOSED_THINK: 0.003,
    Dirt.BROKEN_JSON: 0.005,
    Dirt.EMPTY_INSTRUCTION: 0.004,
    Dirt.EMPTY_RESPONSE: 0.004,
    Dirt.MISSING_FIELD: 0.005,
    Dirt.OVER_LONG: 0.003,
    Dirt.REPETITIVE: 0.003,
}
"""Share of training rows with each defect."""

_BOILERPLATE = (
    "Please read all of the following notes before you answer.",
    "This page may be out of date.",
    "All rights to this worksheet are with its author.",
    "Sign in to save your progress.",
    "Answers are at the end of the book.",
    "Share this exercise with your class.",
)
_OVER_LONG_CHARACTERS = 9_000
_THOUGHTS = ("Let me see.", "What is asked for?", "I go through it once more.", "That should be it.", "Wait, I check.")


def choose(rng: Random) -> Dirt | None:
    """Choose the defect of a row, or None; draws exactly one number from `rng`."""
    at = rng.random()
    for kind, rate in RATES.items():
        at -= rate
        if at < 0:
            return kind
    return None


def disguise(text: Text, rng: Random) -> Text:
    """Return the same pair with other white space or letter case in its instruction."""
    instruction = text.instruction
    way = rng.randrange(3)
    if way == 0:
        instruction = instruction.upper()
    elif way == 1:
        instruction = instruction.replace(" ", "  ") + " "
    else:
        instruction = "\t" + instruction.capitalize().replace(" ", " \t", 1) + "\n"
    if instruction == text.instruction:
        instruction += " "
    return Text(instruction, text.response, text.condition)


def soil(kind: Dirt, text: Text, schema: str, rng: Random) -> Row:
    """Return the fields of a row with a defect other than `DUPLICATE` and `BROKEN_JSON`.

    See `disguise` and `cut_off` for those.
    """
    match kind:
        case Dirt.THINK:
            text = Text(text.instruction, f"<think>\n{_think(rng)}\n</think>\n\n{text.response}", text.condition)
        case Dirt.UNCLOSED_THINK:
            text = Text(text.instruction, f"<think>\n{_think(rng)} {text.response}", text.condition)
        case Dirt.EMPTY_INSTRUCTION:
            text = Text(rng.choice(("", " ", "\n")), text.response, text.condition)
        case Dirt.EMPTY_RESPONSE:
            text = Text(text.instruction, rng.choice(("", " ", "\n")), text.condition)
        case Dirt.OVER_LONG:
            text = Text(f"{_boilerplate(rng)} {text.instruction}", text.response, text.condition)
        case Dirt.REPETITIVE:
            text = Text(text.instruction, f"{text.response} " * rng.randint(150, 300), text.condition)
    row = SCHEMAS[schema](text)
    if kind is Dirt.MISSING_FIELD:
        _remove_answer(row)
    return row


def cut_off(line: str, rng: Random) -> str:
    """Truncate a line inside its JSON object."""
    return line[: rng.randint(1, len(line) - 1)]


def _think(rng: Random) -> str:
    return " ".join(rng.choice(_THOUGHTS) for _ in range(rng.randint(2, 6)))


def _boilerplate(rng: Random) -> str:
    sentences: list[str] = []
    while sum(map(len, sentences)) < _OVER_LONG_CHARACTERS:
        sentences.append(f"{rng.choice(_BOILERPLATE)} Note {rng.randrange(10_000)}.")
    return " ".join(sentences)


def _remove_answer(row: Row) -> None:
    for turns in ("messages", "conversations"):
        if turns in row:
            row[turns] = row[turns][:1]
            return
    for field in ("response", "completion", "answer", "output"):
        row.pop(field, None)
