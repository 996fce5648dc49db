"""Cleaning: texts in their normal form, and the pairs that no rule can save.

`clean(frame, spec)` takes a polars frame with `instruction` and `response` and
returns it with the texts cleaned and three columns more: `outcome` (null for
what stays), `detail` and `score`. All of it is columnar: polars expressions,
and one numba kernel over Arrow buffers for repetition.

Texts, in this order: line terminators become a newline; other control
characters and byte order marks go; in responses, thinking and other
tokenizers' end tags go; white space at both ends goes; NFC. Cleaning a clean
text changes nothing.
"""

import re

import numba
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from corpus.outcome import Outcome
from pipeline.manifest import CleanSpec

STAGE = "clean"

_LINE_ENDS = r"\r\n|[\r\x0b\x0c\u{85}\u{2028}\u{2029}]"
_CONTROLS = r"[\x00-\x08\x0e-\x1f\x7f-\u{9f}\u{feff}]"
_THINK_BLOCK = r"(?is)<think>.*?</think>"
_THINK_WITHOUT_BEGIN = r"(?is)\A.*</think>"


def clean(frame: pl.DataFrame, spec: CleanSpec) -> pl.DataFrame:
    """Clean texts and mark what is dropped.

    Parameters
    ----------
    frame
        With String columns `instruction` and `response`; others pass through.
    spec
        The manifest's rules.

    Returns
    -------
    polars.DataFrame
        The same rows in the same order; `outcome` String (an `Outcome`, or null), `detail` String, `score` Float64.
    """
    frame = frame.with_columns(_plain(pl.col("instruction")), _plain(pl.col("response")))
    frame = frame.with_columns(
        pl.col("instruction").str.strip_chars(), _without_markup(pl.col("response"), spec).str.strip_chars()
    )
    frame = frame.with_columns(_nfc(frame["instruction"]), _nfc(frame["response"]))
    frame = frame.with_columns(outcome=_outcome(spec), detail=_detail(spec), score=pl.lit(None, dtype=pl.Float64))
    return _drop_repetitive(frame, spec)


def _plain(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(_LINE_ENDS, "\n").str.replace_all(_CONTROLS, "")


def _without_markup(response: pl.Expr, spec: CleanSpec) -> pl.Expr:
    if spec.remove_think:
        # What stands before an end without a beginning is thinking too: the beginning was part of a chat template.
        response = response.str.replace_all(_THINK_BLOCK, "").str.replace(_THINK_WITHOUT_BEGIN, "")
    if spec.end_markers:
        markers = "|".join(re.escape(marker) for marker in spec.end_markers)
        response = response.str.replace(rf"(?:\s*(?:{markers}))+\s*\z", "")
    return response


def _nfc(texts: pl.Series) -> pl.Series:
    """NFC; only the few texts with a character that it could change (U+0300 and above) take the slow way."""
    rows = texts.str.contains(r"[^\x00-\u{2ff}]").arg_true()
    if rows.is_empty():
        return texts
    choice = np.arange(len(texts))
    choice[rows.to_numpy()] = np.arange(len(texts), len(texts) + len(rows))
    return pl.concat([texts, texts.gather(rows).str.normalize("NFC")]).gather(choice)


def _outcome(spec: CleanSpec) -> pl.Expr:
    instruction, response = pl.col("instruction"), pl.col("response")
    rules = [
        (instruction.str.len_bytes() == 0, Outcome.EMPTY_INSTRUCTION),
        (response.str.len_bytes() == 0, Outcome.EMPTY_RESPONSE),
    ]
    if spec.remove_think:
        rules.append((response.str.contains("(?i)<think>"), Outcome.UNCLOSED_THINK))
    rules.append((_too_long(spec), Outcome.TOO_LONG))
    outcome = pl.lit(None, dtype=pl.String)
    for condition, reason in reversed(rules):
        outcome = pl.when(condition).then(pl.lit(reason.value)).otherwise(outcome)
    return outcome


def _too_long(spec: CleanSpec) -> pl.Expr:
    instruction = pl.col("instruction").str.len_chars() > spec.max_instruction_chars
    return instruction | (pl.col("response").str.len_chars() > spec.max_response_chars)


def _detail(spec: CleanSpec) -> pl.Expr:
    lengths = pl.format(
        "instruction {} characters (at most {}), response {} (at most {})",
        pl.col("instruction").str.len_chars(),
        spec.max_instruction_chars,
        pl.col("response").str.len_chars(),
        spec.max_response_chars,
    )
    return pl.when(_too_long(spec)).then(lengths).otherwise(pl.lit(None, dtype=pl.String))


def _drop_repetitive(frame: pl.DataFrame, spec: CleanSpec) -> pl.DataFrame:
    if spec.max_repeated >= 1.0:
        return frame
    suspects = frame.select(
        (
            pl.col("outcome").is_null() & (pl.col("response").str.len_bytes() >= max(spec.repetition_min_bytes, 1))
        ).arg_true()
    ).to_series()
    if suspects.is_empty():
        return frame
    shares = repeated_share(frame["response"].gather(suspects), spec.repetition_window)
    hits = shares > spec.max_repeated
    rows = suspects.to_numpy()[hits]
    if len(rows) == 0:
        return frame
    outcome, detail, score = (frame[name].to_list() for name in ("outcome", "detail", "score"))
    for row, share in zip(rows.tolist(), shares[hits].tolist(), strict=True):
        outcome[row], score[row] = Outcome.REPETITIVE.value, share
        detail[row] = f"{share:.0%} of the response stands in it before (at most {spec.max_repeated:.0%})"
    return frame.with_columns(
        pl.Series("outcome", outcome, dtype=pl.String),
        pl.Series("detail", detail, dtype=pl.String),
        pl.Series("score", score, dtype=pl.Float64),
    )


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
