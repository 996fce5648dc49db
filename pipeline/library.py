"""Stages of a build on a polars frame in memory, for notebooks and scripts.

    frame of pairs ─ clean, apply_rules, near_dedup, decontaminate ─▶ result with kept and dropped rows

These are the kernels of a build without its steps, so each gives what the stage of a build does with the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.decontaminate.contaminated import find_hits
from pipeline.decontaminate.probes import build_index
from pipeline.decontaminate.spec import DecontaminateSpec
from pipeline.dedup.near.table import near_dedup
from pipeline.ingest import clean as cleaning
from pipeline.ingest.spec import CleanSpec
from pipeline.rules import apply as rules
from pipeline.rules.spec import RulesSpec

__all__ = ["Decontaminated", "Filtered", "apply_rules", "clean", "decontaminate", "near_dedup"]

_VERDICT = ("outcome", "detail", "score")


@dataclass(frozen=True, kw_only=True, repr=False)
class Filtered:
    """Rows that a stage kept and dropped."""

    kept: pl.DataFrame
    """Columns of the given frame; texts may be changed."""
    dropped: pl.DataFrame
    """The same columns and `outcome` (String, a reason of the ledger), `detail` (String), `score` (Float64)."""

    @property
    def counts(self) -> dict[str, int]:
        """Reason to the number of rows dropped for it."""
        return dict(sorted(self.dropped.group_by("outcome").len().iter_rows()))

    def __repr__(self) -> str:
        reasons = "".join(f"\n{count:>12,}  dropped: {reason}" for reason, count in self.counts.items())
        return f"{len(self.kept):>12,}  kept{reasons}"


def clean(frame: pl.DataFrame, *, spec: CleanSpec | None = None, without_response: bool = False) -> Filtered:
    """Bring texts into their normal form, and drop pairs that are empty, too long or cut off.

    Parameters
    ----------
    frame
        String columns `instruction` and `response`; others pass through.
    spec
        The manifest's `clean:`.
    without_response
        Whether a pair may lack a response, as a prompt of an eval set.

    Examples
    --------
    >>> import polars as pl
    >>> import pipeline
    >>> pairs = pl.DataFrame({"instruction": ["Say hi.", " "], "response": ["<think>Hm.</think>Hi!", "Hi!"]})
    >>> result = pipeline.clean(pairs)
    >>> result.kept["response"].to_list(), result.counts
    (['Hi!'], {'empty_instruction': 1})
    """
    _check(frame)
    pairs = frame.with_columns(pl.col("response").fill_null("")) if without_response else frame
    return _split(cleaning.clean(pairs, spec or CleanSpec(), without_response=without_response), frame.columns)


def apply_rules(frame: pl.DataFrame, *, spec: RulesSpec | None = None) -> Filtered:
    """Drop the pairs that a quality rule rejects.

    Parameters
    ----------
    frame
        Cleaned pairs: String columns `instruction` and `response`; others pass through.
    spec
        The manifest's `rules:`; by default the rules that a manifest enables by default.

    Examples
    --------
    >>> import polars as pl
    >>> import pipeline
    >>> pairs = pl.DataFrame({"instruction": ["Count to three.", "Go on."], "response": ["1, 2, 3", "and again " * 80]})
    >>> pipeline.apply_rules(pairs).counts
    {'repetitive': 1}
    """
    _check(frame)
    text = pl.lit(None, dtype=pl.String)
    marked = frame.with_columns(outcome=text, stage=text, detail=text, score=pl.lit(None, dtype=pl.Float64))
    return _split(rules.apply_rules(marked, spec or RulesSpec()), frame.columns)


def _split(marked: pl.DataFrame, columns: Sequence[str]) -> Filtered:
    is_kept = marked["outcome"].is_null()
    return Filtered(
        kept=marked.filter(is_kept).select(columns), dropped=marked.filter(~is_kept).select(*columns, *_VERDICT)
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class Decontaminated:
    """Rows that contain no eval item, and those that do."""

    kept: pl.DataFrame
    """Columns of the given frame."""
    dropped: pl.DataFrame
    """Columns of the given frame."""
    hits: pl.DataFrame
    """A line for each dropped row and item in it: `row` of the given frame, `eval` (number of the eval set), `item`
    (row in it), `part` ("question" or "solution"), `coverage` (share of the part's own words), `answered`."""

    @property
    def counts(self) -> dict[int, int]:
        """Number of an eval set to the number of its items that were found."""
        found = self.hits.unique(["eval", "item"])
        return dict(sorted(found.group_by("eval").len().iter_rows()))

    def __repr__(self) -> str:
        items = "".join(f"\n{count:>12,}  items of eval set {number} found" for number, count in self.counts.items())
        return f"{len(self.kept):>12,}  kept\n{len(self.dropped):>12,}  dropped{items}"


def decontaminate(
    frame: pl.DataFrame, *, evals: Sequence[pl.DataFrame], spec: DecontaminateSpec | None = None
) -> Decontaminated:
    """Drop the pairs that contain a question or a solution of an eval set.

    Parameters
    ----------
    frame
        String columns `instruction` and `response`; others pass through.
    evals
        Eval sets: String columns `instruction` and `response`, which is null or empty for a prompt without reference;
        optionally `task` and `meta` as in records.
    spec
        The manifest's `decontaminate:`.

    Examples
    --------
    >>> import polars as pl
    >>> import pipeline
    >>> question = "Why does the moon look larger when it is near the horizon than when it is high up in the sky?"
    >>> train = pl.DataFrame({"instruction": [f"A riddle: {question}", "Name a fruit."], "response": ["Hm.", "A fig."]})
    >>> test = pl.DataFrame({"instruction": [question], "response": ["Because of what is next to it."]})
    >>> result = pipeline.decontaminate(train, evals=[test])
    >>> len(result.kept), result.hits.row(0)[:4]
    (1, (0, 0, 0, 'question'))
    """
    _check(frame)
    items = pl.concat([_items(number, items) for number, items in enumerate(evals)])
    index, _ = build_index(items, spec or DecontaminateSpec())
    records = (
        frame.select("instruction", "response").with_row_index("row_id").with_columns(source=_text(), task=_text())
    )
    found = find_hits(records, [(index, items)])
    hits = found.select(
        "row", pl.col("eval_source").cast(pl.Int64).alias("eval"), "item", "part", "coverage", "answered"
    )
    contaminated = pl.int_range(len(frame), eager=True).is_in(hits["row"].unique().to_list())
    return Decontaminated(kept=frame.filter(~contaminated), dropped=frame.filter(contaminated), hits=hits)


def _items(number: int, frame: pl.DataFrame) -> pl.DataFrame:
    _check(frame, may_be_null=("response",))
    optional = [pl.col(name) if name in frame.columns else _text().alias(name) for name in ("task", "meta")]
    texts = frame.select("instruction", pl.col("response").fill_null(""), *optional).with_row_index("row_id")
    return texts.with_columns(source=pl.lit(str(number)))


def _text() -> pl.Expr:
    return pl.lit(None, dtype=pl.String)


def _check(frame: pl.DataFrame, may_be_null: Sequence[str] = ()) -> None:
    for name in ("instruction", "response"):
        if frame.schema.get(name) != pl.String:
            raise ValueError(f"column {name} is {frame.schema.get(name)}, expected String")
        if name not in may_be_null and frame[name].null_count():
            raise ValueError(f"column {name} has {frame[name].null_count():,} nulls; fill or drop them first")
