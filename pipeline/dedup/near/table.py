"""Near duplicates of a table in memory: the build's kernels, without its steps.

    table ─ near_dedup ─▶ NearDuplicates: selected, dropped, least_similar(), at(threshold)

Words and boilerplate are counted in the table itself; a build counts them in a
sample of all its sources.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.dedup.near.candidates import ENTRIES, Groups, proposals
from pipeline.dedup.near.compare import Readings, find_duplicates, read
from pipeline.dedup.near.signatures import band_keys
from pipeline.dedup.near.spec import NearDedupSpec
from pipeline.dedup.near.words import U64, count_sample, frequent_sentences, frequent_words, vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicates:
    """Which rows of a table are near duplicates, and of which."""

    table: pl.DataFrame
    spec: NearDedupSpec
    lost: NDArray[np.int64]
    """(m,): rows that are duplicates, ascending."""
    twin: NDArray[np.int64]
    """(m,): for each the row that it is a duplicate of, which is none itself."""
    score: NDArray[np.float64]
    """(m,): exact Jaccard similarity of the two."""
    _rows: NDArray[np.int64]
    """(g,): rows that share a band with another."""
    _groups: NDArray[np.uint32]
    """(g,)"""
    _readings: Readings
    """Of these rows."""

    @property
    def selected(self) -> pl.DataFrame:
        """Rows that are no duplicates."""
        keep = np.ones(len(self.table), bool)
        keep[self.lost] = False
        return self.table.filter(pl.Series(keep))

    @property
    def dropped(self) -> pl.DataFrame:
        """Rows that are, with `twin`, a row of the table, and `score`."""
        return self.table[self.lost].with_columns(pl.Series("twin", self.twin), pl.Series("score", self.score))

    def least_similar(self, count: int = 20) -> pl.DataFrame:
        """The duplicates of least score, side by side with their twins: those to look at first.

        Returns
        -------
        polars.DataFrame
            Columns score, row, twin, instruction, response, twin_instruction, twin_response.
        """
        order = np.argsort(self.score, kind="stable")[:count]
        texts = self.table.select("instruction", "response")
        who = pl.DataFrame({"score": self.score[order], "row": self.lost[order], "twin": self.twin[order]})
        twins = texts[self.twin[order]].rename({name: f"twin_{name}" for name in texts.columns})
        return pl.concat([who, texts[self.lost[order]], twins], how="horizontal")

    def at(self, threshold: float) -> "NearDuplicates":
        """The result for another threshold; only rows that share a band are compared again.

        It is what `near_dedup` returns for that threshold.
        """
        spec = NearDedupSpec.model_validate({**self.spec.model_dump(), "threshold": threshold})
        return _compare(self.table, spec, self._rows, self._groups, self._readings)


def near_dedup(table: pl.DataFrame, spec: NearDedupSpec | None = None) -> NearDuplicates:
    """Find near duplicates among instruction-response pairs.

    Parameters
    ----------
    table
        String columns `instruction` and `response` without nulls; others are passed on. Of duplicates the one with the
        longest response is kept, of these the first.
    spec
        As in a manifest.

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
    words, sentences = count_sample(instructions, responses)
    known = vocabulary(
        frequent_words(*_counted(words), len(table)), frequent_sentences(*_counted(sentences), len(table))
    )
    entries = np.empty((len(table), spec.bands), ENTRIES)
    entries["key"] = band_keys(instructions, responses, known, spec)
    entries["order"] = entries["row"] = np.arange(len(table), dtype=np.uint32)[:, None]
    pairs = proposals(entries.ravel())
    groups = Groups(np.unique(pairs))
    groups.join(pairs)
    rows = groups.rows.astype(np.int64)
    readings = read(instructions.take(pa.array(rows)), responses.take(pa.array(rows)), known, spec.shingle)
    return _compare(table, spec, rows, groups.numbers(), readings)


def _compare(
    table: pl.DataFrame, spec: NearDedupSpec, rows: NDArray[np.int64], groups: NDArray[np.uint32], readings: Readings
) -> NearDuplicates:
    lengths = table["response"].str.len_chars().to_numpy()[rows].astype(np.int64)
    rank = np.argsort(np.lexsort((rows, -lengths)))
    lost, twin, score = find_duplicates(readings, groups, rank, spec.threshold)
    order = np.argsort(lost)
    return NearDuplicates(
        table=table,
        spec=spec,
        lost=rows[lost[order]],
        twin=rows[twin[order]],
        score=score[order],
        _rows=rows,
        _groups=groups,
        _readings=readings,
    )


def _texts(table: pl.DataFrame, name: str) -> pa.Array:
    texts = table[name].rechunk().to_arrow().cast(pa.large_string())
    if texts.null_count:
        raise ValueError(f"column {name} has {texts.null_count:,} nulls; fill or drop them first")
    return texts


def _counted(hashes: U64) -> tuple[U64, NDArray[np.int64]]:
    unique, counts = np.unique(hashes, return_counts=True)
    return unique, counts
