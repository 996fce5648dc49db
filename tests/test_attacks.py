"""`python -m tests.attacks` makes all attacks; here are those on manifests, and a sample of the others."""

from pathlib import Path
from typing import Any

import pytest

from tests.attacks import checkpoints, datasets, exported, inputs, manifests
from tests.attacks.attack import GOOD, Outcome, make

TARGETS: dict[str, tuple[Any, list[Any]]] = {
    "manifest": (manifests.Manifest, [attack for attack in manifests.attacks() if attack.name != "a long list"]),
    "dataset": (datasets.Dataset, datasets.attacks()[::20]),
    "input": (
        inputs.Source,
        [
            attack
            for n, attack in enumerate(inputs.attacks())
            if (n % 5 == 0 and attack.kind != "bomb") or attack.name in inputs.FOUND
        ],
    ),
    "exported": (exported.Exported, exported.exported()[::6]),
    "given": (exported.Given, exported.given()[::2]),
    "resumed": (checkpoints.Resumed, checkpoints.attacks()[::20]),
}


def test_there_are_at_least_500_attacks() -> None:
    others = [*inputs.attacks(), *exported.exported(), *exported.given(), *manifests.attacks(), *datasets.attacks()]
    assert len(others) + 2 * len(checkpoints.attacks()) >= 500


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("name", TARGETS)
def test_no_attack_ends_in_a_traceback_or_is_taken(name: str, tmp_path: Path) -> None:
    kind, attacks = TARGETS[name]
    target = kind(tmp_path / "target")
    expected = target.read(target.sound)
    bad: list[tuple[str, Outcome]] = []
    for attack in attacks:
        outcome = make(attack, target, tmp_path / "copy", expected=expected)
        if outcome.verdict not in GOOD:
            bad.append((attack.name, outcome))
    assert not bad
