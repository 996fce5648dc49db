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
    out, ends, plain = _fold_ascii(*texts_of(texts), _FOLDED if case else _COLLAPSED)
    content, edges = out.tobytes(), ends.tolist()
    folded = [content[begin:end] for begin, end in pairwise(edges)]
    for row in np.flatnonzero(~plain).tolist():
        folded[row] = fold(texts[row].as_py(), case=case)
    return folded


@numba.njit(cache=True, nogil=True)
def _fold_ascii(
    content: NDArray[np.uint8], bounds: NDArray[np.int64], table: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Folded texts one after the other, their bounds (n + 1,), and whether each is ASCII (n,); others are empty."""
    out = np.empty(bounds[-1] - bounds[0], np.uint8)
    ends = np.zeros(len(bounds), np.int64)
    plain = np.ones(len(bounds) - 1, np.bool_)
    for row in range(len(bounds) - 1):
        begin = at = ends[row]
        gap = indent = bounds[row]  # where the white space before a place begins, and its part on the same line
        for place in range(bounds[row], bounds[row + 1]):
            byte = content[place]
            if byte >= 128:
                plain[row] = False
                at = begin
                break
            byte = table[byte]
            if byte == codes.BLANK:
                if content[place] == codes.LINE_FEED:
                    indent = place + 1
                continue
            if at > begin and gap < place:
                if gap < indent < place:
                    out[at] = codes.LINE_FEED
                    out[at + 1 : at + 1 + place - indent] = content[indent:place]
                    at += 1 + place - indent
                else:
                    out[at] = codes.BLANK
                    at += 1
            out[at] = byte
            at += 1
            gap = indent = place + 1
        ends[row + 1] = at
    return out[: ends[-1]], ends, plain
