"""The base class of quality rules, and the result of a rule's judgement.

A rule is one class in one file: its fields are its keys in the manifest's `rules:`, `outcome` is the reason that the
ledger gives for its drops, `judge` finds the rows to drop. The file's name is the rule's name in the manifest. A rule
can also live in a file beside the manifest, which then names it as `module:Class`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from corpus.config import Config


class Verdict(NamedTuple):
    """The rows that a rule drops, out of the n rows it was given."""

    rows: NDArray[np.int64]
    """Indices of the rows, ascending, (m,)."""
    scores: NDArray[np.float64]
    """The values compared with the rule's threshold, (m,); NaN where there is none."""
    details: Sequence[str]
    """What was found, one sentence per row, (m,)."""

    @classmethod
    def of(cls, mask: pl.Series, details: Sequence[str] | str, scores: NDArray[np.float64] | None = None) -> Self:
        """Build a verdict from a mask.

        Parameters
        ----------
        mask
            Boolean (n,); null counts as False.
        details
            One sentence for all rows, or one per dropped row.
        scores
            One per dropped row; None for no scores.
        """
        rows = mask.fill_null(False).arg_true().to_numpy().astype(np.int64)
        sentences = [details] * len(rows) if isinstance(details, str) else details
        return cls(rows, np.full(len(rows), np.nan) if scores is None else scores, sentences)


class Rule(Config):
    """A quality rule with its thresholds; subclasses add fields and implement `judge`."""

    outcome: ClassVar[str]
    """Reason in the ledger, as in `repetitive`; unique among all outcomes."""
    position: ClassVar[int] = 0
    """Rules of this package are applied in ascending order; rules from beside the manifest follow."""

    enabled: bool = False

    @abstractmethod
    def judge(self, frame: pl.DataFrame) -> Verdict:
        """Find the rows to drop.

        Parameters
        ----------
        frame
            Cleaned pairs: String columns `instruction` and `response` without nulls.
        """

    def repair(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the frame with texts repaired; enabled rules repair all pairs before the first rule judges."""
        return frame
