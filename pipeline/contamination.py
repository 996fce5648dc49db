"""The contamination test: do items that a model has seen in training score better than the others?

    python -m pipeline.contamination out/mix --eval held --scores scores.jsonl
    python -m pipeline.contamination out/mix --eval test.jsonl --scores scores.csv --n 13

An item's *contamination* is the share of its words (question and reference)
that lie in n-grams found in the dataset's kept texts, for n = 13 and 20. For
the four overlapping subsets with contamination below 20 %, from 20 %, below
80 %, and from 80 % up,

    Z = (mean - mu_k) / sigma_k

compares the subset's mean score with what k items drawn at random would have:
mu_k is the mean of all N scores, and sigma_k = s / sqrt(k) * sqrt((N - k) / (N - 1)),
the standard error of the mean of k of N without replacement, s being the
standard deviation of all (with N in its denominator). An effect is significant
only if |Z| > 2 in all four; where a subset is empty, or is everything, there is
no Z and so no effect.
"""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from corpus.config import ConfigError
from corpus.contract import COMMIT
from corpus.discover import discover
from corpus.read import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec
from corpus.storage.retry import INTERACTIVE_ATTEMPTS
from corpus.storage.store import Store
from pipeline.decontaminate.probes import all_grams, spans, table_of
from pipeline.decontaminate.scan import look_up
from pipeline.decontaminate.words import U64, Words, gram, powers, prefixes, words_of
from pipeline.report.summary import console

SIZES = (13, 20)
SUBSETS = (
    ("below 20 %", 0.0, 0.2),
    ("20 % or more", 0.2, math.inf),
    ("below 80 %", 0.0, 0.8),
    ("80 % or more", 0.8, math.inf),
)
"""Name, and least and first excluded contamination."""
SIGNIFICANT = 2.0


def contamination(items: Words, batches: Iterator[tuple[pl.Series, pl.Series]], n: int) -> NDArray[np.float64]:
    """Share of each item's words that lie in n-grams found in some texts.

    Parameters
    ----------
    items
        Words of i items.
    batches
        Instructions and responses of the train records.
    n
        Words of an n-gram.

    Returns
    -------
    float64 (i,)
        0 for an item of fewer than `n` words.
    """
    keys, _, at = all_grams(items.words, spans(items.bounds), n)
    unique, number = np.unique(keys, return_inverse=True)
    table, first, _, sieve = table_of(unique)
    found = np.zeros(len(unique), np.bool_)
    for instructions, responses in batches:
        _mark(words_of(instructions, responses), n, table, first, sieve, found)
    covered = np.zeros(len(items.words), bool)
    for offset in range(n):
        covered[at[found[number]] + offset] = True
    sizes = np.diff(items.bounds)
    shares = np.bincount(np.repeat(np.arange(len(sizes)), sizes), covered, len(sizes))
    return shares / np.maximum(sizes, 1)


@numba.njit(cache=True, nogil=True)
def _mark(records: Words, n: int, table: U64, first: NDArray[np.int32], sieve: U64, found: NDArray[np.bool_]) -> None:
    prefix, power = prefixes(records.words), powers(n)[n]
    for record in range(len(records.bounds) - 1):
        for at in range(records.bounds[record], records.bounds[record + 1] - n + 1):
            entry = look_up(gram(prefix, at, n, power), table, first, sieve)
            if entry >= 0:
                found[entry] = True


def subset_test(shares: NDArray[np.float64], scores: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Size, mean contamination, mean score and Z (None where there is none) of each subset; see the module."""
    total = len(scores)
    rows = []
    for name, least, end in SUBSETS:
        mine = (shares >= least) & (shares < end)
        k = int(mine.sum())
        row: dict[str, Any] = {"subset": name, "items": k, "contamination": None, "score": None, "z": None}
        if k:
            row["contamination"], row["score"] = float(shares[mine].mean()), float(scores[mine].mean())
        if 0 < k < total and scores.std() > 0:
            sigma = scores.std() / math.sqrt(k) * math.sqrt((total - k) / (total - 1))
            row["z"] = (row["score"] - float(scores.mean())) / sigma
        rows.append(row)
    return rows


def significant(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether |Z| > 2 in every subset."""
    return all(row["z"] is not None and abs(row["z"]) > SIGNIFICANT for row in rows)


def read_items(store: Store, commit: dict[str, Any], places: Sequence[str]) -> dict[str, str]:
    """Text of each eval item by its id.

    An eval source of the dataset is named by its name, and its items by their row ids; another file is named by its
    path or URL, and its items by their row numbers, after "FILE:" if there are several `places`.
    """
    items: dict[str, str] = {}
    for place in places:
        if f"eval/{place}.jsonl" in commit["files"]:
            with store.open(f"eval/{place}.jsonl") as lines:
                for line in lines:
                    record = json.loads(line)
                    items[record["row_id"]] = f"{record['instruction']}\n{record['response'] or ''}"
            continue
        spec = SourceSpec(name="eval", path=place, role="eval")
        prefix = f"{Path(place).name}:" if len(places) > 1 else ""
        for file in discover(spec, Path()):
            for pair in read_pairs(spec, file):
                if isinstance(pair, Pair) and pair.part == 0:
                    items[f"{prefix}{pair.row}"] = f"{pair.instruction}\n{pair.response}"
    if not items:
        raise ConfigError(f"--eval {' '.join(places)}: there is no item in it")
    return items


def read_scores(text: str, items: dict[str, str]) -> dict[str, float]:
    """Score of each item, from JSON lines or CSV with `item` and `score`."""
    try:
        if text.lstrip().startswith("{"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text)))
        scores = {str(row["item"]): float(row["score"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--scores: expected JSON lines or CSV with item and score ({error!r})") from None
    unknown = [name for name in scores if name not in items]
    if unknown:
        example = next(iter(items))
        raise ConfigError(
            f"--scores: {len(unknown):,} of {len(scores):,} items are not in --eval, for example {unknown[0]!r}; "
            f"its items are named like {example!r}"
        )
    if len(scores) < 2:
        raise ConfigError(f"--scores: {len(scores)} scores; the test needs many")
    return scores


def _texts(store: Store, commit: dict[str, Any]) -> Iterator[tuple[pl.Series, pl.Series]]:
    import pyarrow.parquet as pq

    for path in sorted(path for path in commit["files"] if path.startswith("curated/")):
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=8192, columns=["instruction", "response"]):
                frame = pl.DataFrame(batch)
                yield frame["instruction"], frame["response"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 tested, 2 something that was named cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.contamination",
        description="Test whether eval items that occur in a dataset score better than the others.",
        epilog="example: python -m pipeline.contamination out/mix --eval held --scores scores.jsonl",
    )
    parser.add_argument("out", help="folder or fsspec URL of the dataset")
    parser.add_argument(
        "--eval", required=True, nargs="+", metavar="SOURCE_OR_FILE", help="eval sources of the dataset, or files"
    )
    parser.add_argument("--scores", required=True, type=Path, metavar="FILE", help="JSON lines or CSV: item, score")
    parser.add_argument("--n", type=int, nargs="+", default=list(SIZES), help="words of an n-gram (default: 13 20)")
    options = parser.parse_args(arguments)
    if min(options.n) < 1:
        parser.error(f"--n is {min(options.n)}; expected 1 or more")
    try:
        store = Store(options.out, attempts=INTERACTIVE_ATTEMPTS)
        commit = json.loads(store.read(COMMIT))
        items = read_items(store, commit, options.eval)
        scores = read_scores(options.scores.read_text(encoding="utf-8"), items)
        words = words_of(pl.Series([items[name] for name in scores], dtype=pl.String))
        values = np.array(list(scores.values()))
        for n in options.n:
            shares = contamination(words, _texts(store, commit), n)
            _show(n, subset_test(shares, values), values)
    except FileNotFoundError as error:
        print(f"error: {error.filename or options.out}: not found", file=sys.stderr)
        return 2
    except (ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _show(n: int, rows: Sequence[dict[str, Any]], scores: NDArray[np.float64]) -> None:
    screen = console()
    title = f"n = {n}, {len(scores):,} items, mean score {scores.mean():.4f}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title)
    for name in ("contamination", "items", "its mean", "mean score", "Z"):
        table.add_column(name, justify="left" if name == "contamination" else "right")
    for row in rows:
        numbers = [("-" if row[key] is None else form.format(row[key])) for key, form in _FORMS]
        table.add_row(row["subset"], f"{row['items']:,}", *numbers)
    screen.print(table)
    screen.print("significant: |Z| > 2 in all four" if significant(rows) else "not significant")


_FORMS = (("contamination", "{:.1%}"), ("score", "{:.4f}"), ("z", "{:+.2f}"))


if __name__ == "__main__":
    sys.exit(main())
