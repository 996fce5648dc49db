"""Guard: a build stops where one rule drops more of a source than the manifest allows.

    dropped rows by source and rule, after each stage ─▶ shares of the rows that came in ─▶ BuildError with the numbers

A rule that suits nine sources may empty the tenth. The largest allowed share comes from the source's `guard`, else from
`guard.rules` of the mix, else from `UNGUARDED`, else from `guard.max_share`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from corpus.outcome import Outcome
from corpus.source import SourceSpec
from pipeline.engine.step import BuildError
from pipeline.ingest.live import LiveRecords
from pipeline.manifest import Mix

UNGUARDED: Mapping[str, float] = {
    Outcome.EXACT_DUPLICATE: 1.0,
    Outcome.REJECTED_LABEL: 1.0,
    Outcome.NOT_TRAINED: 1.0,
}
"""Rules that may drop all of a source by default: the content of an exact duplicate is kept (sources often contain each
other), and a rejection or a mark on an answer is the data's own."""

Dropped = Mapping[str, Mapping[str, int]]
"""Source to the number of rows that each rule has dropped."""


class Guard:
    """The shares of a mix's sources that rules may drop.

    Parameters
    ----------
    mix
        The manifest.
    entered
        Source to the number of pairs, and rows without one, that came in.
    """

    def __init__(self, mix: Mix, entered: Mapping[str, int]) -> None:
        self._mix, self._entered = mix, entered

    def check(self, dropped: Dropped) -> None:
        """Compare what rules have dropped with what they may drop.

        Raises
        ------
        BuildError
            A rule dropped more; the message has a table, and the keys that allow it.
        """
        lines, keys = [("source", "rule", "rows in", "dropped", "share", "at most")], []
        for number, source in enumerate(self._mix.sources):
            rows = self._entered[source.name]
            if rows < self._mix.guard.min_rows:
                continue
            for rule, count in dropped.get(source.name, {}).items():
                share, limit = count / rows, self._max_share(source, rule)
                if share > limit:
                    lines.append((source.name, rule, f"{rows:,}", f"{count:,}", f"{share:.1%}", f"{limit:.1%}"))
                    place = number if "." in source.name else source.name
                    keys.append(f"sources.{place}.guard.{rule}={math.ceil(share * 100) / 100:g}")
        if keys:
            raise BuildError(
                "guard: a rule drops more of a source than allowed; nothing was published, finished work is kept\n"
                f"{_aligned(lines)}\n"
                "Check that the rule suits the source (--dry-run shows how the source is read). If the rows should be "
                f"dropped, allow it by `guard: {{RULE: SHARE}}` of the source in the manifest, or at the end of the "
                f"command:\n  {' '.join(keys)}"
            )

    def _max_share(self, source: SourceSpec, rule: str) -> float:
        for shares in (source.guard, self._mix.guard.rules, UNGUARDED):
            if rule in shares:
                return shares[rule]
        return self._mix.guard.max_share


def dropped_between(before: LiveRecords, after: LiveRecords) -> dict[str, Counter[str]]:
    """Return what the stage between two states of the records dropped."""
    rules = {ref.outcome.value for ref in after.drops[len(before.drops) :]}
    lost: dict[str, Counter[str]] = {}
    for number, part in enumerate(after.parts):
        count = after.lost_rows.get(number, 0) - before.lost_rows.get(number, 0)
        # A stage has one rule.
        lost.setdefault(part.source, Counter()).update(dict.fromkeys(rules, count))
    return lost


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for source, rule, *numbers in lines:
        cells = [source.ljust(widths[0]), rule.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        shown.append("  " + "  ".join(cells))
    return "\n".join(shown)
