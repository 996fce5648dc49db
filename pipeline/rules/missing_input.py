"""Missing input: instructions about an input, image, attachment or link that the text does not contain."""

from typing import ClassVar

import polars as pl

from pipeline.rules.rule import Rule, Verdict

MARKER = r"(?im)^\W*(?:input ?: *)?(?:<?no ?input>?|no input (?:provided|given|needed|required)|none provided)\W*$"
OBJECT = (
    r"(?i)\b(?:(?:in|from|at|of|with|see|describe|look at|examine|using|based on|analy[sz]e) the (?:(?:following|given|"
    r"attached|provided|above|uploaded|enclosed) )?(?:image|picture|photo|photograph|screenshot|diagram|figure|chart|"
    r"attachment|video|audio(?: file| clip)?)\b(?: (?:below|above|attached|provided|shown))?"
    r"|the (?:attached|uploaded|enclosed) (?:file|document|image|picture|photo|spreadsheet|pdf|text)\b"
    r"|(?:this|the following) (?:image|picture|photo|photograph|screenshot|video|audio(?: file| clip)?|link|url)\b)"
)
HAS_LINK = r"(?i)https?://|www\.|!\[[^\]]*\]\(|<img\b"
LINK = r"(?i)\b(?:(?:this|the following|the (?:given|provided|attached)) (?:link|url|website|web page|webpage))\b"
MAX_CHARS = 400
"""A longer instruction about an image usually describes it."""


class MissingInput(Rule):
    """Drop instructions about something that is absent: "No input", an image, an attachment."""

    outcome: ClassVar[str] = "missing_input"
    position: ClassVar[int] = 70

    def judge(self, frame: pl.DataFrame) -> Verdict:
        instruction = frame["instruction"]
        linked = instruction.str.contains(HAS_LINK)
        mask = (
            instruction.str.contains(MARKER)
            | (instruction.str.contains(OBJECT) & ~linked & (instruction.str.len_chars() < MAX_CHARS))
            | (instruction.str.contains(LINK) & ~linked)
        )
        texts = instruction.filter(mask)
        found = texts.str.extract(f"({MARKER})")
        found = found.fill_null(texts.str.extract(f"({OBJECT})")).fill_null(texts.str.extract(f"({LINK})"))
        return Verdict.of(mask, [f"the instruction says {text.strip()!r}" for text in found])
