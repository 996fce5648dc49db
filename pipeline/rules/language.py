"""Language: identified by the library py3langid, a naive Bayes classifier over byte n-grams that ships its model."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict

PREFIX_CHARS = 600
"""Length of the beginning of each pair that is classified."""


class Language(Rule):
    """Drop pairs that are, with high confidence, in a language that is not kept."""

    outcome: ClassVar[str] = "language"
    position: ClassVar[int] = 80

    keep: tuple[str, ...] = ("en",)
    """ISO 639-1 codes."""
    min_confidence: float = Field(default=0.95, ge=0.0, le=1.0)
    """Smallest probability of another language that drops a pair."""
    min_chars: int = Field(default=60, ge=1)
    """Pairs with fewer letters pass: short texts cannot be classified."""

    def judge(self, frame: pl.DataFrame) -> Verdict:
        texts = frame.select(pl.col("response") + "\n" + pl.col("instruction")).to_series()
        letters = texts.str.count_matches(r"\p{L}")
        suspects = (letters >= self.min_chars).arg_true().to_numpy().astype(np.int64)
        rows, scores, details = [], [], []
        # A Python loop: the library classifies one text at a time.
        for row, text in zip(suspects.tolist(), texts.gather(suspects).str.slice(0, PREFIX_CHARS), strict=True):
            found, confidence = identifier().classify(text)
            if found not in self.keep and confidence >= self.min_confidence:
                rows.append(row)
                scores.append(float(confidence))
                details.append(f"the pair is in {found!r}; kept are {', '.join(self.keep)}")
        return Verdict(np.array(rows, np.int64), np.array(scores, np.float64), details)


@lru_cache(maxsize=1)
def identifier() -> Any:
    """Return the classifier: `classify(text)` gives an ISO 639-1 code and its probability."""
    from py3langid import langid  # imported late: loading its model takes half a second

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
