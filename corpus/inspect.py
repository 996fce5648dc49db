"""Show what is in a built dataset: sources, strata, lengths, drop reasons, samples.

    python -m corpus.inspect out/mix --source gsm8k --search "how many apples"
    python -m corpus.inspect out/mix --search "how many apples" --dropped

Also lists the input files that were not read whole. The texts of dropped rows are not in a dataset: `--dropped` reads
them again from the input files.
"""

import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import cli, terminal
from corpus.config import ConfigError
from corpus.contract import COMMIT, DatasetError, SourceCounts, Stratum
from corpus.dataset import Dataset, open_dataset
from corpus.outcome import FileOutcome, Outcome
from corpus.terminal import counted

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.table import Table

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_STRATA_SHOWN = 40
_EXAMPLE = """example:
  python -m corpus.inspect out/mix --source gsm8k --search "how many apples" --sample 3
"""


@cli.command("python -m corpus.inspect", errors=(DatasetError, OSError), epilog=_EXAMPLE)
def main(
    out: Annotated[str, typer.Argument(help="folder or URL that pipeline.build wrote", metavar="OUT")],
    source: Annotated[str | None, typer.Option(help="only this source")] = None,
    search: Annotated[
        str | None, typer.Option(help="show records that contain TEXT, in any letter case", metavar="TEXT")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="number of records to show", metavar="N")] = 3,
    seed: Annotated[int, typer.Option(help="another seed shows other random records")] = 0,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="with --search: search the dropped rows, read again from the input files")
    ] = False,
    base: Annotated[
        Path, typer.Option(help="the manifest's folder, which relative paths of input files start from", metavar="DIR")
    ] = Path(),
    as_json: Annotated[
        bool, typer.Option("--json", help="print sources, strata, drop reasons and found records as JSON")
    ] = False,
) -> int:
    """Show what is in a built dataset: sources, strata, lengths, drop reasons, samples."""
    import polars as pl

    if dropped and not search:
        raise typer.BadParameter("--dropped needs --search TEXT")
    if dropped and as_json:
        raise typer.BadParameter("--json is for the dataset's own records, --dropped for rows of the input files")
    console = terminal.console(120)
    try:
        if as_json:
            print(json.dumps(overview(out, source, search, sample)))
        elif dropped and search:
            show_dropped(console, out, source, search, sample, base)
        else:
            show(console, out, source, search, sample, seed)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        return cli.fail(f"{out}: cannot be read: {error}; `python -m pipeline.verify` checks a dataset")
    return 0


def show(console: "Console", out: str, source: str | None, search: str | None, sample: int, seed: int) -> None:
    """Print the overview of the dataset at `out`, or of one of its sources.

    Raises
    ------
    DatasetError
        There is no finished dataset.
    ConfigError
        It has no such source.
    """
    import polars as pl

    from corpus.look import Scan, scan

    dataset = _opened(out, source)
    counts = dataset.info.counts
    look = scan(dataset)
    if source is not None:
        counts = {source: counts[source]}
        look = Scan(*(frame.filter(pl.col("source") == source) for frame in look))
    if search is None:
        _show_sources(console, counts)
        strata = [stratum for stratum in dataset.strata if stratum.source in counts]
        _show_strata(console, strata, dataset.lengths)
        _show_lengths(console, strata, dataset.lengths)
        _show_drops(console, look.ledger)
        _show_files(console, look.files)
    if search is not None or sample:
        _show_records(console, look.records, search, sample, seed)


def overview(out: str, source: str | None, search: str | None, sample: int) -> dict[str, Any]:
    """Return the overview of the dataset at `out`, or of one of its sources, with the first records that have `search`.

    Raises
    ------
    DatasetError
        There is no finished dataset.
    ConfigError
        It has no such source.
    """
    import polars as pl

    from corpus.look import scan

    dataset = _opened(out, source)
    counts = {name: count for name, count in dataset.info.counts.items() if source in (None, name)}
    records = scan(dataset).records.filter(pl.col("source").is_in(list(counts)))
    found = [] if search is None else _containing(records, search).head(sample).collect().to_dicts()
    return {
        "name": dataset.info.name,
        "samples": dataset.info.samples,
        "tokens": dataset.info.tokens,
        "sources": {name: count.model_dump() for name, count in counts.items()},
        "strata": [
            {**stratum.model_dump(), "tokens": int(dataset.lengths[stratum.begin : stratum.end].sum(dtype="int64"))}
            for stratum in dataset.strata
            if stratum.source in counts
        ],
        "records": found,
    }


def _containing(records: "pl.LazyFrame", search: str) -> "pl.LazyFrame":
    """Return the records whose instruction or response contains a text, in any letter case."""
    import polars as pl

    return records.filter(
        pl.col("instruction").str.to_lowercase().str.contains(search.lower(), literal=True)
        | pl.col("response").str.to_lowercase().str.contains(search.lower(), literal=True)
    )


def _opened(out: str, source: str | None) -> Dataset:
    """Return the dataset at `out`, which has the source if one is given."""
    dataset = open_dataset(out)
    if source is not None and source not in dataset.info.counts:
        known = ", ".join(sorted(dataset.info.counts))
        raise ConfigError(f"--source: {dataset.url(COMMIT)} has no source {source!r}; its sources are {known}")
    return dataset


def _table(title: str, *columns: str, numbers: int) -> "Table":
    """A table whose last `numbers` columns are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="")
    for index, column in enumerate(columns):
        is_number = index >= len(columns) - numbers
        table.add_column(column, justify="right" if is_number else "left", overflow="fold", no_wrap=is_number)
    return table


def _show_sources(console: "Console", counts: dict[str, SourceCounts]) -> None:
    from rich.text import Text

    table = _table("Sources", "source", "rows", "pairs", "kept", "dropped", "tokens", numbers=5)
    for name, count in counts.items():
        numbers = (count.rows, count.pairs, count.kept, sum(count.dropped.values()), count.tokens)
        table.add_row(Text(name), *(f"{number:,}" for number in numbers))
    console.print(table)


def _show_strata(console: "Console", strata: Sequence[Stratum], lengths: "NDArray[np.uint16]") -> None:
    from rich.text import Text

    title, shown = "Strata", strata
    if len(strata) > _STRATA_SHOWN:
        title = f"The largest {_STRATA_SHOWN} of {len(strata):,} strata"
        shown = sorted(strata, key=lambda stratum: -stratum.samples)[:_STRATA_SHOWN]
    table = _table(title, "source", "task", "samples", "tokens", "max per epoch", "repeat", numbers=4)
    for stratum in shown:
        tokens = int(lengths[stratum.begin : stratum.end].sum(dtype="int64"))
        cap = "" if stratum.max_per_epoch is None else f"{stratum.max_per_epoch:,}"
        names = Text(stratum.source), Text(stratum.task)
        table.add_row(*names, f"{stratum.samples:,}", f"{tokens:,}", cap, f"{stratum.repeat:,}")
    console.print(table)


def _show_lengths(console: "Console", strata: Sequence[Stratum], lengths: "NDArray[np.uint16]") -> None:
    import numpy as np
    from rich.text import Text

    heads = [{0.0: "min", 0.5: "median", 1.0: "max"}.get(q, f"{q:.0%}") for q in _QUANTILES]
    table = _table("Lengths in tokens", "source", "part", *heads, numbers=len(heads))
    for name in dict.fromkeys(stratum.source for stratum in strata):
        ranges = [lengths[stratum.begin : stratum.end] for stratum in strata if stratum.source == name]
        found = np.concatenate(ranges).astype(np.int64)
        for part, values in (("prefix", found[:, 0]), ("response", found[:, 1]), ("sample", found.sum(axis=1))):
            # "lower": the length of a sample, not one between two.
            quantiles = np.quantile(values, _QUANTILES, method="lower")
            table.add_row(Text(name), part, *(f"{int(value):,}" for value in quantiles))
    console.print(table)


def _show_drops(console: "Console", ledger: "pl.LazyFrame") -> None:
    import polars as pl
    from rich.text import Text

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


def _show_files(console: "Console", files: "pl.LazyFrame") -> None:
    import polars as pl
    from rich.text import Text

    from corpus.formats.tally import describe_losses

    losses_type = pl.List(pl.Struct({"reason": pl.String, "bytes": pl.Int64}))
    has_losses = "bytes_lost" in files.collect_schema()  # which older datasets lack
    unread = (
        files.with_columns((pl.col("bytes_lost") if has_losses else pl.lit(None, losses_type)).alias("lost"))
        .filter((pl.col("outcome") != FileOutcome.READ.value) | (pl.col("lost").list.len() > 0))
        .select("source", "file", "outcome", "position", "detail", "lost")
        .sort("source", "file")
        .collect()
    )
    if len(unread):
        table = _table("Input files that were not read whole", "source", "file", "outcome", "why", numbers=0)
        for source, file, outcome, position, detail, losses in unread.iter_rows():
            why = ": ".join(part for part in (position, detail) if part)
            why = "; ".join(filter(None, [why, describe_losses(losses)]))
            table.add_row(Text(source), Text(file), Text(outcome), Text(why))
        console.print(table)


def _show_records(console: "Console", records: "pl.LazyFrame", search: str | None, sample: int, seed: int) -> None:
    import polars as pl
    from rich.text import Text

    if search is None:
        count = records.select(pl.len()).collect().item()
        chosen = sorted(random.Random(f"{seed}/inspect").sample(range(count), min(sample, count)))
        found = records.with_row_index("index").filter(pl.col("index").is_in(chosen)).drop("index").collect()
        title = counted(len(found), "random record")
    else:
        matches = _containing(records, search)
        count = matches.select(pl.len()).collect().item()
        found = matches.head(sample).collect()
        title = f"{counted(count, 'record contains', 'records contain')} {search!r}; the first {len(found)}:"
    console.print(Text(title))
    for record in found.iter_rows(named=True):
        condition = f" [{', '.join(record['condition'])}]" if record["condition"] else ""
        _show_record(console, record, f"{record['source']} / {record['task']}{condition}")


def _show_record(console: "Console", record: Mapping[str, Any], head: str) -> None:
    from rich.text import Text

    console.rule(Text(f"{record['row_id']}  {head}"), align="left")
    console.print(Text(record["instruction"]))
    console.print(Text("→ " + record["response"]))


def show_dropped(console: "Console", out: str, source: str | None, search: str, sample: int, base: Path) -> None:
    """Print dropped rows that contain `search`, read again from the input files below `base`.

    Raises
    ------
    DatasetError
        There is no finished dataset.
    ConfigError
        It has no such source.
    """
    from rich.text import Text

    from corpus.originals import OriginalError, Originals

    dataset = _opened(out, source)
    originals = Originals(dataset=dataset, base=base)
    count, unread = 0, []
    for name, file, lines in _dropped_by_file(dataset, source):
        try:
            for pair in originals.pairs(name, file):
                line = lines.get((pair.row, pair.part))
                text = f"{pair.instruction}\n{pair.response}".lower()
                if line is None or search.lower() not in text:
                    continue
                count += 1
                if count <= sample:
                    record = {"row_id": line[0], "instruction": pair.instruction, "response": pair.response}
                    _show_record(console, record, f"{name} / {file} row {pair.row:,}: {line[1]}")
        except (OriginalError, OSError) as error:
            unread.append(str(error))
    found = counted(count, "dropped row contains", "dropped rows contain")
    console.print(Text(f"{found} {search!r}; {min(count, sample)} shown"))
    for problem in unread:
        console.print(Text(f"not searched: {problem}; --base names the manifest's folder"))


def _dropped_by_file(
    dataset: Dataset, source: str | None
) -> Iterator[tuple[str, str, dict[tuple[int, int], tuple[str, str]]]]:
    """Yield source, file, and the row id and outcome of each dropped (row, part), for each file with such rows."""
    import polars as pl

    from corpus.look import scan

    ledger = scan(dataset).ledger.filter(pl.col("outcome") != Outcome.KEPT.value)
    if source is not None:
        ledger = ledger.filter(pl.col("source") == source)
    files = ledger.select("source", "file").unique(maintain_order=True).collect()
    for name, file in files.iter_rows():
        lines = ledger.filter(pl.col("source") == name, pl.col("file") == file)
        rows = lines.select("row", "part", "row_id", "outcome").collect().iter_rows()
        yield name, file, {(row, part): (row_id, outcome) for row, part, row_id, outcome in rows}


if __name__ == "__main__":
    sys.exit(main())
