"""Cleaning: texts in their normal form, and the pairs that cannot be used at all.

`clean(frame, spec)` takes a polars frame with `instruction` and `response` and returns it with the texts cleaned and
three more columns: `outcome` (null for kept pairs), `detail` and `score`.

Texts, in this order: the manifest's replacements are made; line terminators become a newline; other control characters
and byte order marks are removed; from responses, thinking and other tokenizers' end tags are removed; texts are
stripped of white space; NFC. Without replacements, cleaning a clean text changes nothing.

Each step is a polars expression, which looks only at texts that have bytes of the characters it may change.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from corpus.markup import THINK_BLOCK, THINK_WITHOUT_BEGIN, end_markers_pattern
from corpus.outcome import Outcome
from pipeline.ingest.spec import CleanSpec
from pipeline.text.kinds import EDGE, kinds_of
from pipeline.text.normal import normalized, where

STAGE = "clean"

_LINE_ENDS = r"\r\n|[\r\x0b\x0c\u{85}\u{2028}\u{2029}]"
_CONTROLS = r"[\x00-\x08\x0e-\x1f\x7f-\u{9f}\u{feff}]"
_NOT_NFC = r"[^\x00-\u{2ff}]"
"""Characters that NFC may change: some of those from U+0300 on."""
_THINK_TAG = "(?i)think>"
"""The end of all tags of thinking."""


def _kinds_of_bytes() -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    table[[*b"\r\x0b\x0c", 0xC2, 0xE2]] |= _LINE_END
    table[[*range(0x09), *range(0x0E, 0x20), 0x7F, 0xC2, 0xEF]] |= _CONTROL
    table[0xCC:] |= _NOT_NFC_LEAD
    return table


_LINE_END, _CONTROL, _NOT_NFC_LEAD = 1, 2, 4
"""Bits for bytes, or lead bytes, of characters that match `_LINE_ENDS`, `_CONTROLS` and `_NOT_NFC`."""
_KINDS = _kinds_of_bytes()


def clean(frame: pl.DataFrame, spec: CleanSpec, *, without_response: bool = False) -> pl.DataFrame:
    """Clean texts and mark the pairs to drop.

    Parameters
    ----------
    frame
        String columns `instruction` and `response`; others pass through.
    spec
        The manifest's rules.
    without_response
        Whether a pair may lack a response, as a prompt of an eval source.

    Returns
    -------
    polars.DataFrame
        The same rows in the same order; `outcome` String (an `Outcome`, or null), `detail` String, `score` Float64.
    """
    instruction = _cleaned(frame["instruction"], spec)
    response = _cleaned(frame["response"], spec, lambda text: _without_markup(text, spec))
    frame = frame.with_columns(instruction, response)
    # A text has no more characters than bytes, which are known without a look at it.
    bytes_of_longest = frame.select(pl.col("instruction", "response").str.len_bytes().max()).row(0)
    limits = spec.max_instruction_chars, spec.max_response_chars
    may_be_long = any((size or 0) > limit for size, limit in zip(bytes_of_longest, limits, strict=True))
    return frame.with_columns(
        outcome=_outcome(spec, without_response, may_be_long),
        detail=_detail(spec) if may_be_long else pl.lit(None, dtype=pl.String),
        score=pl.lit(None, dtype=pl.Float64),
    )


_Remove = Callable[[pl.Series], tuple[pl.Series, NDArray[np.bool_]]]


def _cleaned(texts: pl.Series, spec: CleanSpec, remove: _Remove | None = None) -> pl.Series:
    """Return cleaned texts; `remove` takes the markup out of responses, and tells of which."""
    if spec.replace:
        texts = texts.to_frame().select(_replaced(pl.col(texts.name), spec)).to_series()
    kinds = kinds_of(texts, _KINDS)
    texts = where(kinds & _LINE_END != 0, texts, lambda text: text.str.replace_all(_LINE_ENDS, "\n"))
    texts = where(kinds & _CONTROL != 0, texts, lambda text: text.str.replace_all(_CONTROLS, ""))
    may_have_space = kinds & (_LINE_END | _CONTROL | EDGE) != 0
    if remove is not None:
        texts, is_shorter = remove(texts)
        may_have_space |= is_shorter
    texts = where(may_have_space, texts, lambda text: text.str.strip_chars())
    return where(kinds & _NOT_NFC_LEAD != 0, texts, lambda text: normalized(text, "NFC", may_change=_NOT_NFC))


def _replaced(text: pl.Expr, spec: CleanSpec) -> pl.Expr:
    for rule in spec.replace:
        text = text.str.replace_all(rule.pattern, rule.replacement, literal=not rule.regex)
    return text


def _without_markup(texts: pl.Series, spec: CleanSpec) -> tuple[pl.Series, NDArray[np.bool_]]:
    """Return texts without markup, and which may have had some, bool (n,)."""
    tagged = marked = np.zeros(len(texts), np.bool_)
    if spec.remove_think:
        tagged = texts.str.contains(_THINK_TAG).to_numpy()
        texts = where(
            tagged, texts, lambda text: text.str.replace_all(THINK_BLOCK, "").str.replace(THINK_WITHOUT_BEGIN, "")
        )
    if spec.end_markers:
        pattern = end_markers_pattern(spec.end_markers) + r"\z"
        marked = texts.str.contains(pattern).to_numpy()
        texts = where(marked, texts, lambda text: text.str.replace(pattern, ""))
    return texts, tagged | marked


def _outcome(spec: CleanSpec, without_response: bool, may_be_long: bool) -> pl.Expr:
    instruction, response = pl.col("instruction"), pl.col("response")
    rules = [(instruction.str.len_bytes() == 0, Outcome.EMPTY_INSTRUCTION)]
    if not without_response:
        rules.append((response.str.len_bytes() == 0, Outcome.EMPTY_RESPONSE))
    if spec.remove_think:
        rules.append((response.str.contains("(?i)<think>"), Outcome.UNCLOSED_THINK))
    if may_be_long:
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
