"""Kinds of characters that texts have, by a table of bytes: one pass that tells which texts need a slower one."""

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.text.columns import large_strings, texts_of
from pipeline.text.options import INNER_KERNEL, KERNEL

EDGE = 128
"""Bit of texts whose first or last byte is white space or not ASCII."""


def kinds_of(texts: pl.Series, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the kinds of bytes that occur in each text.

    Parameters
    ----------
    texts
        String (n,), no nulls.
    table
        uint8 (256,): one bit below 128 for each kind of a byte of UTF-8; 0 for printable ASCII characters, tabs and
        line feeds.

    Returns
    -------
    uint8 (n,)
        The bits of all bytes of a text together, and `EDGE`.
    """
    found = np.zeros(len(texts), np.uint8)
    _write_kinds(*texts_of(large_strings(texts)), table, found)
    return found


@numba.njit(**KERNEL)
def _write_kinds(
    content: NDArray[np.uint8], bounds: NDArray[np.int64], table: NDArray[np.uint8], found: NDArray[np.uint8]
) -> None:
    """Write the kinds of the texts that have any; `found` has zeros."""
    for text in range(len(found)):
        piece = content[bounds[text] : bounds[text + 1]]
        # Without a table, the compiler makes vector instructions of the loop; most texts are plain.
        others = np.uint8(0)
        for byte in piece:
            is_plain = (np.uint8(byte - np.uint8(0x20)) < np.uint8(0x5F)) | (byte == 0x0A) | (byte == 0x09)
            others |= np.uint8(not is_plain)
        if others:
            kinds = np.uint8(0)
            for byte in piece:
                kinds |= table[byte]
            found[text] = kinds
        if len(piece) and (_is_edge(piece[0]) or _is_edge(piece[len(piece) - 1])):
            found[text] |= np.uint8(EDGE)


@numba.njit(**INNER_KERNEL)
def _is_edge(byte: np.uint8) -> bool:
    return bool(byte <= 0x20 or byte >= 0x80)
