"""Repetition: responses that repeat themselves, as a model without a stop token does.

Repeated text is counted over all byte windows of a response with a rolling hash, by one numba kernel over Arrow
buffers. It stops at the window from which the share cannot be above the limit any more.
"""

from typing import ClassVar

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict
from pipeline.text.columns import texts_of
from pipeline.text.hash_table import slot_of, slots_for
from pipeline.text.hashing import GOLDEN, U64
from pipeline.text.options import INNER_KERNEL, KERNEL

_LEAST_SLOTS = 512
"""Of the set of a text's windows."""


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
        response = frame["response"]
        suspects = (response.str.len_bytes() >= self.min_bytes).arg_true().to_numpy().astype(np.int64)
        shares = repeated_share(response.gather(suspects), self.window, above=self.max_repeated)
        hits = shares > self.max_repeated
        details = [
            f"{share:.0%} of the response repeats earlier text (at most {self.max_repeated:.0%})"
            for share in shares[hits]
        ]
        return Verdict(suspects[hits], shares[hits], details)


def repeated_share(texts: pl.Series, window: int, *, above: float = 0.0) -> NDArray[np.float64]:
    """Return the share of each text's `window`-byte windows that occur earlier in it.

    Parameters
    ----------
    texts
        String (n,), no nulls.
    window
        Length of a window in bytes of UTF-8.
    above
        Shares that are not above this are not needed: 0 may stand for them.

    Returns
    -------
    float64 (n,)
        0 for a text of fewer than `window` bytes, near 1 for one that repeats itself throughout.
    """
    data, bounds = texts_of(texts.to_arrow().cast(pa.large_string()))
    windows = np.maximum(np.diff(bounds) - window + 1, 0)
    # With so many distinct windows, the share is not above the limit, however the product is rounded.
    most = windows - np.floor(above * windows).astype(np.int64) + 1
    seen = np.empty(slots_for(max(_LEAST_SLOTS, 2 * int(most.max(initial=0)) + 2)), np.uint64)
    shares = np.zeros(len(texts), np.float64)
    _write_shares(data, bounds, window, most, seen, shares)
    return shares


@numba.njit(**KERNEL)
def _write_shares(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    window: int,
    most: NDArray[np.int64],
    seen: U64,
    shares: NDArray[np.float64],
) -> None:
    """Write the shares of texts that repeat a window, of at most `most` distinct ones; `seen` is scratch."""
    leaving = np.uint64(1)  # factor of the byte that leaves the window
    for _ in range(window):
        leaving *= GOLDEN
    for text in range(len(bounds) - 1):
        windows = bounds[text + 1] - bounds[text] - window + 1
        if windows < 1:
            continue
        slots = slots_for(max(_LEAST_SLOTS, 2 * most[text] + 2))
        distinct = _count_distinct(data, bounds[text], bounds[text + 1], window, leaving, most[text], seen[:slots])
        if distinct < most[text]:
            shares[text] = (windows - distinct) / windows


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
