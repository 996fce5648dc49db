"""Language of a pair, as the library py3langid tells it: naive Bayes over byte n-grams, its model in the package."""

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from pipeline.rules.spec import LanguageRule
from pipeline.rules.verdict import Verdict

SEEN_CHARS = 600
"""Of each pair the beginning is enough."""


def language(frame: pl.DataFrame, rule: LanguageRule) -> Verdict:
    """Pairs that are surely in a language that is not kept."""
    texts = frame.select(pl.col("response") + "\n" + pl.col("instruction")).to_series()
    letters = texts.str.count_matches(r"\p{L}")
    suspects = (letters >= rule.min_chars).arg_true().to_numpy().astype(np.int64)
    rows, scores, details = [], [], []
    # Per row in Python, as the library is; only where a manifest asks for it.
    for row, text in zip(suspects.tolist(), texts.gather(suspects).str.slice(0, SEEN_CHARS), strict=True):
        found, confidence = _identifier().classify(text)
        if found not in rule.keep and confidence >= rule.min_confidence:
            rows.append(row)
            scores.append(float(confidence))
            details.append(f"the pair is in {found!r}; {', '.join(rule.keep)} are kept")
    return Verdict(np.array(rows, np.int64), np.array(scores, np.float64), details)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid import langid  # loads its model, half a second

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
