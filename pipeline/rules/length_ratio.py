"""Length ratio: responses much longer or shorter than their instruction."""

from typing import ClassVar, Self

import polars as pl
from pydantic import Field, model_validator

from pipeline.rules.rule import Rule, Verdict


class LengthRatio(Rule):
    """Drop pairs by the ratio of the response's characters to the instruction's."""

    outcome: ClassVar[str] = "length_ratio"
    position: ClassVar[int] = 100

    min: float = Field(default=0.0, ge=0.0)
    """Smallest ratio that passes."""
    max: float = Field(default=1000.0, gt=0.0)
    """Largest ratio that passes."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} must be smaller than max {self.max}")
        return self

    def judge(self, frame: pl.DataFrame) -> Verdict:
        ratio = frame["response"].str.len_chars() / frame["instruction"].str.len_chars().clip(1)
        mask = (ratio < self.min) | (ratio > self.max)
        scores = ratio.filter(mask).to_numpy()
        details = [
            f"the response has {score:.3g} times the instruction's length ({self.min:g} to {self.max:g})"
            for score in scores
        ]
        return Verdict.of(mask, details, scores)
