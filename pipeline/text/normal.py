"""Changes of some texts of a column: Unicode normal forms, and any function that is slow or rarely needed."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray


def where(chosen: NDArray[np.bool_], texts: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Return the texts with `change` applied to the chosen ones.

    Parameters
    ----------
    chosen
        bool (n,).
    texts
        String (n,).
    change
        Function from some texts to as many.
    """
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return texts
    if len(rows) == len(texts):
        return change(texts)
    choice = np.arange(len(texts))
    choice[rows] = np.arange(len(texts), len(texts) + len(rows))
    return pl.concat([texts, change(texts.gather(rows))]).gather(choice)


def normalized(texts: pl.Series, form: Literal["NFC", "NFKC"], *, may_change: str) -> pl.Series:
    """Texts in a normal form; only those that match the pattern `may_change` are converted, which is slow."""
    return where(texts.str.contains(may_change).to_numpy(), texts, lambda some: some.str.normalize(form))
