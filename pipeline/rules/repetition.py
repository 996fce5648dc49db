"""Repetition: the share of a response that stood in it before, and how small deflate makes it.

The share is counted over all windows of some bytes by a rolling hash: one numba kernel over Arrow buffers.
"""

import zlib

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.rules.spec import CompressionRule, RepetitionRule
from pipeline.rules.verdict import Verdict


def repetitive(frame: pl.DataFrame, rule: RepetitionRule) -> Verdict:
    """Responses of which more than a share stood in them before."""
    suspects = _at_least(frame["response"], rule.min_bytes)
    shares = repeated_share(frame["response"].gather(suspects), rule.window)
    hits = shares > rule.max_repeated
    details = [
        f"{share:.0%} of the response stands in it before (at most {rule.max_repeated:.0%})" for share in shares[hits]
    ]
    return Verdict(suspects[hits], shares[hits], details)


def compressible(frame: pl.DataFrame, rule: CompressionRule) -> Verdict:
    """Responses that deflate to less than a fraction of their size."""
    suspects = _at_least(frame["response"], rule.min_bytes)
    # Per row in Python: each is one call into zlib, which takes longer than the loop around it.
    texts = [text.encode() for text in frame["response"].gather(suspects)]
    ratios = np.array([len(text) / len(zlib.compress(text, 1)) for text in texts], np.float64)
    hits = ratios > rule.max_ratio
    details = [f"the response deflates to 1/{ratio:.1f} (at least 1/{rule.max_ratio:g})" for ratio in ratios[hits]]
    return Verdict(suspects[hits], ratios[hits], details)


def _at_least(texts: pl.Series, size: int) -> NDArray[np.int64]:
    return (texts.str.len_bytes() >= size).arg_true().to_numpy().astype(np.int64)


def repeated_share(texts: pl.Series, window: int) -> NDArray[np.float64]:
    """Share of each text's windows of `window` bytes that stood in it before.

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
    """Rolling polynomial hash over each text's bytes; a set of the hashes seen, by linear probing."""
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
