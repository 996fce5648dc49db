"""All rules of a manifest on a frame of cleaned pairs, each shown only what those before it left.

frame ─ mojibake repaired ─ rule ─ rule ─ … ─▶ the same rows, with outcome, stage, detail and score where one was taken
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from corpus.outcome import Outcome
from pipeline.rules.language import language
from pipeline.rules.mojibake import mojibake, repair_frame
from pipeline.rules.patterns import code, echo, length_ratio, missing_input, placeholder, refusal
from pipeline.rules.repetition import compressible, repetitive
from pipeline.rules.spec import RulesSpec
from pipeline.rules.verdict import Verdict

STAGE = "rules"

RULES: Mapping[str, tuple[Callable[[pl.DataFrame, Any], Verdict], Outcome]] = {
    "mojibake": (mojibake, Outcome.MOJIBAKE),
    "repetition": (repetitive, Outcome.REPETITIVE),
    "compression": (compressible, Outcome.COMPRESSIBLE),
    "echo": (echo, Outcome.ECHO),
    "refusal": (refusal, Outcome.REFUSAL),
    "placeholder": (placeholder, Outcome.PLACEHOLDER),
    "missing_input": (missing_input, Outcome.MISSING_INPUT),
    "language": (language, Outcome.LANGUAGE),
    "code": (code, Outcome.CODE),
    "length_ratio": (length_ratio, Outcome.LENGTH_RATIO),
}
"""Each rule's function and what the ledger calls its drops, by its name in the manifest, in order of application."""


def apply_rules(frame: pl.DataFrame, spec: RulesSpec) -> pl.DataFrame:
    """Apply every rule that is switched on.

    Parameters
    ----------
    frame
        With String columns `instruction`, `response`, `outcome`, `stage` and `detail`, and Float64 `score`; rows that
        have an outcome already are left alone.
    spec
        The manifest's rules.

    Returns
    -------
    polars.DataFrame
        The same rows in the same order.
    """
    alive = frame["outcome"].is_null().arg_true().to_numpy().astype(np.int64)
    texts = frame.select("instruction", "response")
    if spec.mojibake.enabled:
        texts = repair_frame(texts)
        frame = frame.with_columns(texts.get_columns())
    marks: dict[int, tuple[str, str, float]] = {}
    for name, (rule, outcome) in RULES.items():
        settings = getattr(spec, name)
        if not settings.enabled or not len(alive):
            continue
        verdict = rule(texts[alive], settings)
        places = alive[verdict.rows]
        for row, detail, score in zip(places.tolist(), verdict.details, verdict.scores.tolist(), strict=True):
            marks[row] = (outcome.value, detail, score)
        alive = np.delete(alive, verdict.rows)
    if not marks:
        return frame
    taken = pl.DataFrame(
        {
            "place": list(marks),
            "by": [mark[0] for mark in marks.values()],
            "why": [mark[1] for mark in marks.values()],
            "value": [mark[2] for mark in marks.values()],
        },
        schema={"place": pl.UInt32, "by": pl.String, "why": pl.String, "value": pl.Float64},
    )
    joined = frame.with_row_index("place").join(taken, on="place", how="left", maintain_order="left")
    return joined.with_columns(
        outcome=pl.coalesce("by", "outcome"),
        stage=pl.when(pl.col("by").is_null()).then("stage").otherwise(pl.lit(STAGE)),
        detail=pl.coalesce("why", "detail"),
        score=pl.when(pl.col("by").is_null()).then("score").otherwise(pl.col("value").fill_nan(None)),
    ).drop("place", "by", "why", "value")
