"""What a rule says about the rows it was shown."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Verdict(NamedTuple):
    """The rows a rule takes, of the n it was shown."""

    rows: NDArray[np.int64]
    """Their places, ascending, (m,)."""
    scores: NDArray[np.float64]
    """What was compared with the rule's threshold, (m,); NaN where there is no number."""
    details: Sequence[str]
    """What was found, in a sentence each, m of them."""


def taken(mask: pl.Series, details: Sequence[str] | str, scores: NDArray[np.float64] | None = None) -> Verdict:
    """A verdict from a bool per row; `details` is one sentence for all, or one for each row that is taken."""
    rows = mask.fill_null(False).arg_true().to_numpy().astype(np.int64)
    if isinstance(details, str):
        details = [details] * len(rows)
    return Verdict(rows, np.full(len(rows), np.nan) if scores is None else scores, details)
