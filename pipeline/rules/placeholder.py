"""Placeholder: responses with text that their author meant to replace."""

from typing import ClassVar

import polars as pl

from pipeline.rules.rule import Rule, Verdict

ANYWHERE = (
    r"(?i)\[(?:insert|your|enter|add|fill in|put) [a-z' /]{2,40}\]|<(?:insert|your|enter) [a-z' /]{2,40}>"
    r"|\blorem ipsum dolor\b|\{\{ *(?:insert|your|name|input|output|answer)[a-z_ ]*\}\}"
)
WHOLE = (
    r"(?i)\A\W*(?:no ?output|no ?response|n/?a|none provided|to be (?:added|filled in|determined)|tbd|todo|placeholder"
    r"|your (?:answer|response|text|code) (?:goes )?here|answer here|\.{2,}|\?+|-+|_+)\W*\z"
)


class Placeholder(Rule):
    """Drop responses that are or contain a placeholder: "[insert name]", "lorem ipsum", "N/A"."""

    outcome: ClassVar[str] = "placeholder"
    position: ClassVar[int] = 60

    def judge(self, frame: pl.DataFrame) -> Verdict:
        response = frame["response"]
        mask = response.str.contains(WHOLE) | response.str.contains(ANYWHERE)
        found = response.filter(mask)
        found = found.str.extract(f"({ANYWHERE})").fill_null(found.str.slice(0, 40))
        return Verdict.of(mask, [f"the response has {text!r}" for text in found])
