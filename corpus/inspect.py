"""`python -m corpus.inspect OUT`: what a person asks first of a built dataset.

Sources, strata, length quantiles, drop reasons, input files that were not read
whole, random samples, and search by text.
"""

import argparse
import io
import random
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from corpus.formats.base import printable
from corpus.look import NoDatasetError, Scan, read_bytes, read_json, scan
from corpus.outcome import FileOutcome, Outcome
from corpus.storage.redact import redact

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_STRATA_SHOWN = 40
_EXAMPLE = """example:
  python -m corpus.inspect out/mix --source gsm8k --search "how many apples" --sample 3
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m corpus.inspect",
        description="Show what is in a built dataset: sources, strata, lengths, drop reasons, samples.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", metavar="OUT", help="folder or URL that pipeline.build wrote")
    parser.add_argument("--source", help="only this source")
    parser.add_argument("--search", metavar="TEXT", help="show records that hold TEXT, whatever its case")
    parser.add_argument("--sample", metavar="N", type=int, default=3, help="how many records to show (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds show other random records (default 0)")
    options = parser.parse_args(arguments)
    if options.sample < 0:
        parser.error(f"--sample {options.sample}: expected 0 or more")
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        show(console, options.out, options.source, options.search, options.sample, options.seed)
    except NoDatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        what = redact(f"{options.out}: cannot be read: {error}")
        print(f"error: {what}; `python -m pipeline.verify` checks a dataset", file=sys.stderr)
        return 1
    return 0


def show(console: Console, out: str, source: str | None, search: str | None, sample: int, seed: int) -> None:
    """Print the overview of the dataset at `out`, or of one of its sources.

    Raises
    ------
    NoDatasetError
        There is no finished dataset, or it has no such source.
    """
    dataset = read_json(out, "dataset.json")
    look = scan(out)
    if source is not None:
        if source not in dataset["counts"]:
            known = ", ".join(sorted(dataset["counts"]))
            raise NoDatasetError(f"{redact(out)}: there is no source {source!r}; its sources are {known}")
        look = Scan(*(frame.filter(pl.col("source") == source) for frame in look))
    if search is None:
        _show_sources(console, dataset, source)
        strata = [
            stratum
            for stratum in read_json(out, "strata.json")["strata"]
            if source is None or stratum["source"] == source
        ]
        lengths = np.load(io.BytesIO(read_bytes(out, "lengths.npy")), allow_pickle=False)
        _show_strata(console, strata, lengths)
        _show_lengths(console, strata, lengths)
        _show_drops(console, look.ledger)
        _show_files(console, look.files)
    if search is not None or sample:
        _show_records(console, look.records, search, sample, seed)


def _table(title: str, *columns: str, numbers: int) -> Table:
    """A table whose last `numbers` columns are numbers."""
    table = Table(title=title, title_justify="left", header_style="")
    for index, column in enumerate(columns):
        is_number = index >= len(columns) - numbers
        table.add_column(column, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    return table


def _show_sources(console: Console, dataset: dict[str, Any], source: str | None) -> None:
    table = _table("Sources", "source", "rows", "pairs", "kept", "dropped", "tokens", numbers=5)
    for name, count in dataset["counts"].items():
        if source in (None, name):
            dropped = sum(count["dropped"].values())
            numbers = (count["rows"], count["pairs"], count["kept"], dropped, count["tokens"])
            table.add_row(Text(name), *(f"{number:,}" for number in numbers))
    console.print(table)


def _show_strata(console: Console, strata: list[dict[str, Any]], lengths: np.ndarray) -> None:
    largest = sorted(strata, key=lambda stratum: stratum["begin"] - stratum["end"])[:_STRATA_SHOWN]
    title = "Strata" if len(largest) == len(strata) else f"The largest {len(largest)} of {len(strata):,} strata"
    table = _table(title, "source", "task", "samples", "tokens", "per epoch at most", "repeat", numbers=4)
    for stratum in strata if len(largest) == len(strata) else largest:
        begin, end = stratum["begin"], stratum["end"]
        tokens = int(lengths[begin:end].sum(dtype=np.int64))
        most = "" if stratum["max_per_epoch"] is None else f"{stratum['max_per_epoch']:,}"
        names = Text(stratum["source"]), Text(stratum["task"])
        table.add_row(*names, f"{end - begin:,}", f"{tokens:,}", most, f"{stratum['repeat']:,}")
    console.print(table)


def _show_lengths(console: Console, strata: list[dict[str, Any]], lengths: np.ndarray) -> None:
    heads = [{0.0: "min", 0.5: "median", 1.0: "max"}.get(q, f"{q:.0%}") for q in _QUANTILES]
    table = _table("Lengths in tokens", "source", "part", *heads, numbers=len(heads))
    for name in dict.fromkeys(stratum["source"] for stratum in strata):
        parts = [lengths[s["begin"] : s["end"]] for s in strata if s["source"] == name]
        own = np.concatenate(parts).astype(np.int64)
        if len(own):
            for part, values in (("prefix", own[:, 0]), ("response", own[:, 1]), ("sample", own.sum(axis=1))):
                # An observed length rather than one between two.
                quantiles = np.quantile(values, _QUANTILES, method="lower")
                table.add_row(Text(name), part, *(f"{int(value):,}" for value in quantiles))
    console.print(table)


def _show_drops(console: Console, ledger: pl.LazyFrame) -> None:
    counts = (
        ledger.filter(pl.col("outcome") != Outcome.KEPT.value)
        .group_by("source", "outcome")
        .agg(pl.len().alias("count"), pl.col("detail").drop_nulls().first().alias("example"))
        .sort(["source", "count", "outcome"], descending=[False, True, False])
        .collect()
    )
    table = _table("Dropped", "source", "reason", "for example", "count", numbers=1)
    for source, outcome, count, example in counts.iter_rows():
        table.add_row(Text(source), Text(outcome), Text((example or "")[:200]), f"{count:,}")
    console.print(table if len(counts) else "Nothing was dropped.")


def _show_files(console: Console, files: pl.LazyFrame) -> None:
    unread = (
        files.filter(pl.col("outcome") != FileOutcome.READ.value)
        .select("source", "file", "outcome", "position", "detail")
        .sort("source", "file")
        .collect()
    )
    if len(unread):
        table = _table("Input files that were not read whole", "source", "file", "outcome", "why", numbers=0)
        for source, file, outcome, position, detail in unread.iter_rows():
            why = ": ".join(part for part in (position, detail) if part)
            table.add_row(Text(source), Text(file), Text(outcome), Text(why))
        console.print(table)


def _show_records(console: Console, records: pl.LazyFrame, search: str | None, sample: int, seed: int) -> None:
    if search is None:
        count = records.select(pl.len()).collect().item()
        chosen = sorted(random.Random(f"{seed}/inspect").sample(range(count), min(sample, count)))
        found = records.with_row_index("index").filter(pl.col("index").is_in(chosen)).drop("index").collect()
        title = f"{len(found)} random records"
    else:
        wanted = search.lower()
        matches = records.filter(
            pl.col("instruction").str.to_lowercase().str.contains(wanted, literal=True)
            | pl.col("response").str.to_lowercase().str.contains(wanted, literal=True)
        )
        count = matches.select(pl.len()).collect().item()
        found = matches.head(sample).collect()
        title = f"{count:,} records hold {search!r}; the first {len(found)}:"
    console.print(Text(title))
    for record in found.iter_rows(named=True):
        condition = f" [{', '.join(record['condition'])}]" if record["condition"] else ""
        console.rule(Text(f"{record['row_id']}  {record['source']} / {record['task']}{condition}"), align="left")
        console.print(Text(printable(record["instruction"])))
        console.print(Text("→ " + printable(record["response"])))


if __name__ == "__main__":
    sys.exit(main())
