"""Claims about benchmarks during training: `eval.tasks`."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.config import ConfigError, load_manifest
from tests.trainer.benchmarks.fixtures import write_rows
from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import lines, run_ranks
from trainer.benchmark import main
from trainer.config import TrainConfig
from trainer.launch import train


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task in the words of the dataset's tokenizer."""
    rows = [{"question": " ".join(["w20"] * (i % 5 + 1)), "answer": f"w{i}"} for i in range(16, 56)]
    write_rows(tmp_path / "words.jsonl", rows)
    path = tmp_path / "words.yaml"
    path.write_text("{name: words, file: words.jsonl, type: exact, max_new_tokens: 2}")
    return path


@pytest.fixture
def searched(data: Path, task: Path, tmp_path: Path) -> Path:
    """The dataset, with the records of a build that searched its rows for the task's questions."""
    folder = Path(shutil.copytree(data, tmp_path / "searched"))
    (folder / "report").mkdir(exist_ok=True)
    counts = {"eval_source": "words_test", "items": 40, "looked_for": 20, "found": 5, "train_records": 7}
    table = folder / "report/contamination.parquet"
    pq.write_table(pa.Table.from_pylist([counts]), table)
    sha256 = hashlib.sha256((task.parent / "words.jsonl").read_bytes()).hexdigest()
    sources = [{"name": "words_test", "role": "eval"}]
    lock = {"manifest": {"sources": sources}, "inputs": [{"source": "words_test", "sha256": sha256}]}
    (folder / "mix.lock.yaml").write_text(json.dumps(lock))
    content = json.loads((folder / "dataset.json").read_text())
    content["files"]["report/contamination.parquet"] = {
        "bytes": table.stat().st_size,
        "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def manifest_of(folder: Path, data: Path, **tasks: object) -> Path:
    return write_manifest(
        folder, data, epochs=None, steps=3, eval={"rows_per_family": 0, "tasks": {"every": 2, "batch": 2, **tasks}}
    )


def test_a_run_scores_its_tasks_as_the_command_scores_its_checkpoint(
    searched: Path, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of(tmp_path, searched, files=[str(task)])
    assert train(load_manifest(manifest, TrainConfig)) == 0
    assert "in training data 25.0%)" in capsys.readouterr().out
    recorded = lines(tmp_path / "run", "benchmarks")
    assert [line["step"] for line in recorded] == [2, 3]
    assert {"words", "words/invalid"} <= recorded[-1].keys()
    command = [str(tmp_path / "run"), "--task-file", str(task), "--batch", "2", "--out", str(tmp_path / "after")]
    assert main([*command, "--device", "cpu", "--dataset", str(searched)]) == 0
    during, after = (
        json.loads((folder / "results.json").read_text())
        for folder in (tmp_path / "run/benchmarks/step-00000003", tmp_path / "after")
    )
    assert during["model"]["weights_xxh3_128"] == after["model"]["weights_xxh3_128"]
    assert during["model"] == {**after["model"], "location": "step 3"}
    assert during["tasks"] == after["tasks"]
    assert recorded[-1]["words"] == after["tasks"]["words"]["score"]
    (found,) = during["tasks"]["words"]["contamination"]
    assert (found["eval_source"], found["found"], found["train_records"]) == ("words_test", 5, 7)
    assert recorded[-1]["words/found_in_training_data"] == 5 / 20
    assert sorted(path.name for path in (tmp_path / "run/benchmarks/step-00000003").iterdir()) == [
        "index.html",
        "questions.parquet",
        "results.json",
    ]
    assert train(load_manifest(manifest, TrainConfig)) == 0
    assert lines(tmp_path / "run", "benchmarks") == recorded


@pytest.mark.slow  # starts two processes
def test_ranks_share_the_tasks_of_a_run(data: Path, task: Path, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, data, files=[str(task)])
    run_ranks(2, manifest)
    (scored,) = [line for line in lines(tmp_path / "run", "benchmarks") if line["step"] == 3]
    content = json.loads((tmp_path / "run/benchmarks/step-00000003/results.json").read_text())
    assert content["tasks"]["words"]["n"] == 40
    assert scored["words"] == content["tasks"]["words"]["score"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"names": ["humaneval"]}, "humaneval executes programs"),
        ({"names": ["gsm9k"]}, "unknown task 'gsm9k'"),
        ({"names": ["gsm8k"]}, "eval.tasks: gsm8k: found no file"),
        ({"names": ["gsm8k"], "shots": {"mmlu": 1}}, "eval.tasks.shots names 'mmlu'"),
    ],
)
def test_tasks_that_cannot_be_run_are_refused_before_the_first_step(
    data: Path,
    tmp_path: Path,
    tasks: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(load_manifest(manifest_of(tmp_path, data, **tasks), TrainConfig))
    assert lines(tmp_path / "run", "step") == []


def test_tasks_of_a_run_with_sharded_weights_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"eval\.tasks needs all weights on each rank"):
        load_manifest(manifest_of(tmp_path, data, names=["gsm8k"]), TrainConfig, ["distribution=fsdp2"])
