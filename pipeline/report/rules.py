"""The dry run's table of quality rules: what each rule, enabled or not, would drop from sampled pairs.

sample of one source ─ try_rules ─▶ `Trial` ─┐
sample of another    ─ try_rules ─▶ `Trial` ─┴ rules_table ─▶ one line for each rule
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import polars as pl
from rich.table import Table

from pipeline.ingest.clean import clean
from pipeline.manifest import Mix
from pipeline.report.console import safe

EXAMPLES = 2
EXAMPLE_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sampled pair that a rule would drop."""

    source: str
    instruction: str
    response: str
    detail: str
    """What the rule found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the rules would drop from the sampled pairs of a source."""

    pairs: int
    """Sampled pairs that cleaning keeps."""
    drops: Mapping[str, int]
    """Rule to the number of these pairs that it would drop."""
    examples: Mapping[str, Sequence[Example]]
    """Rule to the first of them."""


def try_rules(mix: Mix, sample: pl.DataFrame) -> Trial:
    """Apply each rule alone, enabled or not.

    Parameters
    ----------
    mix
        The manifest.
    sample
        Pairs of a train source: columns source, instruction, response.
    """
    cleaned = clean(sample, mix.clean)
    frame = cleaned.filter(pl.col("outcome").is_null()).select("source", "instruction", "response")
    drops: dict[str, int] = {}
    examples: dict[str, list[Example]] = {}
    for name, rule in mix.rules.rules.items():
        verdict = rule.judge(frame)
        drops[name] = len(verdict.rows)
        examples[name] = [
            Example(**frame.row(row, named=True), detail=detail)
            for row, detail in islice(zip(verdict.rows.tolist(), verdict.details, strict=True), EXAMPLES)
        ]
    return Trial(pairs=len(frame), drops=drops, examples=examples)


def rules_table(mix: Mix, trials: Sequence[Trial]) -> Table:
    """Return a table with one line per rule: whether it is enabled, how many sampled pairs it drops, and examples.

    Parameters
    ----------
    mix
        The manifest.
    trials
        Of each of its train sources.
    """
    pairs = sum(trial.pairs for trial in trials)
    table = Table(title=f"quality rules, each applied alone, on {pairs:,} sampled pairs")
    table.add_column("rule")
    table.add_column("on")
    table.add_column("drops", justify="right")
    table.add_column("for example", overflow="fold")
    for name, rule in mix.rules.rules.items():
        examples = []
        for example in islice((each for trial in trials for each in trial.examples[name]), EXAMPLES):
            texts = " => ".join(safe(text, EXAMPLE_CHARS) for text in (example.instruction, example.response))
            examples.append(f"[dim]{safe(example.source)}: {safe(example.detail)}[/] {texts}")
        drops = sum(trial.drops[name] for trial in trials)
        table.add_row(name, "yes" if rule.enabled else "no", f"{drops:,}", "\n".join(examples))
    return table
