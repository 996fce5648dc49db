"""Shares of conditions and languages among a dataset's samples."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.report.texts import CuratedPart, Texts
from pipeline.rules.language import PREFIX_CHARS, identifier

LANGUAGE_SAMPLES = 1000
"""Samples whose language is identified, about a millisecond for two: the standard error of a share is at most 1.6 %."""
LANGUAGE_GROUPS = 50
"""Places of the dataset that they are from, evenly spread."""
MIN_LETTERS = 60
MIN_CONFIDENCE = 0.95
"""Samples with fewer letters, or a smaller probability of their language, are uncertain, as in the rule `language`."""
UNCERTAIN = "short or uncertain"
FEWEST_SAMPLES = 1000
"""Samples below which no language is identified: the share of one sample would be too large."""


def conditions(curated: Sequence[CuratedPart]) -> dict[str, int]:
    """Count samples by their conditions, the most frequent first; "none" for samples without."""
    names = pl.col("condition").list.join(" + ").fill_null("").replace("", "none").alias("condition")
    found: Counter[str] = Counter()
    for part in curated:  # one by one, so that memory does not grow with their number
        found.update(dict(pl.scan_parquet(part.path).select(names).group_by("condition").len().collect().iter_rows()))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def languages(texts: Texts, samples: int) -> dict[str, int]:
    """Identify the language of samples from all over the dataset and count them, the most frequent first.

    Parameters
    ----------
    texts
        The samples' texts.
    samples
        Their number; below `FEWEST_SAMPLES` no language is identified.

    Returns
    -------
    dict
        ISO 639-1 code, or `UNCERTAIN`, to a number of samples, `LANGUAGE_SAMPLES` in all or as many as there are.
    """
    if samples < FEWEST_SAMPLES:
        return {}
    run = LANGUAGE_SAMPLES // LANGUAGE_GROUPS
    starts = np.linspace(0, samples - run, min(LANGUAGE_GROUPS, samples // run)).astype(np.int64)
    numbers = np.unique((starts[:, None] + np.arange(run)).ravel())
    frame = pl.DataFrame(texts.records(numbers.tolist()))
    pairs = frame.select((pl.col("response") + "\n" + pl.col("instruction")).str.slice(0, PREFIX_CHARS)).to_series()
    letters = pairs.str.count_matches(r"\p{L}")
    # A Python loop: the library classifies one text at a time.
    found = Counter(
        _language(text) if count >= MIN_LETTERS else UNCERTAIN for text, count in zip(pairs, letters, strict=True)
    )
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _language(text: str) -> str:
    name, confidence = identifier().classify(text)
    return str(name) if confidence >= MIN_CONFIDENCE else UNCERTAIN
