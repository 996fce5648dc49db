"""Claims about the folder of a run: another run does not overwrite it, and changed settings are not accepted unsaid."""

import json
from pathlib import Path

import pytest

from corpus.config import ConfigError
from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import log_of, run, steps
from trainer.folder import RUN, claim


def test_folder_is_claimed_by_a_new_run_and_only_by_the_same_again(tmp_path: Path) -> None:
    identity = {"checkpoint.path": "here", "fingerprint": "ab", "model": {"sizes": (1, 2)}}
    claim(tmp_path / "run", identity, is_continued=False)
    claim(tmp_path / "run", identity, is_continued=False)
    kept = (tmp_path / "run" / RUN).read_bytes()
    with pytest.raises(ConfigError, match=r"fingerprint was ab and is cd$"):
        claim(tmp_path / "run", {**identity, "fingerprint": "cd"}, is_continued=False)
    assert (tmp_path / "run" / RUN).read_bytes() == kept
    claim(tmp_path / "run", {**identity, "checkpoint.path": "moved"}, is_continued=True)
    assert json.loads((tmp_path / "run" / RUN).read_text())["checkpoint.path"] == "moved"


@pytest.mark.parametrize("content", [None, "", "[]", "{", '"x"'])
def test_metrics_of_a_run_that_is_not_known_are_not_overwritten(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / RUN).write_text(content)
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')
    with pytest.raises(ConfigError, match="would overwrite it"):
        claim(tmp_path, {"seed": 1}, is_continued=False)
    (tmp_path / "metrics.jsonl").unlink()
    claim(tmp_path, {"seed": 1}, is_continued=False)


@pytest.mark.slow  # runs
def test_run_in_the_folder_of_another_is_refused_and_changed_settings_need_to_be_allowed(
    data: Path, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=4)
    folder = tmp_path / "run"
    assert run(manifest) == 0, log_of(manifest).read_text()
    metrics = (folder / "metrics.jsonl").read_bytes()
    assert run(manifest, f"checkpoint.path={tmp_path}/elsewhere", "seed=3") == 2
    said = log_of(manifest).read_text()
    assert f"\n  checkpoint.path was {folder}/checkpoints and is {tmp_path}/elsewhere\n  seed was 0 and is 3\n" in said
    changed = ("steps=6", "optimizer.lr=0.01", "schedule.warmup_steps=2")
    assert run(manifest, *changed) == 2
    assert (
        "\n  optimizer.lr was 0.001 and is 0.01\n  schedule.warmup_steps was 4 and is 2\n"
        in log_of(manifest).read_text()
    )
    assert (folder / "metrics.jsonl").read_bytes() == metrics
    assert run(manifest, "--allow", *changed) == 0, log_of(manifest).read_text()
    assert "continuing with other settings" in log_of(manifest).read_text()
    assert [line["step"] for line in steps(folder)] == [1, 2, 3, 4, 5, 6]
