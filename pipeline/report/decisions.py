"""Decisions of curation to judge by hand: a sample of the near duplicates and contaminated rows that a build dropped.

ledger ─ by source and score, every k-th ─▶ sampled lines ─ texts of both rows ─▶ Decision ─▶ audit page
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import polars as pl

from corpus.contract import eval_file
from corpus.dataset import Dataset
from corpus.look import scan
from corpus.originals import OriginalError, Originals
from corpus.outcome import Outcome
from pipeline.report.difference import Piece, difference
from pipeline.report.page import CONTAMINATION_HITS

JUDGED = (Outcome.NEAR_DUPLICATE, Outcome.CONTAMINATED)
AROUND = 30
"""Words of a record that are shown on either side of the part that may contain an item."""
MAX_WORDS = 20_000
"""Words of a record in which that part is looked for."""

Line = Mapping[str, Any]
"""A line of the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionText:
    """One of the two texts of a decision."""

    row_id: str
    source: str
    problem: str
    """Why there is no text; empty if there is one."""
    instruction: Sequence[Piece]
    response: Sequence[Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A row that was dropped because of another one."""

    outcome: str
    score: float
    dropped: DecisionText
    other: DecisionText
    """The row that was kept instead, or the item of an eval source."""

    @property
    def is_readable(self) -> bool:
        """Whether both texts are there."""
        return not (self.dropped.problem or self.other.problem)


def lines_of(dataset: Dataset) -> pl.DataFrame:
    """Return the ledger lines of all decisions that can be judged, by outcome, source, score and row id."""
    columns = ("outcome", "source", "score", "row_id", "file", "row", "part", "twin")
    chosen = pl.col("outcome").is_in([outcome.value for outcome in JUDGED])
    return scan(dataset).ledger.filter(chosen).select(columns).collect().sort("outcome", "source", "score", "row_id")


def sampled(lines: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Sample decisions: half of each outcome as far as there are, spread evenly over sources and their scores.

    Parameters
    ----------
    lines
        Of `lines_of`.
    count
        Decisions to sample; all if there are fewer.
    seed
        Of the position of the first one: of n decisions in order of source and score, every (n / k)-th is taken, so
        that sources and scores have their share, and the share of wrong ones among them is that of all.
    """
    groups = {outcome.value: lines.filter(pl.col("outcome") == outcome.value) for outcome in JUDGED}
    sizes = {name: len(group) for name, group in groups.items()}
    taken = []
    for name, group in groups.items():
        others = sum(sizes.values()) - sizes[name]
        size = min(sizes[name], max(count // 2 + (name == JUDGED[0] and count % 2), count - others))
        offset = random.Random(f"{seed}/{name}").random()
        taken.append(group[[int((number + offset) * len(group) / size) for number in range(size)]])
    return pl.concat(taken)


def decisions(originals: Originals, chosen: pl.DataFrame) -> list[Decision]:
    """Read the texts of sampled decisions.

    Parameters
    ----------
    originals
        The dataset and its input files, from which dropped rows are read again.
    chosen
        Of `sampled`.
    """
    dataset = originals.dataset
    lines = chosen.to_dicts()
    items = _items(dataset, [line["row_id"] for line in lines if line["outcome"] == Outcome.CONTAMINATED])
    others = {line["row_id"]: line["twin"] or items.get(line["row_id"], "") for line in lines}
    wanted = pl.col("row_id").is_in(list(others.values()))
    columns = ("row_id", "source", "outcome", "file", "row", "part", "sample")
    found = scan(dataset).ledger.filter(wanted).select(columns).collect().to_dicts()
    by_id = {line["row_id"]: line for line in found}
    texts, problems = _texts(originals, [*lines, *found])
    made = []
    for line in lines:
        other = by_id.get(others[line["row_id"]])
        if other is None:
            continue
        pairs = [texts.get(row["row_id"], ("", "")) for row in (line, other)]
        if line["outcome"] == Outcome.CONTAMINATED:
            pairs[0] = ("", _passage("\n\n".join(pairs[0]), "\n\n".join(pairs[1])))
            pairs[1] = ("", "\n\n".join(pairs[1]))
        marked = [difference(first, second) for first, second in zip(*pairs, strict=True)]
        sides = [
            DecisionText(
                row_id=row["row_id"],
                source=row["source"],
                problem=problems.get(row["row_id"], ""),
                instruction=marked[0][number],
                response=marked[1][number],
            )
            for number, row in enumerate((line, other))
        ]
        made.append(Decision(outcome=line["outcome"], score=line["score"], dropped=sides[0], other=sides[1]))
    return made


def _items(dataset: Dataset, row_ids: Sequence[str]) -> dict[str, str]:
    """Return the eval item that each contaminated row contains best."""
    if not row_ids:
        return {}
    with dataset.open(CONTAMINATION_HITS) as file:
        hits = pl.read_parquet(file, columns=["row_id", "item", "coverage", "answered"])
    best = hits.filter(pl.col("row_id").is_in(list(row_ids))).sort(
        "coverage", "answered", descending=True, maintain_order=True
    )
    return dict(best.unique("row_id", keep="first", maintain_order=True).select("row_id", "item").iter_rows())


def _texts(originals: Originals, lines: Sequence[Line]) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Return instruction and response of rows by id, and why others have none."""
    dataset = originals.dataset
    texts: dict[str, tuple[str, str]] = {}
    problems: dict[str, str] = {}
    kept = {line["sample"]: line["row_id"] for line in lines if line.get("sample") is not None}
    if kept:
        records = scan(dataset).records.select("row_id", "instruction", "response").with_row_index("sample")
        for _, *record in records.filter(pl.col("sample").is_in(list(kept))).collect().iter_rows():
            texts[record[0]] = (record[1], record[2])
    held: dict[str, set[str]] = defaultdict(set)
    places: dict[tuple[str, str], dict[tuple[int, int], str]] = defaultdict(dict)
    for line in lines:
        if line.get("sample") is not None:
            continue
        if line["outcome"] == Outcome.KEPT:
            held[line["source"]].add(line["row_id"])
        else:
            places[line["source"], line["file"]][line["row"], line["part"]] = line["row_id"]
    for source, ids in held.items():
        with dataset.open(eval_file(source)) as file:
            texts |= {
                record["row_id"]: (record["instruction"], record["response"])
                for record in map(json.loads, file)
                if record["row_id"] in ids
            }
    for (source, name), rows in places.items():
        try:
            texts |= dict(_originals(originals, source, name, rows))
        except (OriginalError, OSError) as error:
            problem = f"its input cannot be read: {error}; --base names the manifest's folder"
            problems |= dict.fromkeys(rows.values(), problem)
    for line in lines:
        if line["row_id"] not in texts:
            problems.setdefault(line["row_id"], "its row yields no pair now")
    return texts, problems


def _originals(
    originals: Originals, source: str, file: str, rows: Mapping[tuple[int, int], str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    left = set(rows)
    for pair in originals.pairs(source, file):
        if (pair.row, pair.part) in left:
            yield rows[pair.row, pair.part], (pair.instruction, pair.response)
            left.remove((pair.row, pair.part))
            if not left:
                return


def _passage(record: str, item: str) -> str:
    """Return the part of a record around the longest run of words that an item has too."""
    words, sought = record.split(" ")[:MAX_WORDS], item.split(" ")
    match = SequenceMatcher(None, sought, words, autojunk=False).find_longest_match()
    begin = max(0, match.b - match.a - AROUND)
    end = match.b - match.a + len(sought) + AROUND
    before, after = "[…] " if begin else "", " […]" if end < len(words) else ""
    return before + " ".join(words[begin:end]) + after
