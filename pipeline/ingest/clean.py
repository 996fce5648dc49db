"""Cleaning: texts in their normal form, and the pairs that cannot be used at all.

`clean(frame, spec)` takes a polars frame with `instruction` and `response` and returns it with the texts cleaned and
three more columns: `outcome` (null for kept pairs), `detail` and `score`. All of it is polars expressions.

Texts, in this order: the manifest's replacements are made; line terminators become a newline; other control characters
and byte order marks are removed; from responses, thinking and other tokenizers' end tags are removed; texts are
stripped of white space; NFC. Without replacements, cleaning a clean text changes nothing.
"""

import polars as pl

from corpus.markup import THINK_BLOCK, THINK_WITHOUT_BEGIN, end_markers_pattern
from corpus.outcome import Outcome
from pipeline.ingest.spec import CleanSpec
from pipeline.text.normal import normalized

STAGE = "clean"

_LINE_ENDS = r"\r\n|[\r\x0b\x0c\u{85}\u{2028}\u{2029}]"
_CONTROLS = r"[\x00-\x08\x0e-\x1f\x7f-\u{9f}\u{feff}]"
_NOT_NFC = r"[^\x00-\u{2ff}]"
"""Characters that NFC may change: some of those from U+0300 on."""


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
    frame = frame.with_columns(_plain(_replaced(pl.col(name), spec)) for name in ("instruction", "response"))
    frame = frame.with_columns(
        pl.col("instruction").str.strip_chars(), _without_markup(pl.col("response"), spec).str.strip_chars()
    )
    frame = frame.with_columns(
        normalized(frame[name], "NFC", may_change=_NOT_NFC) for name in ("instruction", "response")
    )
    outcome = _outcome(spec, without_response)
    return frame.with_columns(outcome=outcome, detail=_detail(spec), score=pl.lit(None, dtype=pl.Float64))


def _replaced(text: pl.Expr, spec: CleanSpec) -> pl.Expr:
    for rule in spec.replace:
        text = text.str.replace_all(rule.pattern, rule.replacement, literal=not rule.regex)
    return text


def _plain(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(_LINE_ENDS, "\n").str.replace_all(_CONTROLS, "")


def _without_markup(response: pl.Expr, spec: CleanSpec) -> pl.Expr:
    if spec.remove_think:
        response = response.str.replace_all(THINK_BLOCK, "").str.replace(THINK_WITHOUT_BEGIN, "")
    if spec.end_markers:
        response = response.str.replace(end_markers_pattern(spec.end_markers) + r"\z", "")
    return response


def _outcome(spec: CleanSpec, without_response: bool) -> pl.Expr:
    instruction, response = pl.col("instruction"), pl.col("response")
    rules = [(instruction.str.len_bytes() == 0, Outcome.EMPTY_INSTRUCTION)]
    if not without_response:
        rules.append((response.str.len_bytes() == 0, Outcome.EMPTY_RESPONSE))
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
