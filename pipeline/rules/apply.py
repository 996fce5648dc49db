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
    outcome, stage, detail, score = frame.select("outcome", "stage", "detail", "score").get_columns()
    for rule in rules:
        verdict = rule.judge(texts if len(left) == len(texts) else texts[left])
        if not len(verdict.rows):
            continue
        dropped = pl.Series(left[verdict.rows])
        outcome = outcome.scatter(dropped, rule.outcome)
        stage = stage.scatter(dropped, STAGE)
        detail = detail.scatter(dropped, pl.Series(verdict.details, dtype=pl.String))
        score = score.scatter(dropped, pl.Series(verdict.scores).fill_nan(None))
        left = np.delete(left, verdict.rows)
    return frame.with_columns(*texts.get_columns(), outcome, stage, detail, score)
