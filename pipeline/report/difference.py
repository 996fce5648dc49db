"""The differences of two texts, word by word, as pieces to mark."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal

Piece = tuple[Literal["same", "only"], str]
"""A piece of a text that the other text has too, or that it has not."""

_TOKEN = re.compile(r"\s+|\w+|[^\w\s]")
MAX_COMPARED = 600
"""Words and signs between the first and the last difference that are compared; of more, all count as different."""
MAX_SAME = 400
"""Characters of an equal piece that are shown; the middle of a longer one is left out."""
MAX_CHARS = 3000
"""Characters of a text that are shown in all."""


def difference(old: str, new: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces, long equal ones shortened; adjacent pieces have different kinds."""
    left, right = _TOKEN.findall(old), _TOKEN.findall(new)
    first: list[Piece] = []
    second: list[Piece] = []
    for kind, i, j, k, m in _opcodes(left, right):
        for pieces, words in ((first, left[i:j]), (second, right[k:m])):
            if words:
                text = "".join(words)
                pieces.append(("same", shortened(text, MAX_SAME)) if kind == "equal" else ("only", text))
    return _bounded(first), _bounded(second)


def shortened(text: str, chars: int) -> str:
    """Return a text without its middle where it has more than `chars` characters, with the number left out."""
    if len(text) <= chars:
        return text
    half = chars // 2
    return f"{text[:half]} [… {len(text) - 2 * half:,} characters …] {text[-half:]}"


def _opcodes(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    begin = 0
    while begin < min(len(left), len(right)) and left[begin] == right[begin]:
        begin += 1
    end = 0
    while end < min(len(left), len(right)) - begin and left[-1 - end] == right[-1 - end]:
        end += 1
    middle = left[begin : len(left) - end], right[begin : len(right) - end]
    yield "equal", 0, begin, 0, begin
    if max(map(len, middle)) > MAX_COMPARED:
        yield "replace", begin, len(left) - end, begin, len(right) - end
    else:
        for kind, i, j, k, m in SequenceMatcher(None, *middle, autojunk=False).get_opcodes():
            yield kind, begin + i, begin + j, begin + k, begin + m
    yield "equal", len(left) - end, len(left), len(right) - end, len(right)


def _bounded(pieces: Sequence[Piece]) -> list[Piece]:
    """Join neighbours of one kind and cut the text off after `MAX_CHARS` characters."""
    joined: list[Piece] = []
    room = MAX_CHARS
    for kind, text in pieces:
        if not room:
            break
        cut = text if len(text) <= room else text[:room] + "…"
        room -= min(room, len(text))
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + cut)
        else:
            joined.append((kind, cut))
    return joined
