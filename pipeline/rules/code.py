"""Code: responses that are mostly program code."""

from typing import ClassVar

import polars as pl
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict

CODE_LINE = (
    r"(?m)^(?:```.*|[ \t]*(?:(?:def|class|import|from|return|elif|except|for|while|if|else|try|with|public|private|"
    r"protected|static|void|int|float|double|char|bool|const|let|var|function|func|fn|struct|enum|package|namespace|"
    r"using|switch|case|SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE|FROM|WHERE|#include|#define|echo|sudo|pip|"
    r"git|npm)\b[^.?!\n]*[:;{(,)\]}=\"'>*].*|.*(?:[;{}]|\);|\) *\{|=>|\):)[ \t]*|[A-Za-z_][\w.\[\]]* *[-+*/|&]?= *\S.*|"
    r"[A-Za-z_][\w.]*\(.*\)[ \t]*|</?[a-zA-Z][^<>]*>.*))$"
)
"""A line that looks like program code, mark-up or a shell command."""


class Code(Rule):
    """Drop pairs in which more than a share of the response's lines looks like program code."""

    outcome: ClassVar[str] = "code"
    position: ClassVar[int] = 90

    max_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Largest share of code among a response's non-blank lines."""
    min_lines: int = Field(default=4, ge=1)
    """Responses with fewer lines pass."""

    def judge(self, frame: pl.DataFrame) -> Verdict:
        lines = frame["response"].str.count_matches(r"(?m)^.*\S.*$")
        share = frame["response"].str.count_matches(CODE_LINE) / lines.clip(1)
        mask = (share > self.max_share) & (lines >= self.min_lines)
        scores = share.filter(mask).to_numpy()
        details = [f"{score:.0%} of the lines are code (at most {self.max_share:.0%})" for score in scores]
        return Verdict.of(mask, details, scores)
