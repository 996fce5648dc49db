"""The dry run's table of quality rules: what each rule, enabled or not, would drop from sampled pairs."""

from collections.abc import Sequence
from itertools import islice

import polars as pl
from rich.table import Table

from pipeline.ingest.clean import clean
from pipeline.manifest import Mix
from pipeline.report.console import safe

EXAMPLES = 2
EXAMPLE_CHARS = 120


def rules_table(mix: Mix, samples: Sequence[pl.DataFrame]) -> Table:
    """Return a table with one line per rule: whether it is enabled, how many sampled pairs it drops, and examples.

    Parameters
    ----------
    mix
        The manifest.
    samples
        Pairs of its train sources: columns source, instruction, response.
    """
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
