"""Folding: the form in which texts are compared for equality, with single blanks and the indentation of lines.

    texts ─┬ white space of ASCII only ─▶ one kernel over the Arrow buffer ─┬▶ folded texts as UTF-8
           └ others ─▶ Python, one by one ──────────────────────────────────┘

Indentation is kept since it is part of a program. White space is Unicode's, which no columnar engine offers.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from corpus.kernels import INNER_KERNEL, KERNEL, copy_run, next_mark
from pipeline.text import codes
from pipeline.text.columns import texts_of

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
Bounds = NDArray[np.int64]
Buffer = bytes | memoryview

_IS_SPACE = np.array([byte < 128 and chr(byte).isspace() for byte in range(256)])


def fold(text: str) -> bytes:
    """A text with each run of white space replaced by one blank, none at its ends.

    The indentation of a line is kept, with the line feed before it.
    """
    first, *lines = text.strip().split("\n")
    folded = [" ".join(first.split())]
    for line in lines:
        if words := " ".join(line.split()):
            indent = line[: len(line) - len(line.lstrip())]
            folded.append(f"\n{indent}{words}" if indent else f" {words}")
    return "".join(folded).encode()


class FoldedPairs(NamedTuple):
    """Folded texts of n pairs."""

    pairs: Iterator[Buffer]
    """Instruction, a zero byte, and response."""
    instructions: Iterator[Buffer]
    """With letter case folded too."""


def fold_pairs(instructions: pa.Array | pa.ChunkedArray, responses: pa.Array | pa.ChunkedArray) -> FoldedPairs:
    """`fold` the texts of pairs, of large_string columns without nulls."""
    (first, first_bounds), (second, second_bounds) = texts_of(instructions), texts_of(responses)
    rows = len(instructions)
    size, size_of_responses = (int(bounds[-1] - bounds[0]) for bounds in (first_bounds, second_bounds))
    content, ends = np.empty(size + size_of_responses + rows, np.uint8), np.zeros(rows + 1, np.int64)
    lowered, lowered_ends = np.empty(size, np.uint8), np.zeros(rows + 1, np.int64)
    is_folded, is_lowered = np.empty(rows, np.bool_), np.empty(rows, np.bool_)
    longest = max(int(np.diff(bounds).max(initial=0)) for bounds in (first_bounds, second_bounds))
    marks = np.zeros(longest // 8 + 1, np.uint64)
    _fold_pairs(
        first, first_bounds, second, second_bounds, marks, content, ends, is_folded, lowered, lowered_ends, is_lowered
    )
    columns = instructions, responses
    pairs = {row: b"\0".join(fold(column[row].as_py()) for column in columns) for row in _where_not(is_folded)}
    others = {row: fold(instructions[row].as_py()).decode().casefold().encode() for row in _where_not(is_lowered)}
    return FoldedPairs(_slices(content, ends, pairs), _slices(lowered, lowered_ends, others))


def _where_not(mask: NDArray[np.bool_]) -> list[int]:
    rows: list[int] = np.flatnonzero(~mask).tolist()
    return rows


def _slices(content: U8, bounds: Bounds, others: Mapping[int, bytes]) -> Iterator[Buffer]:
    """Yield the pieces of an array between bounds, and instead of some the others; no list of them is made."""
    edges = bounds.tolist()
    pieces = map(content.data.__getitem__, map(slice, edges, edges[1:]))
    return (others.get(row, piece) for row, piece in enumerate(pieces)) if others else pieces


@njit(**KERNEL)
def _fold_pairs(
    first: U8,
    first_bounds: Bounds,
    second: U8,
    second_bounds: Bounds,
    marks: U64,
    content: U8,
    ends: Bounds,
    is_folded: NDArray[np.bool_],
    lowered: U8,
    lowered_ends: Bounds,
    is_lowered: NDArray[np.bool_],
) -> None:
    """Write folded pairs one after the other, and folded instructions in lower case; `marks` is scratch.

    The ends (n + 1,) begin with 0. What cannot be folded here, or is not ASCII, is empty and marked as not done, (n,).
    """
    for row in range(len(is_folded)):
        begin = ends[row]
        middle = _fold(first[first_bounds[row] : first_bounds[row + 1]], marks, content, begin)
        end = -1
        if middle >= 0:
            content[middle] = 0
            end = _fold(second[second_bounds[row] : second_bounds[row + 1]], marks, content, middle + 1)
        is_folded[row] = end >= 0
        ends[row + 1] = end if end >= 0 else begin
        to = lowered_ends[row]
        is_lowered[row] = middle >= 0 and _lower(content[begin:middle], lowered[to:])
        lowered_ends[row + 1] = to + middle - begin if is_lowered[row] else to


@njit(**INNER_KERNEL)
def _fold(text: U8, marks: U64, out: U8, to: int) -> int:
    """Fold a text to `out` from `to` on; return where it ends, -1 for a text with white space beyond ASCII."""
    first, last = 0, len(text)
    while first < last and _IS_SPACE[text[first]]:
        first += 1
    while first < last and _IS_SPACE[text[last - 1]]:
        last -= 1
    text = text[first:last]
    _mark(text, marks.view(np.uint8))
    at = 0
    while True:
        stop = next_mark(marks, at)
        to = copy_run(text, at, stop, out, to)
        if stop == len(text):
            return to
        byte = text[stop]
        if not _IS_SPACE[byte]:
            if byte >= 128 and _is_space(text, stop):
                return -1
            out[to] = byte
            to, at = to + 1, stop + 1
            continue
        if stop > 0 and text[stop - 1] == codes.BLANK:  # was copied
            to -= 1
        at, indent = stop, len(text)
        while _IS_SPACE[text[at]]:
            if text[at] == codes.LINE_FEED:
                indent = at + 1
            at += 1
        if indent < at:
            out[to] = codes.LINE_FEED
            for byte_of_indent in text[indent:at]:
                to += 1
                out[to] = byte_of_indent
        else:
            out[to] = codes.BLANK
        to += 1


@njit(**INNER_KERNEL)
def _mark(text: U8, marks: U8) -> None:
    """Mark bytes that are not merely copied: controls, blanks after a blank, what may be other white space; the end."""
    marks[len(text)] = 1
    if not len(text):
        return
    marks[0] = text[0] >= 128
    before, marks = text[:-1], marks[1:]
    for place, byte in enumerate(text[1:]):
        is_lead = (byte == 0xC2) | ((byte >= 0xE1) & (byte <= 0xE3))
        is_repeated = (byte == codes.BLANK) & (before[place] == codes.BLANK)
        marks[place] = np.uint8(byte < codes.BLANK) | np.uint8(is_lead) | np.uint8(is_repeated)


@njit(**INNER_KERNEL)
def _is_space(text: U8, at: int) -> bool:
    """Whether white space beyond ASCII is at a byte that is not ASCII."""
    lead = text[at]
    if lead == 0xC2:
        return text[at + 1] == 0x85 or text[at + 1] == 0xA0
    if lead < 0xE1 or lead > 0xE3:
        return False
    second, third = text[at + 1], text[at + 2]
    if lead == 0xE1:
        return second == 0x9A and third == 0x80
    if lead == 0xE3:
        return second == 0x80 and third == 0x80
    if second == 0x81:
        return third == 0x9F
    return second == 0x80 and (third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF)


@njit(**INNER_KERNEL)
def _lower(text: U8, out: U8) -> bool:
    """Copy a text with ASCII letters in lower case; return whether it is ASCII."""
    bits = np.uint8(0)
    for place, byte in enumerate(text):
        bits |= byte
        out[place] = byte + (np.uint8(0x20) if np.uint8(byte - np.uint8(0x41)) < np.uint8(26) else np.uint8(0))
    return bool(bits < 128)
