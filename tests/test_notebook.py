"""manifests/tour.ipynb runs from its first cell to its last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECKS = """
assert built.dataset.counts["reversal"].kept > 1000 and built.dataset.samples == data.records.collect().height
assert set(outcomes["source"]) == set(built.dataset.counts)
assert len(duplicates) == sum(count.dropped.get("near_duplicate", 0) for count in built.dataset.counts.values()) > 0
assert len(result.dropped) == 2 and len(result.selected) == 2
losses = metrics.filter(pl.col("kind") == "step")["loss"]
assert metrics["step"].max() == STEPS and losses[-1] < losses[0] / 2
assert answer
"""


@pytest.mark.slow  # builds a dataset and trains a model
def test_tour_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "manifests/tour.ipynb").read_text())
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    (tmp_path / "manifests").symlink_to(ROOT / "manifests")
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{CHECKS}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_cells_hold_no_output() -> None:
    cells = json.loads((ROOT / "manifests/tour.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
