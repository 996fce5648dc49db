"""The dry run's table of quality rules: what each rule, enabled or not, would drop from sampled pairs."""

from collections.abc import Sequence
from itertools import islice

import polars as pl
from rich.table import Table

from corpus.discover import SourceFile
from corpus.pairs import read_pairs
from corpus.record import Pair
from corpus.source import SourceSpec
from pipeline.ingest.clean import clean
from pipeline.manifest import Mix
from pipeline.report.console import safe

SAMPLE_PAIRS = 1000
"""Approximate number of pairs sampled from a source: the first pairs of each of its files."""
EXAMPLES = 2
EXAMPLE_CHARS = 120


def sample(spec: SourceSpec, files: Sequence[SourceFile]) -> pl.DataFrame:
    """Return columns `source`, `instruction`, `response` of a source's first pairs."""
    files = [file for file in files if file.format is not None and not file.skipped]
    per_file = -(-SAMPLE_PAIRS // max(len(files), 1))
    pairs = [
        (spec.name, item.instruction, item.response)
        for file in files
        for item in islice((item for item in read_pairs(spec, file) if isinstance(item, Pair)), per_file)
    ]
    names = ("source", "instruction", "response")
    return pl.DataFrame(pairs, schema=dict.fromkeys(names, pl.String), orient="row")


def rules_table(mix: Mix, files: Sequence[Sequence[SourceFile]]) -> Table:
    """Return a table with one line per rule: whether it is enabled, how many sampled pairs it drops, and examples.

    Parameters
    ----------
    mix
        The manifest.
    files
        The files of each of its sources, in the manifest's order.
    """
    samples = [sample(spec, found) for spec, found in zip(mix.sources, files, strict=True) if spec.role == "train"]
    cleaned = clean(pl.concat(samples), mix.clean)
    frame = cleaned.filter(pl.col("outcome").is_null()).select("source", "instruction", "response")
    table = Table(title=f"quality rules, each applied alone, on {len(frame):,} sampled pairs")
    table.add_column("rule")
    table.add_column("on")
    table.add_column("drops", justify="right")
    table.add_column("for example", overflow="fold")
    for name, rule in mix.rules.rules.items():
        verdict = rule.judge(frame)
        examples = []
        for row, detail in islice(zip(verdict.rows.tolist(), verdict.details, strict=True), EXAMPLES):
            source, instruction, response = frame.row(row)
            texts = " => ".join(safe(text, EXAMPLE_CHARS) for text in (instruction, response))
            examples.append(f"[dim]{safe(source)}: {safe(detail)}[/] {texts}")
        table.add_row(name, "yes" if rule.enabled else "no", f"{len(verdict.rows):,}", "\n".join(examples))
    return table
