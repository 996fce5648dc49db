"""Each damage to a small file of a dataset is refused with one line, or changes nothing."""

from pathlib import Path

import pytest

from tests.attacks.attack import GOOD, Attack, Verdict, make
from tests.attacks.datasets import Dataset, attacks


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, object]:
    target = Dataset(tmp_path_factory.mktemp("dataset"))
    return target, target.read(target.sound)


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.name)
def test_damaged_file_of_a_dataset_is_refused_with_one_line(
    sound: tuple[Dataset, object], attack: Attack, tmp_path: Path
) -> None:
    target, expected = sound
    outcome = make(attack, target, tmp_path / "copy", expected=expected)
    assert outcome.verdict in GOOD, outcome
    if outcome.verdict is Verdict.REFUSED:
        assert attack.name.partition(": ")[0] in outcome.said
        assert len(outcome.said) < 600
        assert "again" in outcome.said
