"""Inputs that are small and ask for much are rejected with a reason, in bounded memory, beside ordinary rows."""

from pathlib import Path

import pytest

from pipeline.build import build
from tests.benchmarks.bombs import BOMBS, MEMORY, ORDINARY, write_mix
from tests.benchmarks.scale import Peaks

pytestmark = pytest.mark.slow  # builds a dataset

SHARE = 0.05


def test_every_bomb_is_rejected_with_a_reason_and_ordinary_rows_stay(tmp_path: Path) -> None:
    manifest = write_mix(tmp_path, list(BOMBS), SHARE)
    before = Peaks.resident()  # of pytest, and of what other tests started
    with Peaks(tmp_path / "out") as peaks:
        built = build(manifest, out=tmp_path / "out", workers=1, memory=MEMORY)
    counts = built.dataset.counts
    assert counts["ordinary"].kept == ORDINARY
    found = {name: (counts[name].kept, dict(counts[name].dropped)) for name in BOMBS}
    kept, dropped = found.pop("cluster")
    assert kept <= 5
    assert dropped == {"near_duplicate": 50_000 - kept}
    assert found == {
        "equal": (1, {"exact_duplicate": 99_999}),
        "long-row": (0, {"too_long": 1}),
        "long-line": (0, {"too_large": 1}),
        "zeros": (0, {"too_large": 1}),
        "aliases": (0, {"invalid_syntax": 1}),
        "dictionary": (0, {"too_long": 100}),
        "metadata": (1, {}),
    }
    assert peaks.memory - before < MEMORY
