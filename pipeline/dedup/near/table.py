"""Removal of near duplicates from a table in memory, by the kernels that a build runs.

    table ─ near_dedup ─▶ NearDuplicates: selected, dropped, least_similar(), at(threshold)

The vocabulary is that of the table; a build takes it from a sample of all its sources.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.candidates import ENTRIES, Groups, proposals
from pipeline.dedup.near.compare import RecordFeatures, extract_features, find_duplicates
from pipeline.dedup.near.signatures import band_keys
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.vocabulary import count_sample, frequent_sentences, vocabulary
from pipeline.text.hashing import U64


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NearDuplicates:
    """The near duplicates among the rows of a table."""

    table: pl.DataFrame
    spec: NearDedupSpec
    lost: NDArray[np.int64]
    """(m,): rows that are dropped, ascending."""
    twin: NDArray[np.int64]
    """(m,): for each the row that it duplicates, which is kept."""
    score: NDArray[np.float64]
    """(m,): exact Jaccard similarity of the two."""
    _rows: NDArray[np.int64]
    """(g,): rows that share a band with another."""
    _groups: NDArray[np.uint32]
    """(g,): group of each of these rows; only rows of one group are compared."""
    _features: RecordFeatures
    """Of these rows."""

    def __repr__(self) -> str:
        scores = f", of similarity {self.score.min():.3f} to {self.score.max():.3f}" if len(self.lost) else ""
        return f"{len(self.table) - len(self.lost):>12,}  kept\n{len(self.lost):>12,}  near duplicates{scores}"

    @property
    def selected(self) -> pl.DataFrame:
        """The rows that are kept."""
        keep = np.ones(len(self.table), bool)
        keep[self.lost] = False
        return self.table.filter(pl.Series(keep))

    @property
    def dropped(self) -> pl.DataFrame:
        """The rows that are dropped, with columns `twin` (a row of the table) and `score`."""
        return self.table[self.lost].with_columns(pl.Series("twin", self.twin), pl.Series("score", self.score))

    def least_similar(self, count: int = 20) -> pl.DataFrame:
        """The duplicates with the lowest scores beside their twins, for review.

        Returns
        -------
        polars.DataFrame
            Columns score, row, twin, instruction, response, twin_instruction, twin_response.
        """
        order = np.argsort(self.score, kind="stable")[:count]
        texts = self.table.select("instruction", "response")
        ids = pl.DataFrame({"score": self.score[order], "row": self.lost[order], "twin": self.twin[order]})
        twins = texts[self.twin[order]].rename({name: f"twin_{name}" for name in texts.columns})
        return pl.concat([ids, texts[self.lost[order]], twins], how="horizontal")

    def at(self, threshold: float) -> "NearDuplicates":
        """What `near_dedup` returns for another threshold; only the comparison is repeated."""
        spec = NearDedupSpec.model_validate({**self.spec.model_dump(), "threshold": threshold})
        return _compare(self.table, spec, self._rows, self._groups, self._features)


def near_dedup(table: pl.DataFrame, spec: NearDedupSpec | None = None) -> NearDuplicates:
    """Find near duplicates among instruction-response pairs.

    Parameters
    ----------
    table
        String columns `instruction` and `response` without nulls, and any others. Of duplicates the one with the
        longest response is kept, of equally long ones the first.
    spec
        The parameters; default: those of a manifest without `near_dedup`.

    Returns
    -------
    NearDuplicates

    Examples
    --------
    >>> import polars as pl
    >>> pairs = pl.DataFrame({"instruction": ["Name a red fruit.", "name a red fruit"], "response": ["A cherry."] * 2})
    >>> near_dedup(pairs).dropped["twin"].to_list()
    [0]
    """
    spec = spec or NearDedupSpec()
    instructions, responses = (_texts(table, name) for name in ("instruction", "response"))
    known = vocabulary(frequent_sentences(*_counted(count_sample(instructions, responses)), len(table)))
    entries = np.empty((len(table), spec.bands), ENTRIES)
    entries["key"] = band_keys(instructions, responses, known, spec)
    entries["order"] = entries["row"] = np.arange(len(table), dtype=np.uint32)[:, None]
    pairs = proposals(entries.ravel())
    groups = Groups(np.unique(pairs))
    groups.join(pairs)
    rows = groups.rows.astype(np.int64)
    features = extract_features(instructions.take(pa.array(rows)), responses.take(pa.array(rows)), known, spec.shingle)
    return _compare(table, spec, rows, groups.numbers(), features)


def _compare(
    table: pl.DataFrame,
    spec: NearDedupSpec,
    rows: NDArray[np.int64],
    groups: NDArray[np.uint32],
    features: RecordFeatures,
) -> NearDuplicates:
    lengths = table["response"].str.len_chars().to_numpy()[rows].astype(np.int64)
    rank = np.argsort(np.lexsort((rows, -lengths)))
    lost, twin, score = find_duplicates(features, groups, rank, spec.threshold)
    order = np.argsort(lost)
    return NearDuplicates(
        table=table,
        spec=spec,
        lost=rows[lost[order]],
        twin=rows[twin[order]],
        score=score[order],
        _rows=rows,
        _groups=groups,
        _features=features,
    )


def _texts(table: pl.DataFrame, name: str) -> pa.Array:
    texts = table[name].rechunk().to_arrow().cast(pa.large_string())
    if texts.null_count:
        raise ValueError(f"column {name} has {texts.null_count:,} nulls; fill or drop them first")
    return texts


def _counted(hashes: U64) -> tuple[U64, NDArray[np.int64]]:
    unique, counts = np.unique(hashes, return_counts=True)
    return unique, counts
