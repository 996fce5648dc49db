"""Repetition: responses that repeat themselves, as a model without a stop token does.

Repeated text is counted over all byte windows of a response with a rolling hash, by one numba kernel over Arrow
buffers. It stops at the window from which the share cannot be above the limit any more.
"""

from typing import ClassVar

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict
from pipeline.text.columns import large_strings, texts_of
from pipeline.text.hash_table import slot_of, slots_for
from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL, KERNEL

_LEAST_SLOTS = 512
"""Of the set of a text's windows."""
_FLAGS = 4
"""Flags for each distinct window that is looked for."""


class Repetition(Rule):
    """Drop responses of which more than a share repeats earlier text."""

    outcome: ClassVar[str] = "repetitive"
    position: ClassVar[int] = 20

    enabled: bool = True
    max_repeated: float = Field(default=0.7, ge=0.0, le=1.0)
    """Largest share of a response's `window`-byte windows that occur earlier in it."""
    window: int = Field(default=32, ge=4, le=1024)
    """Bytes of UTF-8."""
    min_bytes: int = Field(default=400, ge=1)
    """Shorter responses pass."""

    def judge(self, frame: pl.DataFrame) -> Verdict:
        shares = repeated_share(frame["response"], self.window, above=self.max_repeated, min_bytes=self.min_bytes)
        rows = np.flatnonzero(shares > self.max_repeated)
        details = [
            f"{share:.0%} of the response repeats earlier text (at most {self.max_repeated:.0%})"
            for share in shares[rows]
        ]
        return Verdict(rows, shares[rows], details)


def repeated_share(texts: pl.Series, window: int, *, above: float = 0.0, min_bytes: int = 0) -> NDArray[np.float64]:
    """Return the share of each text's `window`-byte windows that occur earlier in it.

    Parameters
    ----------
    texts
        String (n,), no nulls.
    window
        Length of a window in bytes of UTF-8.
    above
        Shares that are not above this are not needed: 0 may stand for them.
    min_bytes
        Shorter texts have the share 0.

    Returns
    -------
    float64 (n,)
        0 for a text of fewer than `window` bytes, near 1 for one that repeats itself throughout.
    """
    data, bounds = texts_of(large_strings(texts))
    sizes = np.diff(bounds)
    windows = np.where(sizes < min_bytes, 0, np.maximum(sizes - window + 1, 0))
    # With so many distinct windows, the share is not above the limit, however the product is rounded.
    most = windows - np.floor(above * windows).astype(np.int64) + 1
    longest = int(most.max(initial=0))
    flags = np.empty(slots_for(_FLAGS * longest), np.bool_)
    seen = np.empty(slots_for(max(_LEAST_SLOTS, 2 * longest + 2)), np.uint64)
    shares = np.zeros(len(texts), np.float64)
    _write_shares(data, bounds, window, windows, most, flags, seen, shares)
    return shares


@numba.njit(**KERNEL)
def _write_shares(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    window: int,
    windows: NDArray[np.int64],
    most: NDArray[np.int64],
    flags: NDArray[np.bool_],
    seen: U64,
    shares: NDArray[np.float64],
) -> None:
    """Write the shares of texts that repeat a window, of at most `most` distinct ones.

    `windows` are the numbers of windows to look at; `flags` and `seen` are scratch.
    """
    leaving = np.uint64(1)  # factor of the byte that leaves the window
    for _ in range(window):
        leaving *= GOLDEN
    for text in range(len(windows)):
        if windows[text] < 1:
            continue
        piece = data[bounds[text] : bounds[text + 1]]
        if _has_distinct(piece, window, most[text], flags[: slots_for(_FLAGS * most[text])]):
            continue
        slots = slots_for(max(_LEAST_SLOTS, 2 * most[text] + 2))
        distinct = _count_distinct(data, bounds[text], bounds[text + 1], window, leaving, most[text], seen[:slots])
        if distinct < most[text]:
            shares[text] = (windows[text] - distinct) / windows[text]


@numba.njit(**INNER_KERNEL)
def _has_distinct(text: NDArray[np.uint8], window: int, most: int, flags: NDArray[np.bool_]) -> bool:
    """Whether a text has certainly `most` distinct windows: windows that end differently are distinct.

    The last bytes of a window, up to eight, set one of the flags, whose number is a power of two; those that set the
    same one are counted once.
    """
    flags[:] = False
    mask, shift = np.uint64(len(flags) - 1), np.uint64(8)
    unused = np.uint64(64 - 8 * min(window, 8))
    last = np.uint64(0)
    for byte in text[: window - 1]:
        last = last << shift | np.uint64(byte)
    distinct = 0
    for byte in text[window - 1 :]:
        last = last << shift | np.uint64(byte)
        key = (last << unused) * GOLDEN
        slot = (key >> np.uint64(32)) & mask
        distinct += int(not flags[slot])
        flags[slot] = True
        if distinct == most:
            return True
    return False


@numba.njit(**INNER_KERNEL)
def _count_distinct(
    data: NDArray[np.uint8], begin: int, end: int, window: int, leaving: np.uint64, most: int, seen: U64
) -> int:
    """Hash the windows of a text (rolling polynomial) and count the distinct ones, up to `most`.

    `seen` is a set of hashes, which is emptied first.
    """
    seen[:] = 0
    rolling = np.uint64(0)
    distinct = 0
    for position in range(begin, end):
        rolling = rolling * GOLDEN + np.uint64(data[position]) + np.uint64(1)
        if position - begin >= window:
            rolling -= leaving * (np.uint64(data[position - window]) + np.uint64(1))
        if position - begin >= window - 1:
            key = (rolling ^ (rolling >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) | np.uint64(1)
            slot = slot_of(seen, key, key >> np.uint64(32))
            if seen[slot] != key:
                seen[slot] = key
                distinct += 1
                if distinct == most:
                    break
    return distinct
