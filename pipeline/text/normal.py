"""Unicode normal forms of columns."""

from typing import Literal

import numpy as np
import polars as pl


def normalized(texts: pl.Series, form: Literal["NFC", "NFKC"], *, may_change: str) -> pl.Series:
    """Texts in a normal form; only those that match the pattern `may_change` are converted, which is slow."""
    rows = texts.str.contains(may_change).arg_true()
    if rows.is_empty():
        return texts
    choice = np.arange(len(texts))
    choice[rows.to_numpy()] = np.arange(len(texts), len(texts) + len(rows))
    return pl.concat([texts, texts.gather(rows).str.normalize(form)]).gather(choice)
