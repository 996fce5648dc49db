"""Counts over the lines of a ledger, and the first few lines of each kind of dropped row."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.outcome import Outcome
from pipeline.report.figures import SCORES, score_bin

EXAMPLES = 3
"""Dropped rows that are kept for each source and reason."""


class Tally:
    """Counts of the lines added so far."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        """Source to the number of lines of each outcome."""
        self.stages: dict[str, Counter[str]] = {}
        """Source to the number of lines of rows that each stage dropped."""
        self.near_scores = np.zeros(SCORES + 1, np.int64)
        """Near duplicates by `score_bin`."""
        self.examples: dict[tuple[str, str], list[dict[str, Any]]] = {}
        """Source and outcome to the first lines."""

    def add(self, lines: pa.Table) -> None:
        """Count some lines."""
        names = ["source", "outcome", "stage"]
        for group in lines.select(names).group_by(names).aggregate([([], "count_all")]).to_pylist():
            source, outcome = group["source"], group["outcome"]
            self.outcomes.setdefault(source, Counter())[outcome] += group["count_all"]
            if outcome == Outcome.KEPT:
                continue
            self.stages.setdefault(source, Counter())[group["stage"]] += group["count_all"]
            examples = self.examples.setdefault((source, outcome), [])
            if len(examples) < EXAMPLES:
                chosen = pc.and_(pc.equal(lines.column("source"), source), pc.equal(lines.column("outcome"), outcome))
                seen = {line["row_id"] for line in examples}
                first = lines.filter(chosen).slice(0, EXAMPLES).to_pylist()
                examples += [line for line in first if line["row_id"] not in seen][: EXAMPLES - len(examples)]
        near = lines.filter(pc.equal(lines.column("outcome"), Outcome.NEAR_DUPLICATE.value)).column("score")
        scores = near.drop_null().to_numpy()
        self.near_scores += np.bincount(score_bin(scores), minlength=SCORES + 1)
