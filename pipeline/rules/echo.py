"""Echo: responses that repeat their instruction."""

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict

_BEGIN_CHARS = 8
"""Characters of folded texts that are compared first."""


class Echo(Rule):
    """Drop responses equal to their instruction up to white space and letter case."""

    outcome: ClassVar[str] = "echo"
    position: ClassVar[int] = 40

    enabled: bool = True
    min_chars: int = Field(default=20, ge=1)
    """Shorter responses pass: "Hello!" may answer "Hello!"."""

    def judge(self, frame: pl.DataFrame) -> Verdict:
        instruction, response = pl.col("instruction"), pl.col("response")
        # Most pairs differ in the first letter already; folding whole texts is slow.
        likely = (_first_letter(instruction) == _first_letter(response)) & (response.str.len_chars() >= self.min_chars)
        suspects = frame.select(likely).to_series().arg_true()
        begins = _begin(instruction), _begin(response)
        are_short = (begin.str.len_chars() < _BEGIN_CHARS for begin in begins)
        likely = pl.any_horizontal(begins[0] == begins[1], *are_short)
        suspects = suspects.filter(frame[suspects].select(likely).to_series())
        equal = frame[suspects].select(_folded(instruction) == _folded(response)).to_series()
        rows = suspects.filter(equal).to_numpy().astype(np.int64)
        return Verdict(rows, np.full(len(rows), np.nan), ["the response repeats the instruction"] * len(rows))


def _folded(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(r"\s+", " ").str.strip_chars().str.to_lowercase()


def _begin(text: pl.Expr) -> pl.Expr:
    # The small letter of a sigma depends on what follows it.
    return _folded(text.str.head(8 * _BEGIN_CHARS)).str.replace_all("ς", "σ", literal=True).str.head(_BEGIN_CHARS)


def _first_letter(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().str.head(1).str.to_lowercase().str.head(1)
