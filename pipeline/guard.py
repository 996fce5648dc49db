"""Guard: a build stops where one rule takes more of a source than the manifest lets pass.

    dropped rows by source and rule, after each stage ─▶ shares of what came in ─▶ BuildError with the numbers

A rule that suits nine sources may empty the tenth. What it may take at most is
said, from the most to the least particular, by the source's `guard`, by the
mix's `guard.rules`, by `UNGUARDED`, by `guard.max_share`.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from corpus.outcome import Outcome
from corpus.source import SourceSpec
from pipeline.engine.step import BuildError
from pipeline.manifest import Mix
from pipeline.records.drops import Scope

UNGUARDED: Mapping[str, float] = {Outcome.EXACT_DUPLICATE: 1.0, Outcome.REJECTED_LABEL: 1.0}
"""Rules that may take all of a source unless the manifest says otherwise: what equals a pair that is kept is not lost
(sources often contain each other), and a rejection is the data's own."""

Dropped = Mapping[str, Mapping[str, int]]
"""For each source: rows that each rule has dropped."""


class Guard:
    """The shares of a mix's sources that each rule may take.

    Parameters
    ----------
    mix
        The manifest.
    entered
        For each source: pairs, and rows without one, that came in.
    """

    def __init__(self, mix: Mix, entered: Mapping[str, int]) -> None:
        self._mix, self._entered = mix, entered

    def check(self, dropped: Dropped) -> None:
        """Compare what rules have dropped with what they may.

        Raises
        ------
        BuildError
            A rule took more; with a table, and the keys that let it pass.
        """
        lines, keys = [("source", "rule", "rows in", "dropped", "share", "at most")], []
        for number, source in enumerate(self._mix.sources):
            rows = self._entered[source.name]
            if rows < self._mix.guard.min_rows:
                continue
            for rule, count in dropped.get(source.name, {}).items():
                share, most = count / rows, self._most(source, rule)
                if share > most:
                    lines.append((source.name, rule, f"{rows:,}", f"{count:,}", f"{share:.1%}", f"{most:.1%}"))
                    place = number if "." in source.name else source.name
                    keys.append(f"sources.{place}.guard.{rule}={math.ceil(share * 100) / 100:g}")
        if keys:
            raise BuildError(
                "guard: a rule takes more of a source than may pass; nothing was published, finished work is kept\n"
                f"{_aligned(lines)}\n"
                "See whether rule and source suit each other (--dry-run shows how the source is read). If what is "
                f"dropped is to be dropped, this lets it pass, as `guard: {{RULE: SHARE}}` of the source in the "
                f"manifest or at the end of the command:\n  {' '.join(keys)}"
            )

    def _most(self, source: SourceSpec, rule: str) -> float:
        for shares in (source.guard, self._mix.guard.rules, UNGUARDED):
            if rule in shares:
                return shares[rule]
        return self._mix.guard.max_share


def dropped_between(before: Scope, after: Scope) -> dict[str, dict[str, int]]:
    """What the stage between two scopes dropped."""
    rules = {rule for _, _, rule in after.drops[len(before.drops) :]}
    lost: dict[str, Counter[str]] = {}
    for number, part in enumerate(after.parts):
        count = after.lost_rows.get(number, 0) - before.lost_rows.get(number, 0)
        # A stage has one rule.
        lost.setdefault(part.source, Counter()).update(dict.fromkeys(rules, count))
    return {source: dict(counts) for source, counts in lost.items()}


def _aligned(lines: list[tuple[Any, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for source, rule, *numbers in lines:
        cells = [source.ljust(widths[0]), rule.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        shown.append("  " + "  ".join(cells))
    return "\n".join(shown)
