"""Claims about whole runs, in processes that are killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from tests.trainer.data.test_dataset import upload
from tests.trainer.fixtures import write_manifest
from tests.trainer.processes import determined, lines, log_of, run, start, steps, wait_for_step
from trainer import samples
from trainer.checkpointing.manager import CheckpointManager


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


@pytest.mark.slow
def test_finished_run_reports_so_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=1)
    assert run(manifest) == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert run(manifest) == 0
    assert "already finished" in log_of(manifest).read_text()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_run_writes_a_checkpoint_and_exits_as_resumable(data: Path, tmp_path: Path, number: int) -> None:
    manifest = write_manifest(tmp_path, data, epochs=20, checkpoint={"every": 10_000})
    process = start(manifest)
    wait_for_step(process, tmp_path / "run", 3)
    os.kill(process.pid or 0, number)
    process.join(60)
    assert process.exitcode == 75
    last = steps(tmp_path / "run")[-1]["step"]
    assert CheckpointManager(str(tmp_path / "run" / "checkpoints"), staging=tmp_path, keep=1).steps() == [last]


@pytest.mark.slow
def test_stopped_run_continues_at_the_next_step(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=4)
    assert run(manifest, f"out={tmp_path}/whole") == 0
    process = start(manifest)
    wait_for_step(process, tmp_path / "run", 7)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 75
    stopped = steps(tmp_path / "run")[-1]["step"]
    assert run(manifest) == 0
    assert f"continuing after step {stopped}\n" in log_of(manifest).read_text()
    assert determined(tmp_path / "run") == determined(tmp_path / "whole")


@pytest.mark.slow
def test_evaluation_at_start_and_end_does_not_change_training(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=10)
    assert run(manifest) == 0
    assert run(manifest, f"out={tmp_path}/evaluated", "eval.rows_per_family=2", "eval.every=3") == 0
    evaluations = lines(tmp_path / "evaluated", "eval")
    assert [line["step"] for line in evaluations] == [0, 3, 6, 9, 10]
    for line in evaluations:
        answers = samples.read(tmp_path / "evaluated", line["step"])
        assert len(answers) == 4
        assert sum(answer.is_right for answer in answers) == 4 * line["exact_match"]
        assert all(answer.is_right == (answer.answer == answer.reference) for answer in answers)
    assert determined(tmp_path / "evaluated") == determined(tmp_path / "run")


def test_dataset_without_held_out_questions_is_trained_without_evaluation(data: Path, tmp_path: Path) -> None:
    about = json.loads((data / "dataset.json").read_text())
    about["eval"]["files"] = []
    (data / "dataset.json").write_text(json.dumps(about))
    manifest = write_manifest(tmp_path, data, epochs=1, eval={"rows_per_family": 2})
    assert run(manifest) == 0
    assert lines(tmp_path / "run", "eval") == []
    assert "held out" not in log_of(manifest).read_text()


@pytest.mark.slow
def test_run_with_data_and_checkpoints_on_s3_continues_on_another_machine(
    data: Path, tmp_path: Path, bucket: str
) -> None:
    upload(data, f"{bucket}/mix")
    manifest = write_manifest(tmp_path, data, epochs=None, steps=20)
    assert run(manifest, f"out={tmp_path}/local") == 0
    remote = [f"data={bucket}/mix", f"checkpoint.path={bucket}/run"]
    process = start(manifest, *remote, f"out={tmp_path}/first")
    wait_for_step(process, tmp_path / "first", 9)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 75
    assert run(manifest, *remote, f"out={tmp_path}/second") == 0
    assert determined(tmp_path / "second") == determined(tmp_path / "local")


@pytest.mark.slow
def test_second_run_in_the_same_folder_is_refused_while_the_first_one_trains(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=50)
    process = start(manifest)
    wait_for_step(process, tmp_path / "run", 1)
    assert run(manifest) == 2
    assert "another process is training in" in log_of(manifest).read_text()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()


@pytest.mark.slow  # fresh interpreters import torch
@pytest.mark.parametrize(("setting", "spins"), [({}, False), ({"OMP_WAIT_POLICY": "active"}, True)])
def test_threads_wait_without_spinning_unless_the_user_overrides_it(setting: dict[str, str], spins: bool) -> None:
    inherited = {key: value for key, value in environment().items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-m", "trainer.train", "--dry-run", "no/such.yaml"],
        env={**inherited, "OMP_DISPLAY_ENV": "verbose", **setting},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch's OpenMP does not show how long it spins")
    assert ("GOMP_SPINCOUNT = '0'" not in done.stderr) == spins


@pytest.mark.slow  # a fresh interpreter imports torch and streaming
def test_trainer_imports_without_polars_pyarrow_and_boto3() -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('polars', 'pyarrow', 'boto3'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import trainer.train, trainer.generate\n"
        "assert trainer.train.main(['--dry-run', 'no/such.yaml']) == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no/such.yaml: there is no such manifest" in done.stderr


def test_checkpoint_of_another_data_order_is_refused_with_the_differences(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=1)
    assert run(manifest) == 0
    assert run(manifest, "seed=7", "model.num_layers=4", "batch.tokens=256") == 2
    message = log_of(manifest).read_text()
    assert "belongs to another run: " in message
    assert "\n  seed was 0 and is 7\n  batch.tokens was 128 and is 256\n  model.num_layers was 2 and is 4\n" in message
    assert "set another out=" in message
    folder = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    saved, commit = (json.loads((folder / name).read_text()) for name in ("trainer.json", "COMMIT.json"))
    saved["progress"]["plan_key"] = "0" * 32
    content = json.dumps(saved).encode()
    commit["files"]["trainer.json"] = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128(content).hexdigest()}
    (folder / "trainer.json").write_bytes(content)
    (folder / "COMMIT.json").write_text(json.dumps(commit))
    assert run(manifest) == 2
    message = log_of(manifest).read_text()
    assert "another version of Millrace, whose batch plan has another format" in message
    assert "set another out= to begin a new one, from these weights with init=PATH" in message


def test_checkpoint_of_a_dataset_that_was_rebuilt_is_refused_with_what_to_do(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=1)
    assert run(manifest) == 0
    facts = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**facts, "fingerprint": "another"}))
    assert run(manifest) == 2
    message = log_of(manifest).read_text()
    assert f"now at {data}, which was rebuilt or replaced: its fingerprint was {facts['fingerprint']} and is" in message
    assert "Restore the earlier dataset to continue the run, or set another out=" in message


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("optimiser.lr=1", 2, "unknown key optimiser; did you mean 'optimizer'?"),
        ("schedule.floor=0.2", 2, "unknown key schedule.floor; did you mean 'min_lr_ratio'?"),
        ("deadline=60", 2, "unknown key deadline; did you mean 'storage_timeout'?"),
        ("ahead=2", 2, "unknown key ahead; did you mean 'prefetch_batches'?"),
        ("batch.tokens=100", 2, "not a multiple of row_tokens (32): try tokens=96"),
        ("steps=3", 2, "set exactly one of epochs and steps"),
        ("device=tpu", 2, "expected auto, cpu or cuda"),
        ("model.size=huge", 2, "unknown model size 'huge'; known sizes: tiny"),
        ("model.hidden_size=wide", 2, "hidden_size is 'wide'; expected a whole number"),
        ("schedule.k_end=9", 2, "schedule.k_end: k is 9; expected a whole number from 2 to 8"),
        ("out=s3://bucket/run", 2, "out: s3://bucket/run is a URL; expected a folder of this machine"),
        ("out=/dev/null/run", 1, "Not a directory: '/dev/null/run'"),
        ("data=nowhere", 1, "nowhere: there is no such folder"),
        ("batch={tokens: 80, row_tokens: 20}", 1, "do not fit into a row of 20 positions"),
    ],
)
def test_invalid_manifest_is_reported_in_one_message(
    data: Path, tmp_path: Path, override: str, code: int, message: str
) -> None:
    manifest = write_manifest(tmp_path, data)
    assert run(manifest, override) == code
    output = log_of(manifest).read_text()
    assert message in output
    assert "Traceback" not in output


def test_damaged_shard_stops_the_run_with_its_name(data: Path, tmp_path: Path) -> None:
    shard = data / "shards" / "shard.00001.mds"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    manifest = write_manifest(tmp_path, data)
    assert run(manifest) == 1
    output = log_of(manifest).read_text()
    assert "shard.00001.mds: has the xxh64 hash" in output
    assert "Traceback" not in output


def test_losses_that_are_not_finite_are_skipped_counted_and_stop_the_run(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, optimizer={"lr": 1e20, "weight_decay": 0.0}, max_skipped=3)
    assert run(manifest) == 1
    assert [line["skipped"] for line in steps(tmp_path / "run")][-3:] == [1, 2, 3]
    assert steps(tmp_path / "run")[-1]["loss"] is None
    assert "4 steps were skipped for such values, and max_skipped is 3" in log_of(manifest).read_text()


@pytest.mark.slow
def test_run_by_steps_ends_there_and_a_longer_one_continues(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, schedule={"warmup_steps": 0, "k_ramp": 0.0})
    assert run(manifest, f"out={tmp_path}/whole", "steps=30") == 0
    assert run(manifest, "steps=17") == 0
    assert run(manifest, "steps=30") == 0
    assert determined(tmp_path / "run") == determined(tmp_path / "whole")
    assert steps(tmp_path / "run")[-1]["epoch"] == 2


def test_dry_run_prints_the_plan_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data)
    assert run(manifest, "seed=3", "--dry-run", "epochs=3") == 0
    output = log_of(manifest).read_text()
    assert "120 samples in 2 strata" in output
    assert "68,096 parameters" in output
    assert " GB on 1 rank by arithmetic, K = 5, 4 of 4 rows (128 tokens) in a pass" in output
    assert not (tmp_path / "run").exists()


def test_dry_run_prints_the_largest_pass_that_fits_a_device(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data)
    batch = "batch={tokens: 4096, row_tokens: 128}"
    for size, expected in (
        ("1GB", "all 16 rows of a rank in one pass fit into a device of 1.0 GB"),
        ("20MB", "of 16 rows in a pass fit into a device of 0.020 GB, 6% of it set aside: batch.micro_rows="),
        ("1MB", "not even one row in a pass fits into a device of 0.001 GB, 6% of it set aside: set "),
    ):
        assert run(manifest, batch, "--dry-run", "--ranks", "2", "--device-memory", size) == 0
        assert expected in log_of(manifest).read_text()
    assert run(manifest, "--dry-run", "--device-memory", "much") == 2
    assert "--device-memory is 'much'; expected bytes, as in 80GB or 80GiB" in log_of(manifest).read_text()
    assert run(manifest, "--ranks", "2") == 2
    assert "--ranks and --device-memory are for --dry-run" in log_of(manifest).read_text()
