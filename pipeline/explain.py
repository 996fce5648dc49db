"""Explain what happened to a row: where it came from, its outcome, and why.

    python -m pipeline.explain out/mix 3fa9c1
    python -m pipeline.explain out/mix --file train.jsonl --row 12
    python -m pipeline.explain out/mix --near 20    # the near duplicates to check first

The text of a kept row is in the dataset. That of a dropped row is read again from its input file, if it is still there.
"""

import json
import re
import sys
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corpus import cli
from corpus.config import ConfigError
from corpus.contract import DatasetError, eval_file
from corpus.dataset import Dataset, open_dataset
from corpus.outcome import Outcome
from corpus.terminal import printable

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console
    from rich.text import Text

    from corpus.originals import Originals

Row = dict[str, Any]
"""A row of a Parquet file, by column."""

SHOWN_MATCHES = 10
SHOWN_WORDS = 12
"""Words shown on either side of a difference."""
_EPILOG = """example:
  python -m pipeline.explain out/mix 3fa9c1"""


class UnknownRowError(Exception):
    """No row has this id, or several do."""


def find(dataset: Dataset, prefix: str) -> Row:
    """Return the ledger line of the row whose id begins with `prefix`.

    Raises
    ------
    ConfigError
        `prefix` cannot be a row id.
    UnknownRowError
        No row id, or more than one, begins with `prefix`; the message lists them.
    """
    import pyarrow.compute as pc

    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        raise ConfigError(f"{prefix!r} is not a row id: expected up to 32 of the digits 0-9 a-f")
    matches = _lines(dataset, ["row_id"], lambda columns: pc.starts_with(columns["row_id"], prefix))
    if not matches:
        raise UnknownRowError(f"no row id begins with {prefix}; `python -m corpus.inspect` finds rows by text")
    if len(matches) > 1:
        raise UnknownRowError(f"{len(matches):,} row ids begin with {prefix}; give more digits:{_listed(matches)}")
    return matches[0]


def find_at(dataset: Dataset, file: str, row: int) -> list[Row]:
    """Return the ledger lines of the pairs of one row of an input file.

    Raises
    ------
    UnknownRowError
        There is no such row, or several sources have such a file; the message lists them.
    """
    import pyarrow.compute as pc

    matches = _lines(
        dataset,
        ["file", "row"],
        lambda columns: pc.and_(pc.equal(columns["file"], file), pc.equal(columns["row"], row)),
    )
    if not matches:
        raise UnknownRowError(
            f"no source has a row {row:,} (from 0) in a file {file}; `python -m corpus.inspect` lists sources, and "
            "ledger/files.parquet has the files"
        )
    if len({line["source"] for line in matches}) > 1:
        raise UnknownRowError(f"several sources have a file {file}; give a row id:{_listed(matches)}")
    return matches


def _lines(dataset: Dataset, columns: list[str], chosen: "Callable[[pa.Table], pa.Array]") -> list[Row]:
    """Return the ledger lines that `chosen` marks, given the named columns of some lines."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    matches: list[Row] = []
    for path in dataset.info.ledger:
        with dataset.open(path) as file, pq.ParquetFile(file) as parquet:
            for group in range(parquet.num_row_groups):
                hits = chosen(parquet.read_row_group(group, columns=columns, use_threads=False))
                if pc.any(hits).as_py():
                    matches += parquet.read_row_group(group, use_threads=False).filter(hits).to_pylist()
    return matches


def _listed(lines: list[Row]) -> str:
    return "".join(f"\n  {line['row_id']}  {line['source']} {line['file']}" for line in lines[:SHOWN_MATCHES])


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


def _show(screen: "Console", originals: "Originals", line: Row) -> None:
    """Print a ledger line and the text of its row, then those of the row that it lost to with the differences."""
    dataset = originals.dataset
    record, problem = _text(originals, line)
    _show_line(screen, dataset, line, record, problem, label="row id")
    if line["twin"] is None:
        return
    twin = find(dataset, line["twin"])
    kept, problem = _text(originals, twin)
    screen.print("")
    _show_line(screen, dataset, twin, kept, problem, label="lost to")
    if record and kept:
        screen.print("\ndifferences: [-only in the dropped row-] [+only in the kept row+]", markup=False)
        for name in ("instruction", "response"):
            screen.print(f"  {name}: ", _difference(record[name], kept[name]), soft_wrap=True)


def _text(originals: "Originals", line: Row) -> tuple[Row, str]:
    """Return the text of a line's row, and why it cannot be shown; either is empty."""
    from corpus.originals import OriginalError

    record = text_of(originals.dataset, line)
    if record is not None:
        return record, ""
    try:
        pair = originals.text(line["source"], line["file"], line["row"], line["part"])
    except (OriginalError, OSError) as error:
        return {}, f"not in the dataset, and its input cannot be read: {error}; --base names the manifest's folder"
    if pair is None:
        return {}, "the row yields no pair"
    return {
        "task": pair.task,
        "condition": pair.condition,
        "instruction": pair.instruction,
        "response": pair.response,
        "meta": pair.meta,
    }, ""


def _show_line(screen: "Console", dataset: Dataset, line: Row, record: Row, problem: str, *, label: str) -> None:
    """Print a ledger line with the text of its row, or the problem with reading it again."""
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
        "text": problem,
    }
    for name, value in fields.items():
        if value not in (None, ""):
            screen.print(f"{name:<12} {printable(str(value))}", soft_wrap=True, markup=False)


def _show_near(screen: "Console", dataset: Dataset, count: int) -> None:
    """Print the least similar near duplicates, each with the row that it lost to and the differences marked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.report.page import NEAR_DUPLICATES

    with pq.ParquetFile(pa.BufferReader(dataset.read(NEAR_DUPLICATES))) as parquet:
        rows = parquet.read(use_threads=False).slice(0, count).to_pylist()
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

    old, new = printable(dropped).split(), printable(kept).split()
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
    file: Annotated[
        str | None, typer.Option(help="an input file, by its path in its source; with --row", metavar="FILE")
    ] = None,
    row: Annotated[int | None, typer.Option(min=0, help="a row of that file, from 0", metavar="N")] = None,
    near: Annotated[
        int | None,
        typer.Option(min=1, help="show the COUNT (up to 100) least similar near duplicates", metavar="COUNT"),
    ] = None,
    base: Annotated[
        Path, typer.Option(help="the manifest's folder, which relative paths of input files start from", metavar="DIR")
    ] = Path(),
) -> None:
    """Explain what happened to a row, and why."""
    from corpus.discover import as_utf8
    from corpus.originals import Originals
    from pipeline.report.console import console

    if (file is None) != (row is None) or [row_id, file, near].count(None) != 2:
        raise typer.BadParameter("give either a row id, --file FILE with --row N, or --near COUNT")
    try:
        dataset = open_dataset(out)
        if near is not None:
            _show_near(console(), dataset, near)
            return
        found = (
            [find(dataset, row_id.lower())] if row_id is not None else find_at(dataset, as_utf8(file or ""), row or 0)
        )
        for number, line in enumerate(found):
            if number:
                console().rule()
            _show(console(), Originals(dataset=dataset, base=base), line)
    except (DatasetError, OSError, ValueError) as error:
        raise typer.Exit(cli.fail(error)) from None


if __name__ == "__main__":
    sys.exit(main())
