"""A damaged checkpoint is passed over with one line if a run continues, and refused with one line if it is chosen."""

from pathlib import Path

import pytest

from tests.attacks.attack import Attack, Verdict, make
from tests.attacks.checkpoints import LISTED, NEWEST, Chosen, Resumed, listed

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Resumed, object]:
    target = Resumed(tmp_path_factory.mktemp("resumed"))
    return target, target.read(target.sound)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chosen, object]:
    target = Chosen(tmp_path_factory.mktemp("chosen"))
    return target, target.read(target.sound)


def test_every_listed_attack_is_made() -> None:
    assert {attack.name for attack in listed()} == LISTED


@pytest.mark.parametrize("attack", listed(), ids=lambda attack: attack.name)
def test_damaged_checkpoint_is_passed_over_with_one_line_and_the_one_before_is_used(
    resumed: tuple[Resumed, object], attack: Attack, tmp_path: Path
) -> None:
    target, expected = resumed
    outcome = make(attack, target, tmp_path / "copy", expected=expected)
    assert outcome.verdict is Verdict.PASSED_OVER, outcome
    assert NEWEST in outcome.said


@pytest.mark.parametrize("attack", listed(), ids=lambda attack: attack.name)
def test_damaged_checkpoint_that_is_named_is_refused_with_one_line(
    chosen: tuple[Chosen, object], attack: Attack, tmp_path: Path
) -> None:
    target, expected = chosen
    outcome = make(attack, target, tmp_path / "copy", expected=expected)
    assert outcome.verdict is Verdict.REFUSED, outcome
    assert NEWEST in outcome.said
    assert len(outcome.said) < 600
