"""Compression: responses that deflate makes very small, which are repetitive with small changes."""

import zlib
from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict


class Compression(Rule):
    """Drop responses that compress too well."""

    outcome: ClassVar[str] = "compressible"
    position: ClassVar[int] = 30

    max_ratio: float = Field(default=8.0, gt=1.0)
    """Largest ratio of a response's bytes to its deflated bytes. Prose has 2 to 3, tables and code up to 6."""
    min_bytes: int = Field(default=400, ge=1)
    """Shorter responses pass."""

    def judge(self, frame: pl.DataFrame) -> Verdict:
        response = frame["response"]
        suspects = (response.str.len_bytes() >= self.min_bytes).arg_true().to_numpy().astype(np.int64)
        # A Python loop: each row is one call into zlib, which takes longer than the loop around it.
        texts = [text.encode() for text in response.gather(suspects)]
        ratios = np.array([len(text) / len(zlib.compress(text, 1)) for text in texts], np.float64)
        hits = ratios > self.max_ratio
        details = [f"the response deflates to 1/{ratio:.1f} (at least 1/{self.max_ratio:g})" for ratio in ratios[hits]]
        return Verdict(suspects[hits], ratios[hits], details)
