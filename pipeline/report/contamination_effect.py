"""The paper's contamination test: whether eval items that occur in training data score better than the others.

An item's *contamination* is the share of its words (question and reference) that are in n-grams found in the dataset's
kept texts; the paper uses n = 13 and 20. For the four overlapping subsets of items with contamination below 20 %, from
20 %, below 80 %, and from 80 % up,

    Z_k = (mean - mu_k) / sigma_k

compares the subset's mean score with that of k items drawn at random: mu_k is the mean of all N scores, and
sigma_k = s / sqrt(k) * sqrt((N - k) / (N - 1)) the standard error of the mean of k of N drawn without replacement, with
s the standard deviation of all (N in its denominator). An effect is significant only if |Z_k| > 2 in all four; a subset
that is empty or has all items has no Z_k.

`pipeline.decontaminate` is another matter: it removes training records that contain eval items during a build.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.decontaminate.gram_table import build_gram_table, find_entry
from pipeline.decontaminate.ngrams import all_grams, gram, powers, prefixes, spans
from pipeline.decontaminate.word_hashes import Words, words_of
from pipeline.text.hashing import U64
from pipeline.text.options import KERNEL

SUBSETS = (
    ("below 20 %", 0.0, 0.2),
    ("20 % or more", 0.2, math.inf),
    ("below 80 %", 0.0, 0.8),
    ("80 % or more", 0.8, math.inf),
)
"""Name, smallest contamination, and the contamination that is too large."""
SIGNIFICANT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubsetResult:
    """The items of a subset, and how their scores compare with chance."""

    subset: str
    items: int
    contamination: float | None
    """Mean; None without items."""
    score: float | None
    """Mean; None without items."""
    z: float | None
    """Z_k; None where it is not defined."""


def contamination(items: Words, batches: Iterator[tuple[pl.Series, pl.Series]], n: int) -> NDArray[np.float64]:
    """Return the share of each item's words that are in n-grams found in some texts.

    Parameters
    ----------
    items
        Words of i items.
    batches
        Instructions and responses of the train records.
    n
        Number of words of an n-gram.

    Returns
    -------
    ndarray
        float64 [i]; 0 for an item of fewer than `n` words.
    """
    keys, _, at = all_grams(items.words, spans(items.bounds), n)
    unique, number = np.unique(keys, return_inverse=True)
    table, first, _, sieve = build_gram_table(unique)
    found = np.zeros(len(unique), np.bool_)
    for instructions, responses in batches:
        records = words_of(instructions, responses)
        _mark(prefixes(records.words), records.bounds, n, powers(n)[n], table, first, sieve, found)
    covered = np.zeros(len(items.words), bool)
    for offset in range(n):
        covered[at[found[number]] + offset] = True
    sizes = np.diff(items.bounds)
    shares = np.bincount(np.repeat(np.arange(len(sizes)), sizes), covered, len(sizes))
    return shares / np.maximum(sizes, 1)


@numba.njit(**KERNEL)
def _mark(
    prefix: U64,
    bounds: NDArray[np.int64],
    n: int,
    power: np.uint64,
    table: U64,
    first: NDArray[np.int32],
    sieve: U64,
    found: NDArray[np.bool_],
) -> None:
    """Mark the n-grams of a table that some records have."""
    for record in range(len(bounds) - 1):
        for at in range(bounds[record], bounds[record + 1] - n + 1):
            entry = find_entry(gram(prefix, at, n, power), table, first, sieve)
            if entry >= 0:
                found[entry] = True


def subset_test(shares: NDArray[np.float64], scores: NDArray[np.float64]) -> list[SubsetResult]:
    """Compare each subset's mean score with chance.

    Parameters
    ----------
    shares
        float64 [N]: contamination of each item.
    scores
        float64 [N]: its score.
    """
    total = len(scores)
    results = []
    for name, smallest, end in SUBSETS:
        inside = (shares >= smallest) & (shares < end)
        k = int(inside.sum())
        score = float(scores[inside].mean()) if k else None
        z = None
        if score is not None and k < total and scores.std() > 0:
            sigma = scores.std() / math.sqrt(k) * math.sqrt((total - k) / (total - 1))
            z = (score - float(scores.mean())) / sigma
        share = float(shares[inside].mean()) if k else None
        results.append(SubsetResult(subset=name, items=k, contamination=share, score=score, z=z))
    return results


def significant(results: Sequence[SubsetResult]) -> bool:
    """Return whether |Z_k| > 2 in every subset."""
    return all(result.z is not None and abs(result.z) > SIGNIFICANT for result in results)
