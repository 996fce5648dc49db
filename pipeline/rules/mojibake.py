"""Mojibake: UTF-8 that was decoded as another encoding ("cafÃ©" for "café"), repaired by the library ftfy.

ftfy repairs only where encoding the text again and decoding it rightly gives a text (the round trip is the proof), and
only where the original is one that nobody writes on purpose. It works row by row, so only texts with a character
that such damage leaves are shown to it.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.rules.spec import MojibakeRule
from pipeline.rules.verdict import Verdict

SUSPICIOUS = (
    r"[ÂÃÄÅÆÇÎÏÐÑØÙâãäåæçèéêëìíîïðбВГРСџ][\u{80}-\u{bf}\u{152}\u{153}\u{160}\u{161}\u{178}\u{17d}\u{17e}\u{192}"
    r"\u{2c6}\u{2dc}\u{2010}-\u{2044}\u{20ac}\u{2122}]"
)
"""A lead byte of UTF-8 read as Latin-1, Windows-1252 or Windows-1251, and a continuation byte after it."""


def repair(texts: pl.Series) -> tuple[pl.Series, NDArray[np.int64], NDArray[np.int64]]:
    """Repair what a round trip proves to be mojibake.

    Parameters
    ----------
    texts
        String (n,).

    Returns
    -------
    texts
        The same, repaired.
    repaired, broken
        int64: places of texts that were repaired, and of those in which something that looks like mojibake is left.
    """
    from ftfy import fix_encoding  # takes long to import, and most mixes do not switch the rule on
    from ftfy.badness import is_bad

    suspects = texts.str.contains(SUSPICIOUS).arg_true().to_numpy().astype(np.int64)
    before = texts.gather(suspects).to_list()
    after = [fix_encoding(text) for text in before]
    repaired = suspects[[a != b for a, b in zip(before, after, strict=True)]]
    broken = suspects[[is_bad(text) for text in after]]
    if len(repaired):
        texts = texts.scatter(suspects, pl.Series(after, dtype=pl.String))
    return texts, repaired, broken


def repair_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Both texts of every row repaired."""
    return frame.with_columns(*(repair(frame[name])[0].alias(name) for name in ("instruction", "response")))


def mojibake(frame: pl.DataFrame, rule: MojibakeRule) -> Verdict:
    """Rows in which something looks like mojibake and cannot be repaired."""
    if not rule.drop:
        return Verdict(np.empty(0, np.int64), np.empty(0), [])
    where = {name: repair(frame[name])[2] for name in ("instruction", "response")}
    rows = np.union1d(*where.values())
    response = set(where["response"].tolist())
    details = [
        f"the {'response' if row in response else 'instruction'} has text of a wrong encoding, beyond repair"
        for row in rows.tolist()
    ]
    return Verdict(rows, np.full(len(rows), np.nan), details)
