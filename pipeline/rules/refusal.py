"""Refusal: responses that begin by declining."""

from typing import ClassVar

import polars as pl

from pipeline.rules.rule import Rule, Verdict

REFUSAL = (
    r"(?i)\A\W*(?:(?:i['’]?m|i am) (?:very |really |truly |so )?(?:sorry|afraid)[,.!;:]?(?: but| that)?,? "
    r"(?:(?:as an? )?(?:ai\b|(?:large )?language model)|i (?:can(?:no|['’])t|am unable|am not able"
    r"|do(?: no|n['’])t have|won['’]t|must decline)|i['’]m (?:unable|not able))"
    r"|(?:sorry|apologies|unfortunately|regrettably)[,.!]?(?: but)?,? (?:as an? (?:ai\b|(?:large )?language model)"
    r"|i (?:can(?:no|['’])t (?:help|assist|provide|fulfill|comply|do that|answer|generate|create|access|complete)"
    r"|am (?:unable|not able) to))"
    r"|i (?:apologi[sz]e|must apologi[sz]e)[,.]? but (?:i |as an )"
    r"|as an? (?:ai\b|artificial intelligence|(?:large )?language model)"
    r"|i (?:cannot|can['’]t|am unable to|am not able to|won['’]t) (?:help|assist|fulfill|comply|provide assistance)"
    r"(?: you)?(?: with)? (?:that|this|your|the) )"
)
"""Beginning of a response that declines. Refusing words later in a response do not count."""


class Refusal(Rule):
    """Drop responses that begin by declining or by talking about being an AI."""

    outcome: ClassVar[str] = "refusal"
    position: ClassVar[int] = 50

    def judge(self, frame: pl.DataFrame) -> Verdict:
        mask = frame["response"].str.contains(REFUSAL)
        found = frame["response"].filter(mask).str.extract(f"({REFUSAL})")
        return Verdict.of(mask, [f"the response begins {text.strip()!r}" for text in found])
