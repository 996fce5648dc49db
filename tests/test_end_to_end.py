"""The commands of the README on the manifests that come with the project, each as a process of its own."""

import hashlib
import importlib.metadata
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

import corpus

pytestmark = pytest.mark.slow  # builds datasets

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = {
    "lengths.npy": "d4d4b6b1ff402a7564aa4fb0290bfc6a58bcf853a612e7d920b44e94fa0b6a6c",
    "shards/index.json": "a14507e5d3090dc2d583e502b43f07926625b00b872edbba461c369e29b8f19c",
    "shards/shard.00000.mds": "e803caf04f178fee9796c3d1df3f7911660bb231caa6136a0f03d5a4589991eb",
    "strata.json": "fa59fc78a37755422812d85b43eb0665ee96f17fe99234227ae1d29116b0c999",
}
"""sha256 of the embedded mix; a change that alters it on purpose updates this and says why in the changelog."""
DECIDING = ("tokenizers", "gigatoken", "numpy", "ftfy", "py3langid", "polars", "pyarrow")
"""Libraries another version of which may alter the bytes."""
LEARNED = ("units", "reversal", "date_formats")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def run(folder: Path, *arguments: str) -> str:
    """Run `python -m …` in a folder; its output."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metrics(folder: Path, kind: str) -> list[dict[str, float]]:
    """Lines of one kind of a run's metrics; none while there is no file."""
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `manifests/mix.yaml` has been built."""
    folder = tmp_path_factory.mktemp("embedded")
    said = run(folder, "pipeline.build", str(ROOT / "manifests/mix.yaml"))
    assert "next: python -m trainer.train" in said
    return folder


def test_embedded_mix_shows_every_kind_of_its_dirt_and_loses_no_row(built: Path) -> None:
    data = corpus.scan(str(built / "out/mix"))
    outcomes = dict(data.ledger.group_by("outcome").len().collect().iter_rows())
    assert {"exact_duplicate", "invalid_syntax", "empty_instruction", "empty_response", "too_long"} < set(outcomes)
    assert {"unclosed_think", "repetitive", "missing_field", "no_pair"} < set(outcomes)
    rows = data.files.select(pl.col("rows").sum()).collect().item()
    assert sum(outcomes.values()) == rows  # every generated row makes one pair or none


def test_embedded_mix_has_the_recorded_bytes(built: Path) -> None:
    pinned = (ROOT / ".ci/constraints.txt").read_text().splitlines()
    if others := [name for name in DECIDING if f"{name}=={importlib.metadata.version(name)}" not in pinned]:
        pytest.skip(f"recorded with the versions of .ci/constraints.txt; {others[0]} has another")
    shards = sorted(path.name for path in (built / "out/mix/shards").iterdir())
    assert [f"shards/{name}" for name in shards] == sorted(name for name in EMBEDDED if name.startswith("shards/"))
    found = {name: hashlib.sha256((built / "out/mix" / name).read_bytes()).hexdigest() for name in EMBEDDED}
    assert found == EMBEDDED


def test_no_held_out_problem_is_trained_on(built: Path) -> None:
    def plain(text: str) -> str:
        return " ".join(text.casefold().split())

    held = {
        plain(json.loads(line)["instruction"])
        for path in (built / "out/mix/eval").glob("*.jsonl")
        for line in path.read_text().splitlines()
    }
    trained = corpus.scan(str(built / "out/mix")).records.select("instruction").collect()["instruction"]
    assert len(held) > 2000
    assert held.isdisjoint(map(plain, trained))


def test_second_build_has_nothing_to_do(built: Path) -> None:
    before = (built / "out/mix/dataset.json").stat().st_mtime_ns
    assert "nothing to do" in run(built, "pipeline.build", str(ROOT / "manifests/mix.yaml"))
    assert (built / "out/mix/dataset.json").stat().st_mtime_ns == before


@pytest.mark.slow  # trains 60 steps twice, and starts Python for each of the kills
def test_embedded_run_that_is_killed_repeats_the_losses_bit_for_bit(built: Path) -> None:
    train = ["trainer.train", str(ROOT / "manifests/train.yaml"), "steps=60", "checkpoint.every=7"]
    train += ["eval.rows_per_family=5", "eval.every=30"]
    run(built, *train, "out=out/whole")
    draw = random.Random(0)
    for last in sorted(draw.sample(range(5, 55), 3)):
        process = subprocess.Popen(
            [sys.executable, "-m", *train, "out=out/killed"], cwd=built, env=ENVIRONMENT, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and len(metrics(built / "out/killed", "step")) < last:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run(built, *train, "out=out/killed")
    for kind, keys in (("step", ("step", "loss", "epoch", "batch", "tokens")), ("eval", ("step", "loss"))):
        runs = [metrics(built / "out" / name, kind) for name in ("whole", "killed")]
        whole, killed = ([[line[key] for key in keys] for line in lines] for lines in runs)
        assert whole == killed
        assert whole


@pytest.mark.slow  # trains for about a minute: a shorter run learns no family
def test_training_answers_held_out_problems_of_the_embedded_families(tmp_path: Path) -> None:
    mix = yaml.safe_load((ROOT / "manifests/mix.yaml").read_text())
    mix["sources"] = [source for source in mix["sources"] if source["generator"] in LEARNED]
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump(mix))
    run(tmp_path, "pipeline.build", "mix.yaml")
    run(tmp_path, "trainer.train", str(ROOT / "manifests/train.yaml"), "steps=700", "eval.every=700")
    start, end = metrics(tmp_path / "out/train", "eval")
    assert start["exact_match"] < 0.05
    assert sum(end[f"exact_match/{family}-heldout"] >= 0.8 for family in LEARNED) >= 2
    question = json.loads((tmp_path / "out/mix/eval/reversal-heldout.jsonl").read_text().splitlines()[0])
    answer = run(tmp_path, "trainer.generate", "out/train", question["instruction"], "--condition", "direct").strip()
    assert sorted(answer) == sorted(question["response"])
