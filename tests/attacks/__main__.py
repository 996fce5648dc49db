"""`python -m tests.attacks`: make all attacks and print, by kind, what the readers did.

Exit code 1 if a reader ended in a traceback, hung, or took a damaged file for a sound one.
"""

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.attacks import checkpoints, datasets, exported, inputs, manifests
from tests.attacks.attack import GOOD, Outcome, Verdict, make


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description="Attack the readers of input files, datasets, checkpoints, exported folders and manifests."
    )
    parser.add_argument("--list", action="store_true", help="also print each attack, and what was said")
    arguments = parser.parse_args()
    counts: dict[str, Counter[Verdict]] = defaultdict(Counter)
    bad: list[tuple[str, Outcome]] = []
    with tempfile.TemporaryDirectory() as name:
        for number, (what, kind, attacks) in enumerate(
            (
                ("dataset", datasets.Dataset, datasets.attacks()),
                ("chosen checkpoint", checkpoints.Chosen, checkpoints.attacks()),
                ("resumed run", checkpoints.Resumed, checkpoints.attacks()),
                ("manifest", manifests.Manifest, manifests.attacks()),
                ("input", inputs.Source, inputs.attacks()),
                ("exported folder", exported.Exported, exported.exported()),
                ("given tokenizer", exported.Given, exported.given()),
            )
        ):
            folder = Path(name) / str(number)
            target = kind(folder)
            expected = target.read(target.sound)
            for attack in attacks:
                outcome = make(attack, target, folder / "copy", expected=expected)
                counts[f"{what}: {attack.kind}"][outcome.verdict] += 1
                if outcome.verdict not in GOOD:
                    bad.append((f"{what}: {attack.name}", outcome))
                if arguments.list:
                    print(f"{outcome.verdict:12} {what}: {attack.name}  {outcome.said}", flush=True)
    table = Table("attacked", "tried", *Verdict, box=None)
    total = sum(counts.values(), Counter[Verdict]())
    for row, found in [*counts.items(), ("all", total)]:
        table.add_row(row, f"{found.total():,}", *(f"{found[verdict]:,}" for verdict in Verdict))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    for attack_name, outcome in bad:
        print(f"{outcome.verdict}: {attack_name}: {outcome.said}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
