"""Numbers of the report's charts: histograms of lengths and scores, and the funnel from rows to samples."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpus.contract import SourceCounts
from pipeline.records.ledger import READ_STAGE

STEPS = (
    ("pairs", (READ_STAGE,)),
    ("after cleaning", ("clean",)),
    ("after quality rules", ("rules",)),
    ("after exact duplicates", ("exact",)),
    ("drawn for curation", ("draw-ahead",)),
    ("after near duplicates", ("near",)),
    ("after decontamination", ("decontaminate",)),
    ("after caps", ("caps",)),
    ("drawn by the epochs", ("draw",)),
)
"""What is left after which stages of the ledger; the rest, by lengths in tokens, are the samples."""

SCORES = 50
"""Bins of scores from 0 to 1; one more is for a score of 1."""
QUANTILES = (0.5, 0.9, 0.99, 1.0)


Counts = NDArray[np.int64]
PART_ROWS = 2**20
"""Samples whose lengths are in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A bar of a histogram."""

    begin: float
    end: float
    """The first value that is too large."""
    count: int
    label: str
    """On the axis; empty for most bars."""

    @property
    def title(self) -> str:
        """The bin's values."""
        if isinstance(self.begin, int):
            return f"{self.begin:,}" if self.end == self.begin + 1 else f"{self.begin:,} to {self.end - 1:,}"
        return f"{self.begin:.2f} to {self.end:.2f}" if self.begin < 1 else "1.00"


def count_lengths(lengths: NDArray[np.uint16]) -> tuple[Counts, Counts, Counts]:
    """Count how many samples have each length: of the prefix, of the response, of both together.

    Parameters
    ----------
    lengths
        uint16 (n, 2), which may be mapped from a file: little of it is in memory at a time.

    Returns
    -------
    tuple of three int64 (m,)
        Number of samples by length from 0.
    """
    prefix = response = both = np.zeros(0, np.int64)
    for begin in range(0, len(lengths), PART_ROWS):
        part = lengths[begin : begin + PART_ROWS].astype(np.int64)
        prefix = _more(prefix, part[:, 0])
        response = _more(response, part[:, 1])
        both = _more(both, part.sum(axis=1))
    return prefix, response, both


def _more(counts: Counts, values: Counts) -> Counts:
    """Return counts with those of further values."""
    found = np.bincount(values, minlength=len(counts))
    found[: len(counts)] += counts
    return found


def mean_length(counts: Counts) -> float:
    """Return the mean of lengths from their counts."""
    return float(np.arange(len(counts)) @ counts / counts.sum())


def length_bins(counts: Counts) -> list[Bin]:
    """Add up the counts of lengths in bins of equal width up to 8 tokens and of four to each doubling from there."""
    if not counts.any():
        return []
    powers = 2 ** np.arange(18)
    edges = np.unique(np.concatenate([[0], *(powers + powers * quarter // 4 for quarter in range(4))]))
    bins = np.searchsorted(edges, np.arange(len(counts)), side="right") - 1
    sums = np.bincount(bins, weights=counts, minlength=len(edges)).astype(np.int64)
    used = np.flatnonzero(sums)
    first, last = int(used[0]), int(used[-1])
    return [
        Bin(
            begin=int(edges[bin]),
            end=int(edges[bin + 1]),
            count=int(sums[bin]),
            label=f"{edges[bin]:,}" if bin == first or (bin > first + 3 and edges[bin] in powers[::2]) else "",
        )
        for bin in range(first, last + 1)
    ]


def score_bin(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each score from 0 to 1, of `SCORES` + 1."""
    found: NDArray[np.int64] = np.floor(np.clip(scores, 0, 1) * SCORES + 1e-9).astype(np.int64)
    return found


def score_bins(counts: Sequence[int]) -> list[Bin]:
    """Return the bars of the counts by `score_bin`, from the first that is not empty up to a score of 1."""
    used = np.flatnonzero(counts)
    if not len(used):
        return []
    return [
        Bin(
            begin=number / SCORES,
            end=(number + 1) / SCORES,
            count=int(counts[number]),
            label=f"{number / SCORES:.2f}" if (number - int(used[0])) % 2 == 0 else "",
        )
        for number in range(int(used[0]), SCORES + 1)
    ]


def quantiles(counts: Counts) -> dict[str, int]:
    """Return quantiles of lengths from their counts, by the name of their share; of two lengths the lower one."""
    places = np.floor((counts.sum() - 1) * np.array(QUANTILES)).astype(np.int64)
    found = np.searchsorted(np.cumsum(counts), places, side="right").tolist()
    return {f"{q:.0%}": value for q, value in zip(QUANTILES, found, strict=True)}


def funnel(counts: SourceCounts, dropped: Mapping[str, int]) -> dict[str, int]:
    """Return what is left of a source after each step.

    Parameters
    ----------
    counts
        Of the source.
    dropped
        Stage of the ledger to the lines that end there without being kept.

    Returns
    -------
    dict
        "rows" and "rows and pairs" (pairs, and rows without a pair), then each of `STEPS`, then "samples".
    """
    left = counts.kept + sum(counts.dropped.values())
    steps = {"rows": counts.rows, "pairs and rows without a pair": left}
    for name, stages in STEPS:
        left -= sum(dropped.get(stage, 0) for stage in stages)
        steps[name] = left
    return steps | {"samples": counts.kept}


def total(funnels: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of several funnels."""
    sums: dict[str, int] = {}
    for steps in funnels:
        for name, number in steps.items():
            sums[name] = sums.get(name, 0) + number
    return sums
