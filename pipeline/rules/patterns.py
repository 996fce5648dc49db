"""Rules told by patterns in the texts: echoes, refusals, placeholders, missing inputs, code, odd lengths.

Each is one polars expression over the texts. The patterns name what is meant, not words that only go with it: a
refusal counts where a response begins, a missing input where the instruction has nothing else to work on.
"""

import numpy as np
import polars as pl

from pipeline.rules.spec import CodeRule, EchoRule, LengthRatioRule, MissingInputRule, PlaceholderRule, RefusalRule
from pipeline.rules.verdict import Verdict, taken

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
"""How a response that declines begins."""

PLACEHOLDER_ANYWHERE = (
    r"(?i)\[(?:insert|your|enter|add|fill in|put) [a-z' /]{2,40}\]|<(?:insert|your|enter) [a-z' /]{2,40}>"
    r"|\blorem ipsum dolor\b|\{\{ *(?:insert|your|name|input|output|answer)[a-z_ ]*\}\}"
)
PLACEHOLDER_WHOLE = (
    r"(?i)\A\W*(?:no ?output|no ?response|n/?a|none provided|to be (?:added|filled in|determined)|tbd|todo|placeholder"
    r"|your (?:answer|response|text|code) (?:goes )?here|answer here|\.{2,}|\?+|-+|_+)\W*\z"
)

MISSING_MARKER = (
    r"(?im)^\W*(?:input ?: *)?(?:<?no ?input>?|no input (?:provided|given|needed|required)|none provided)\W*$"
)
MISSING_OBJECT = (
    r"(?i)\b(?:(?:in|from|at|of|with|see|describe|look at|examine|using|based on|analy[sz]e) the (?:(?:following|given|"
    r"attached|provided|above|uploaded|enclosed) )?(?:image|picture|photo|photograph|screenshot|diagram|figure|chart|"
    r"attachment|video|audio(?: file| clip)?)\b(?: (?:below|above|attached|provided|shown))?"
    r"|the (?:attached|uploaded|enclosed) (?:file|document|image|picture|photo|spreadsheet|pdf|text)\b"
    r"|(?:this|the following) (?:image|picture|photo|photograph|screenshot|video|audio(?: file| clip)?|link|url)\b)"
)
HAS_LINK = r"(?i)https?://|www\.|!\[[^\]]*\]\(|<img\b"
MISSING_LINK = (
    r"(?i)\b(?:(?:this|the following|the (?:given|provided|attached)) (?:link|url|website|web page|webpage))\b"
)

CODE_LINE = (
    r"(?m)^(?:```.*|[ \t]*(?:(?:def|class|import|from|return|elif|except|for|while|if|else|try|with|public|private|"
    r"protected|static|void|int|float|double|char|bool|const|let|var|function|func|fn|struct|enum|package|namespace|"
    r"using|switch|case|SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE|FROM|WHERE|#include|#define|echo|sudo|pip|"
    r"git|npm)\b[^.?!\n]*[:;{(,)\]}=\"'>*].*|.*(?:[;{}]|\);|\) *\{|=>|\):)[ \t]*|[A-Za-z_][\w.\[\]]* *[-+*/|&]?= *\S.*|"
    r"[A-Za-z_][\w.]*\(.*\)[ \t]*|</?[a-zA-Z][^<>]*>.*))$"
)
"""A line that looks like program code, mark-up or a shell command."""


def echo(frame: pl.DataFrame, rule: EchoRule) -> Verdict:
    """Responses that are their instruction again."""

    def folded(text: pl.Expr) -> pl.Expr:
        return text.str.replace_all(r"\s+", " ").str.strip_chars().str.to_lowercase()

    def first(text: pl.Expr) -> pl.Expr:
        return text.str.strip_chars().str.head(1).str.to_lowercase().str.head(1)

    instruction, response = pl.col("instruction"), pl.col("response")
    # Most differ in the first letter already, and folding whole texts takes long.
    likely = frame.select(
        (first(instruction) == first(response)) & (response.str.len_chars() >= rule.min_chars)
    ).to_series()
    suspects = likely.arg_true()
    same = frame[suspects].select(folded(instruction) == folded(response)).to_series()
    rows = suspects.filter(same).to_numpy().astype(np.int64)
    return Verdict(rows, np.full(len(rows), np.nan), ["the response is the instruction again"] * len(rows))


def refusal(frame: pl.DataFrame, rule: RefusalRule) -> Verdict:
    """Responses that begin by declining."""
    return _found(frame["response"], REFUSAL, "the response begins")


def placeholder(frame: pl.DataFrame, rule: PlaceholderRule) -> Verdict:
    """Pairs with a text that was to be replaced; in the instruction only the unmistakable ones count."""
    response = frame["response"]
    mask = response.str.contains(PLACEHOLDER_WHOLE) | response.str.contains(PLACEHOLDER_ANYWHERE)
    found = response.filter(mask)
    shown = found.str.extract(f"({PLACEHOLDER_ANYWHERE})").fill_null(found.str.slice(0, 40))
    return taken(mask, [f"the response has {text!r}" for text in shown])


def missing_input(frame: pl.DataFrame, rule: MissingInputRule) -> Verdict:
    """Instructions about an input, picture, attachment or link that the text does not have."""
    instruction = frame["instruction"]
    linked = instruction.str.contains(HAS_LINK)
    marker = instruction.str.contains(MISSING_MARKER)
    absent = instruction.str.contains(MISSING_OBJECT) & ~linked & (instruction.str.len_chars() < SHORT)
    link = instruction.str.contains(MISSING_LINK) & ~linked
    mask = marker | absent | link
    texts = instruction.filter(mask)
    shown = texts.str.extract(f"({MISSING_MARKER})")
    shown = shown.fill_null(texts.str.extract(f"({MISSING_OBJECT})")).fill_null(texts.str.extract(f"({MISSING_LINK})"))
    return taken(mask, [f"the instruction says {text.strip()!r}" for text in shown])


SHORT = 400
"""Characters; a longer instruction about a picture usually describes it."""


def code(frame: pl.DataFrame, rule: CodeRule) -> Verdict:
    """Responses of which more than a share of the lines looks like code."""
    shares = frame.select(
        lines=pl.col("response").str.count_matches(r"(?m)^.*\S.*$"),
        code=pl.col("response").str.count_matches(CODE_LINE),
    ).select((pl.col("code") / pl.col("lines").clip(1)).alias("share"), "lines")
    mask = (shares["share"] > rule.max_share) & (shares["lines"] >= rule.min_lines)
    scores = shares["share"].filter(mask).to_numpy()
    return taken(
        mask, [f"{share:.0%} of the lines are code (at most {rule.max_share:.0%})" for share in scores], scores
    )


def length_ratio(frame: pl.DataFrame, rule: LengthRatioRule) -> Verdict:
    """Responses much longer or shorter than their instruction."""
    ratio = frame.select(pl.col("response").str.len_chars() / pl.col("instruction").str.len_chars().clip(1)).to_series()
    mask = (ratio < rule.min) | (ratio > rule.max)
    scores = ratio.filter(mask).to_numpy()
    details = [
        f"the response has {score:.3g} times the instruction's length ({rule.min:g} to {rule.max:g})"
        for score in scores
    ]
    return taken(mask, details, scores)


def _found(texts: pl.Series, pattern: str, where: str) -> Verdict:
    mask = texts.str.contains(pattern)
    shown = texts.filter(mask).str.extract(f"({pattern})")
    return taken(mask, [f"{where} {text.strip()!r}" for text in shown])
