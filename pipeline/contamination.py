"""Test whether eval items that occur in a dataset score better than the others (the paper's contamination test).

    python -m pipeline.contamination out/mix --eval held --scores scores.jsonl
    python -m pipeline.contamination out/mix --eval test.jsonl --scores scores.csv --n 13

Reads a built dataset and a model's scores; the test itself is `pipeline.report.contamination_effect`. Removing eval
items from training data, during a build, is `pipeline.decontaminate`.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corpus import cli
from corpus.config import ConfigError
from corpus.contract import DatasetError, eval_file, parse_eval_record
from corpus.dataset import Dataset, open_dataset
from corpus.schema import lines
from corpus.terminal import counted

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from pipeline.report.contamination_effect import SubsetResult

SIZES = (13, 20)
_EPILOG = """example:
  python -m pipeline.contamination out/mix --eval held --scores scores.jsonl"""


def read_items(dataset: Dataset, places: Sequence[str]) -> dict[str, str]:
    """Return the text of each eval item by its id.

    Parameters
    ----------
    dataset
        A dataset.
    places
        Names of its eval sources, whose items have their row ids as ids, and paths or URLs of other files, whose items
        have their row numbers, after "FILE:" if there are several places; the second and further items of one row have
        the number of the part too, as in "7.1".

    Raises
    ------
    ConfigError
        There are no items.
    """
    from corpus.discover import discover
    from corpus.pairs import read_pairs
    from corpus.record import Pair
    from corpus.source import SourceSpec

    items: dict[str, str] = {}
    for place in places:
        if eval_file(place) in dataset.info.files:
            path = eval_file(place)
            with dataset.open(path) as records:
                for number, line in lines(records):
                    record = parse_eval_record(line, f"{dataset.url(path)}, line {number}")
                    items[record.row_id] = f"{record.instruction}\n{record.response or ''}"
            continue
        spec = SourceSpec(name="eval", path=place, role="eval")
        prefix = f"{Path(place).name}:" if len(places) > 1 else ""
        for file in discover(spec, Path()):
            for pair in read_pairs(spec, file):
                if isinstance(pair, Pair):
                    name = f"{pair.row}.{pair.part}" if pair.part else str(pair.row)
                    items[f"{prefix}{name}"] = f"{pair.instruction}\n{pair.response}"
    if not items:
        raise ConfigError(f"--eval {' '.join(places)}: has no items, expected at least two")
    return items


def read_scores(text: str, items: dict[str, str]) -> dict[str, float]:
    """Return the score of each item, from JSON lines or CSV with `item` and `score`.

    Raises
    ------
    ConfigError
        The text is something else, names unknown items, or has fewer than two scores.
    """
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
        raise ConfigError(f"--scores: has {len(scores)} scores, expected at least two")
    return scores


def _texts(dataset: Dataset) -> Iterator[tuple["pl.Series", "pl.Series"]]:
    """Yield instructions and responses of the kept records."""
    import polars as pl

    for _, table in dataset.batches(dataset.info.curated, columns=["instruction", "response"]):
        frame = pl.DataFrame(table)
        yield frame["instruction"], frame["response"]


@cli.command("python -m pipeline.contamination", errors=(DatasetError, OSError, ValueError), epilog=_EPILOG)
def main(
    out: Annotated[str, typer.Argument(help="folder or fsspec URL of the dataset", metavar="OUT")],
    places: Annotated[
        list[str], typer.Option("--eval", help="eval source of the dataset, or a file; may be repeated", metavar="NAME")
    ],
    scores_file: Annotated[Path, typer.Option("--scores", help="JSON lines or CSV: item, score", metavar="FILE")],
    sizes: Annotated[
        list[int] | None,
        typer.Option("--n", min=1, help="words of an n-gram; may be repeated (default: 13 and 20)", metavar="N"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the results as JSON")] = False,
) -> int:
    """Test whether eval items that occur in a dataset score better than the others."""
    import numpy as np
    import polars as pl

    from pipeline.decontaminate.word_hashes import words_of
    from pipeline.report.contamination_effect import contamination, significant, subset_test

    dataset = open_dataset(out)
    items = read_items(dataset, places)
    scores = read_scores(_read(scores_file), items)
    words = words_of(pl.Series([items[name] for name in scores], dtype=pl.String))
    values = np.array(list(scores.values()))
    found = {n: subset_test(contamination(words, _texts(dataset), n), values) for n in sizes or SIZES}
    if as_json:
        listed = [
            {"n": n, "significant": significant(results), "subsets": [asdict(result) for result in results]}
            for n, results in found.items()
        ]
        print(json.dumps({"items": len(values), "mean_score": float(values.mean()), "tests": listed}))
    else:
        for n, results in found.items():
            _show(n, results, values)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--scores {path}: cannot be read ({error}); expected JSON lines or CSV") from None


def _show(n: int, results: Sequence["SubsetResult"], scores: "NDArray[np.float64]") -> None:
    from rich import box
    from rich.table import Table

    from pipeline.report.console import console
    from pipeline.report.contamination_effect import significant

    screen = console()
    title = f"n = {n}, {counted(len(scores), 'item')}, mean score {scores.mean():.4f}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title)
    for name in ("contamination", "items", "its mean", "mean score", "Z"):
        table.add_column(name, justify="left" if name == "contamination" else "right")
    for result in results:
        numbers = ((result.contamination, ".1%"), (result.score, ".4f"), (result.z, "+.2f"))
        table.add_row(
            result.subset,
            f"{result.items:,}",
            *("-" if number is None else format(number, style) for number, style in numbers),
        )
    screen.print(table)
    screen.print("significant: |Z| > 2 in all four" if significant(results) else "not significant")


if __name__ == "__main__":
    sys.exit(main())
