"""Verdicts of people on the decisions of an audit page, and the precision that follows from them."""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Z = 1.959964
"""Standard normal quantile of a 95 % confidence interval."""


class Verdicts(BaseModel):
    """The file that an audit page downloads."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal["millrace-verdicts/1"]
    fingerprint: str
    """Of the dataset whose decisions were judged."""
    verdicts: Mapping[str, Literal["same", "different"]] = Field(max_length=100_000)
    """Row id of a dropped row to whether it says the same as the other text."""


def wilson(right: int, judged: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share by Wilson's score method.

    Parameters
    ----------
    right, judged
        Decisions judged right, and judged in all.

    References
    ----------
    Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. JASA 22, 209-212.
    """
    if not judged:
        return 0.0, 1.0
    share = right / judged
    scale = 1 + Z**2 / judged
    middle = (share + Z**2 / (2 * judged)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / judged + Z**2 / (4 * judged**2))
    return max(0.0, middle - half), min(1.0, middle + half)
