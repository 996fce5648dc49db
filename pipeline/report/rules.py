"""What each quality rule, switched on or not, would take of sampled pairs: for the dry run."""

from collections.abc import Sequence
from itertools import islice

import polars as pl
from rich.markup import escape
from rich.table import Table

from corpus.discover import SourceFile
from corpus.formats.base import printable
from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec
from pipeline.ingest.clean import clean
from pipeline.manifest import Mix
from pipeline.rules.apply import RULES

SAMPLED = 1000
"""Pairs of a source that are shown to the rules, about: the first of each of its files."""
EXAMPLES = 2
SHOWN_CHARS = 120


def sample(spec: SourceSpec, files: Sequence[SourceFile]) -> pl.DataFrame:
    """Columns `source`, `instruction`, `response` of a source's first pairs."""
    files = [file for file in files if file.format is not None and not file.skipped]
    each = -(-SAMPLED // max(len(files), 1))
    pairs = [
        (spec.name, item.instruction, item.response)
        for file in files
        for item in islice((item for item in read_pairs(spec, file) if isinstance(item, Pair)), each)
    ]
    names = ("source", "instruction", "response")
    return pl.DataFrame(pairs, schema=dict.fromkeys(names, pl.String), orient="row")


def rules_table(mix: Mix, files: Sequence[Sequence[SourceFile]]) -> Table:
    """A line for each rule: whether it is on, how many sampled pairs it would take by itself, and examples.

    Parameters
    ----------
    mix
        The manifest.
    files
        The files of each of its sources.
    """
    samples = [sample(spec, mine) for spec, mine in zip(mix.sources, files, strict=True) if spec.role == "train"]
    cleaned = clean(pl.concat(samples), mix.clean)
    frame = cleaned.filter(pl.col("outcome").is_null())
    table = Table(title=f"quality rules, each by itself, on {len(frame):,} sampled pairs")
    table.add_column("rule")
    table.add_column("on")
    table.add_column("takes", justify="right")
    table.add_column("for example", overflow="fold")
    for name, (rule, _) in RULES.items():
        settings = getattr(mix.rules, name)
        verdict = rule(frame.select("instruction", "response"), settings)
        shown = []
        for row, detail in islice(zip(verdict.rows.tolist(), verdict.details, strict=True), EXAMPLES):
            source, instruction, response = frame.select("source", "instruction", "response").row(row)
            text = f"{instruction[:SHOWN_CHARS]} => {response[:SHOWN_CHARS]}"
            shown.append(f"[dim]{escape(source)}: {escape(printable(detail))}[/] {escape(_line(text))}")
        table.add_row(name, "yes" if settings.enabled else "no", f"{len(verdict.rows):,}", "\n".join(shown))
    return table


def _line(text: str) -> str:
    return printable(text).replace("\n", "\\n")
