"""Explain what happened to a row: where it came from, its outcome, and why.

    python -m pipeline.explain out/mix 3fa9c1
    python -m pipeline.explain out/mix --near 20    # the near duplicates to check first

Reads only the dataset: the ledger, and the texts of what was kept.
"""

import json
import re
import sys
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import cli
from corpus.contract import DatasetError, eval_file
from corpus.dataset import Dataset, open_dataset
from corpus.outcome import Outcome
from corpus.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Row = dict[str, Any]
"""A row of a Parquet file, by column."""

SHOWN_MATCHES = 10
SHOWN_WORDS = 12
"""Words shown on either side of a difference."""
_EPILOG = """example:
  python -m pipeline.explain out/mix 3fa9c1

exit codes: 0 explained, 1 there is no such row, 2 there is no dataset or it cannot be read"""


class UnknownRowError(Exception):
    """No row has this id, or several do."""


def find(dataset: Dataset, prefix: str) -> Row:
    """Return the ledger line of the row whose id begins with `prefix`.

    Raises
    ------
    UnknownRowError
        No row id, or more than one, begins with `prefix`; the message lists them.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        raise UnknownRowError(f"{prefix!r} is not a row id: expected up to 32 of the digits 0-9 a-f")
    matches: list[Row] = []
    for path in dataset.info.ledger:
        with dataset.open(path) as file, pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                ids = parquet.read_row_group(group, columns=["row_id"], use_threads=False).column("row_id")
                hits = pc.starts_with(ids, prefix)
                if pc.any(hits).as_py():
                    matches += parquet.read_row_group(group, use_threads=False).filter(hits).to_pylist()
    if not matches:
        raise UnknownRowError(f"no row id begins with {prefix}; `python -m corpus.inspect` finds rows by text")
    if len(matches) > 1:
        shown = "".join(f"\n  {line['row_id']}  {line['source']} {line['file']}" for line in matches[:SHOWN_MATCHES])
        raise UnknownRowError(f"{len(matches):,} row ids begin with {prefix}; give more digits:{shown}")
    return matches[0]


def text_of(dataset: Dataset, line: Row) -> Row | None:
    """Return the record of a ledger line whose row was kept, None for one that was dropped."""
    import pyarrow.parquet as pq

    if line["outcome"] != Outcome.KEPT:
        return None
    if line["sample"] is None:
        with dataset.open(eval_file(line["source"])) as file:
            records: map[Row] = map(json.loads, file)
            return next((record for record in records if record["row_id"] == line["row_id"]), None)
    first = 0
    for path in dataset.info.curated:
        with dataset.open(path) as file, pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if first <= line["sample"] < first + rows:
                    table = parquet.read_row_group(group, use_threads=False).slice(line["sample"] - first, 1)
                    record: Row = table.to_pylist()[0]
                    return record
                first += rows
    return None


def _show(screen: "Console", dataset: Dataset, line: Row, *, label: str = "row id") -> None:
    """Print a ledger line and the text of its row, then those of the row that it lost to."""
    record = text_of(dataset, line) or {}
    fields = {
        label: line["row_id"],
        "source": f"{line['source']} ({dataset.info.counts[line['source']].role})",
        "file": line["file"],
        "row": f"{line['row']:,} (part {line['part']})",
        "outcome": line["outcome"],
        "stage": line["stage"],
        "score": line["score"],
        "detail": line["detail"],
        "sample": None if line["sample"] is None else f"{line['sample']:,}",
        "task": record.get("task"),
        "condition": ", ".join(record.get("condition") or []),
        "instruction": record.get("instruction"),
        "response": record.get("response"),
        "meta": record.get("meta"),
    }
    for name, value in fields.items():
        if value not in (None, ""):
            screen.print(f"{name:<12} {printable(str(value))}", soft_wrap=True, markup=False)
    if line["twin"] is not None and label == "row id":
        screen.print("")
        _show(screen, dataset, find(dataset, line["twin"]), label="lost to")


def _show_near(screen: "Console", dataset: Dataset, count: int) -> None:
    """Print the least similar near duplicates, each with the row that it lost to and the differences marked."""
    import pyarrow.parquet as pq

    from pipeline.report.page import NEAR_DUPLICATES

    with dataset.open(NEAR_DUPLICATES) as file:
        rows = pq.read_table(file, use_threads=False).slice(0, count).to_pylist()
    if not rows:
        screen.print("no near duplicates were dropped")
    for number, row in enumerate(rows, 1):
        screen.print(
            f"{number}  similarity {row['score']:.3f}  dropped {row['row_id']} ({row['source']})"
            f"  kept {row['twin']} ({row['twin_source']})",
            soft_wrap=True,
            markup=False,
        )
        for name in ("instruction", "response"):
            screen.print(f"  {name}: ", _difference(row[name], row[f"twin_{name}"]), soft_wrap=True)


def _difference(dropped: str, kept: str) -> "Text":
    """Return one text of both: words of the dropped one only are red, of the kept one only green, others shortened."""
    from rich.text import Text

    old, new = dropped.split(), kept.split()
    text = Text()
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            same = old[i:j]
            cut = [*same[:SHOWN_WORDS], f"[… {len(same) - 2 * SHOWN_WORDS} words …]", *same[-SHOWN_WORDS:]]
            text.append(" ".join(same if len(same) <= 2 * SHOWN_WORDS else cut) + " ")
        else:
            text.append("".join(f"[-{' '.join(words)}-] " for words in (old[i:j],) if words), "red")
            text.append("".join(f"[+{' '.join(words)}+] " for words in (new[k:m],) if words), "green")
    return text


@cli.command("python -m pipeline.explain", errors=(UnknownRowError,), epilog=_EPILOG)
def main(
    out: Annotated[str, typer.Argument(help="folder or fsspec URL of the dataset", metavar="OUT")],
    row_id: Annotated[str | None, typer.Argument(help="a row's id, or its first digits", metavar="ROW_ID")] = None,
    near: Annotated[
        int | None,
        typer.Option(min=1, help="show the COUNT (up to 100) least similar near duplicates", metavar="COUNT"),
    ] = None,
) -> None:
    """Explain what happened to a row, and why."""
    from pipeline.report.console import console

    if (row_id is None) == (near is None):
        raise typer.BadParameter("give either a row id or --near COUNT")
    try:
        dataset = open_dataset(out)
        if near is not None:
            _show_near(console(), dataset, near)
        elif row_id is not None:
            _show(console(), dataset, find(dataset, row_id.lower()))
    except (DatasetError, OSError, ValueError) as error:
        raise typer.Exit(cli.fail(error, cli.MISUSED)) from None


if __name__ == "__main__":
    sys.exit(main())
