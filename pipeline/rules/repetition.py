"""Repetition: responses that repeat themselves, as a model without a stop token does.

Repeated text is counted over all byte windows of a response with a rolling hash, by one numba kernel over Arrow
buffers.
"""

from typing import ClassVar

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict


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
        shares = repeated_share(response.gather(suspects), self.window)
        hits = shares > self.max_repeated
        details = [
            f"{share:.0%} of the response repeats earlier text (at most {self.max_repeated:.0%})"
            for share in shares[hits]
        ]
        return Verdict(suspects[hits], shares[hits], details)


def repeated_share(texts: pl.Series, window: int) -> NDArray[np.float64]:
    """Return the share of each text's `window`-byte windows that occur earlier in it.

    Parameters
    ----------
    texts
        String (n,), no nulls.
    window
        Length of a window in bytes of UTF-8.

    Returns
    -------
    float64 (n,)
        0 for a text of fewer than `window` bytes, near 1 for one that repeats itself throughout.
    """
    array = texts.to_arrow().cast(pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return _repeated_share(content, bounds, window)


@numba.njit(cache=True, nogil=True)
def _repeated_share(content: NDArray[np.uint8], bounds: NDArray[np.int64], window: int) -> NDArray[np.float64]:
    """Hash all windows of each text (rolling polynomial), and count those already in an open-addressing set."""
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    leaving = np.uint64(1)
    for _ in range(window):
        leaving *= multiplier
    shares = np.zeros(len(bounds) - 1, np.float64)
    seen = np.zeros(1024, np.uint64)
    for text in range(len(bounds) - 1):
        begin, end = bounds[text], bounds[text + 1]
        windows = end - begin - window + 1
        if windows < 1:
            continue
        slots = 1024
        while slots < 2 * windows:
            slots *= 2
        if len(seen) < slots:
            seen = np.zeros(slots, np.uint64)
        else:
            seen[:slots] = 0
        mask = np.uint64(slots - 1)
        rolling = np.uint64(0)
        repeated = 0
        for position in range(begin, end):
            rolling = rolling * multiplier + np.uint64(content[position]) + np.uint64(1)
            if position - begin >= window:
                rolling -= leaving * (np.uint64(content[position - window]) + np.uint64(1))
            if position - begin < window - 1:
                continue
            mark = (rolling ^ (rolling >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) | np.uint64(1)
            slot = (mark >> np.uint64(32)) & mask
            while seen[slot] != 0 and seen[slot] != mark:
                slot = (slot + np.uint64(1)) & mask
            if seen[slot] == mark:
                repeated += 1
            else:
                seen[slot] = mark
        shares[text] = repeated / windows
    return shares
