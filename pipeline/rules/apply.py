"""Apply the quality rules to a frame of cleaned pairs; each rule sees only the rows that the rules before it kept.

frame ─ repairs ─ rule ─ rule ─ … ─▶ the same rows with outcome, stage, detail and score
"""

import numpy as np
import polars as pl

from pipeline.rules.spec import RulesSpec

STAGE = "rules"


def apply_rules(frame: pl.DataFrame, spec: RulesSpec) -> pl.DataFrame:
    """Apply every enabled rule.

    Parameters
    ----------
    frame
        With String columns `instruction`, `response`, `outcome`, `stage` and `detail`, and Float64 `score`; rows that
        already have an outcome are repaired but not judged.
    spec
        The manifest's rules.

    Returns
    -------
    polars.DataFrame
        The same rows in the same order.
    """
    rules = [rule for rule in spec.rules.values() if rule.enabled]
    texts = frame.select("instruction", "response")
    for rule in rules:
        texts = rule.repair(texts)
    left = frame["outcome"].is_null().arg_true().to_numpy().astype(np.int64)
    dropped = []
    for rule in rules:
        if not len(left):
            break
        verdict = rule.judge(texts[left])
        columns = {
            "index": left[verdict.rows],
            "new_outcome": [rule.outcome] * len(verdict.rows),
            "new_detail": verdict.details,
            "new_score": verdict.scores,
        }
        dropped.append(pl.DataFrame(columns, schema=_DROPPED))
        left = np.delete(left, verdict.rows)
    frame = frame.with_columns(texts.get_columns())
    if not dropped:
        return frame
    is_new = pl.col("new_outcome").is_not_null()
    return (
        frame.with_row_index("index")
        .join(pl.concat(dropped), on="index", how="left", maintain_order="left")
        .with_columns(
            outcome=pl.coalesce("new_outcome", "outcome"),
            stage=pl.when(is_new).then(pl.lit(STAGE)).otherwise("stage"),
            detail=pl.coalesce("new_detail", "detail"),
            score=pl.when(is_new).then(pl.col("new_score").fill_nan(None)).otherwise("score"),
        )
        .select(frame.columns)
    )


_DROPPED = {"index": pl.UInt32, "new_outcome": pl.String, "new_detail": pl.String, "new_score": pl.Float64}
