"""Folding: the form in which texts are compared for equality, with single blanks, and letter case folded or not.

    texts ─┬ ASCII ─▶ one kernel over the Arrow buffer ─┬▶ folded texts as UTF-8
           └ others ─▶ Python, one by one ──────────────┘

The indentation of lines is kept, since it is part of a program. White space and case folding are Unicode's, which no
columnar engine offers; for ASCII they fit into a table.
"""

import string
from itertools import pairwise

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.text import codes
from pipeline.text.columns import texts_of
from pipeline.text.options import INNER_KERNEL, KERNEL

_COLLAPSED = np.array([codes.BLANK if chr(byte).isspace() else byte for byte in range(128)], np.uint8)
_FOLDED = _COLLAPSED.copy()
_FOLDED[[ord(letter) for letter in string.ascii_uppercase]] += ord("a") - ord("A")


def fold(text: str, *, case: bool) -> bytes:
    """A text with each run of white space replaced by one blank, none at its ends, and letter case folded if `case`.

    The indentation of a line is kept, with the line feed before it.
    """
    first, *lines = (text.casefold() if case else text).strip().split("\n")
    folded = [" ".join(first.split())]
    for line in lines:
        if words := " ".join(line.split()):
            indent = line[: len(line) - len(line.lstrip())]
            folded.append(f"\n{indent}{words}" if indent else f" {words}")
    return "".join(folded).encode()


def fold_all(texts: pa.Array | pa.ChunkedArray, *, case: bool) -> list[bytes]:
    """`fold` of each text of a large_string column without nulls."""
    if isinstance(texts, pa.ChunkedArray):
        return [folded for chunk in texts.chunks for folded in fold_all(chunk, case=case)]
    content, bounds = texts_of(texts)
    out, ends = np.empty(bounds[-1] - bounds[0], np.uint8), np.zeros(len(bounds), np.int64)
    plain = np.ones(len(texts), np.bool_)
    _fold_ascii(content, bounds, _FOLDED if case else _COLLAPSED, out, ends, plain)
    folded_texts, edges = out[: ends[-1]].tobytes(), ends.tolist()
    folded = [folded_texts[begin:end] for begin, end in pairwise(edges)]
    for row in np.flatnonzero(~plain).tolist():
        folded[row] = fold(texts[row].as_py(), case=case)
    return folded


@numba.njit(**KERNEL)
def _fold_ascii(
    content: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    table: NDArray[np.uint8],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
    plain: NDArray[np.bool_],
) -> None:
    """Write the folded texts one after the other and their bounds (n + 1,), of which the first is there.

    `plain` (n,) becomes False for texts that are not ASCII; these are empty.
    """
    for row in range(len(bounds) - 1):
        first, last = bounds[row], bounds[row + 1]
        while first < last and content[first] < 128 and table[content[first]] == codes.BLANK:
            first += 1
        while first < last and content[last - 1] < 128 and table[content[last - 1]] == codes.BLANK:
            last -= 1
        begin = ends[row]
        end, any_bits, is_indented = _fold_unindented(content[first:last], table, out, begin)
        if any_bits >= 128:
            plain[row], end = False, begin
        elif is_indented:
            end = _fold_indented(content[first:last], table, out, begin)
        ends[row + 1] = end


@numba.njit(**INNER_KERNEL)
def _fold_unindented(
    text: NDArray[np.uint8], table: NDArray[np.uint8], out: NDArray[np.uint8], at: int
) -> tuple[int, np.uint8, bool]:
    """Fold a stripped text as if no line had an indentation, without a branch for each byte.

    Returns the end of the folded text, all bits of its bytes, and whether a line has an indentation.
    """
    any_bits = np.uint8(0)
    is_indented = after_blank = after_feed = False
    for byte in text:
        any_bits |= byte
        folded = table[byte & np.uint8(127)]
        is_blank = folded == codes.BLANK
        out[at] = folded
        at += 1 - int(is_blank & after_blank)
        is_indented |= after_feed & is_blank & (byte != codes.LINE_FEED)
        after_blank, after_feed = is_blank, byte == codes.LINE_FEED
    return at, any_bits, is_indented


@numba.njit(**INNER_KERNEL)
def _fold_indented(text: NDArray[np.uint8], table: NDArray[np.uint8], out: NDArray[np.uint8], at: int) -> int:
    """Fold a stripped ASCII text with the indentation of its lines; return the end of the folded text."""
    gap = indent = 0  # where the white space before a place begins, and its part on the same line
    for place in range(len(text)):
        byte = table[text[place]]
        if byte == codes.BLANK:
            if text[place] == codes.LINE_FEED:
                indent = place + 1
            continue
        if gap < indent < place:
            out[at] = codes.LINE_FEED
            at += 1
            for byte_of_indent in text[indent:place]:
                out[at] = byte_of_indent
                at += 1
        elif gap < place:
            out[at] = codes.BLANK
            at += 1
        out[at] = byte
        at += 1
        gap = indent = place + 1
    return at
