"""Echo: responses that repeat their instruction."""

from typing import ClassVar

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipeline.rules.rule import Rule, Verdict
from pipeline.text.columns import large_strings, texts_of
from pipeline.text.options import KERNEL


class Echo(Rule):
    """Drop responses equal to their instruction up to white space and letter case."""

    outcome: ClassVar[str] = "echo"
    position: ClassVar[int] = 40

    enabled: bool = True
    min_chars: int = Field(default=20, ge=1)
    """Shorter responses pass: "Hello!" may answer "Hello!"."""

    def judge(self, frame: pl.DataFrame) -> Verdict:
        columns = (texts_of(large_strings(frame[name])) for name in ("instruction", "response"))
        (first, first_bounds), (second, second_bounds) = columns
        may_be_equal = np.empty(len(frame), np.bool_)
        _write_may_be_equal(first, first_bounds, second, second_bounds, may_be_equal)
        suspects = pl.Series(np.flatnonzero(may_be_equal))
        instruction, response = pl.col("instruction"), pl.col("response")
        # Folding whole texts is slow.
        likely = (_first_letter(instruction) == _first_letter(response)) & (response.str.len_chars() >= self.min_chars)
        suspects = suspects.filter(frame[suspects].select(likely).to_series())
        equal = frame[suspects].select(_folded(instruction) == _folded(response)).to_series()
        rows = suspects.filter(equal).to_numpy().astype(np.int64)
        return Verdict(rows, np.full(len(rows), np.nan), ["the response repeats the instruction"] * len(rows))


def _folded(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(r"\s+", " ").str.strip_chars().str.to_lowercase()


def _first_letter(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().str.head(1).str.to_lowercase().str.head(1)


@numba.njit(**KERNEL)
def _write_may_be_equal(
    first: NDArray[np.uint8],
    first_bounds: NDArray[np.int64],
    second: NDArray[np.uint8],
    second_bounds: NDArray[np.int64],
    found: NDArray[np.bool_],
) -> None:
    """Write whether texts may be equal up to white space and case, by their bytes up to the first beyond ASCII."""
    for row in range(len(found)):
        one = first[first_bounds[row] : first_bounds[row + 1]]
        other = second[second_bounds[row] : second_bounds[row + 1]]
        at = place = 0
        while True:
            while at < len(one) and one[at] <= 0x20:
                at += 1
            while place < len(other) and other[place] <= 0x20:
                place += 1
            if at == len(one) or place == len(other):
                # The rest of the other text may be white space beyond ASCII.
                found[row] = (at == len(one) or one[at] >= 0x80) and (place == len(other) or other[place] >= 0x80)
                break
            if one[at] >= 0x80 or other[place] >= 0x80:
                found[row] = True
                break
            is_letter = np.uint8((one[at] | 0x20) - 0x61) < 26
            if one[at] != other[place] and not (is_letter and one[at] ^ other[place] == 0x20):
                found[row] = False
                break
            at, place = at + 1, place + 1
