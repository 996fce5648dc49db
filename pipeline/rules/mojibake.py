"""Mojibake: UTF-8 that was decoded with another encoding ("cafÃ©" for "café"), repaired by the library ftfy.

ftfy repairs a text only where encoding it again and decoding it as UTF-8 succeeds, and only where the original is
implausible. It works row by row, so it only sees texts with characters that such damage leaves.
"""

from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.rules.rule import Rule, Verdict

SUSPICIOUS = (
    r"[ÂÃÄÅÆÇÎÏÐÑØÙâãäåæçèéêëìíîïðбВГРСџ][\u{80}-\u{bf}\u{152}\u{153}\u{160}\u{161}\u{178}\u{17d}\u{17e}\u{192}"
    r"\u{2c6}\u{2dc}\u{2010}-\u{2044}\u{20ac}\u{2122}]"
)
"""A lead byte of UTF-8 read as Latin-1, Windows-1252 or Windows-1251, and a continuation byte after it."""


class Mojibake(Rule):
    """Repair text that was decoded with a wrong encoding, and drop pairs that cannot be repaired."""

    outcome: ClassVar[str] = "mojibake"
    position: ClassVar[int] = 10

    drop: bool = True
    """Drop the pair when suspicious text remains; otherwise keep it unrepaired."""

    def repair(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(repair(frame[name])[0].alias(name) for name in ("instruction", "response"))

    def judge(self, frame: pl.DataFrame) -> Verdict:
        if not self.drop:
            return Verdict(np.empty(0, np.int64), np.empty(0), [])
        broken = {name: repair(frame[name])[2] for name in ("instruction", "response")}
        rows = np.union1d(*broken.values())
        response = set(broken["response"].tolist())
        details = [
            f"the {'response' if row in response else 'instruction'} has wrongly decoded text beyond repair"
            for row in rows.tolist()
        ]
        return Verdict(rows, np.full(len(rows), np.nan), details)


def repair(texts: pl.Series) -> tuple[pl.Series, NDArray[np.int64], NDArray[np.int64]]:
    """Repair mojibake where decoding it correctly succeeds.

    Parameters
    ----------
    texts
        String (n,).

    Returns
    -------
    texts
        The same texts, repaired.
    repaired, broken
        int64: indices of the texts that were repaired, and of those that still look like mojibake.
    """
    from ftfy import fix_encoding  # imported late: it is slow to import, and most mixes do not enable the rule
    from ftfy.badness import is_bad

    suspects = texts.str.contains(SUSPICIOUS).arg_true().to_numpy().astype(np.int64)
    before = texts.gather(suspects).to_list()
    after = [fix_encoding(text) for text in before]
    repaired = suspects[[a != b for a, b in zip(before, after, strict=True)]]
    broken = suspects[[is_bad(text) for text in after]]
    if len(repaired):
        texts = texts.scatter(suspects, pl.Series(after, dtype=pl.String))
    return texts, repaired, broken
