"""Every logger that `log` names records what metrics.jsonl has; each test needs the logger's own package."""

import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from corpus.config import ConfigError, load_manifest
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import run
from trainer.build import _metrics
from trainer.config import TrainConfig
from trainer.sinks.jsonl import FILE
from trainer.sinks.mlflow import metric_name

Point = tuple[str, int, float]
"""Name, step and value."""

RECORDS = (
    ("eval", 0, {"loss": 9.5, "exact_match": 0.0, "exact_match/units": 0.0}),
    (
        "step",
        1,
        {"loss": 2.0, "lr": 1e-3, "k": 5, "tokens_per_second": 1e3, "step_seconds": 1.0, "data_wait_seconds": 0.0},
    ),
    (
        "step",
        2,
        {"loss": 1.0, "lr": 1e-3, "k": 5, "tokens_per_second": 1e3, "step_seconds": 1.0, "data_wait_seconds": 0.0},
    ),
    ("checkpoint", 1, {"bytes": 2**40, "stall_seconds": 0.125}),
    (
        "step",
        3,
        {"loss": 0.5, "lr": 0.1, "k": 5, "tokens_per_second": 7.25, "step_seconds": 1.0, "data_wait_seconds": 0.0},
    ),
    ("eval", 3, {"loss": 0.75, "exact_match": 1 / 3, "exact_match/units": 1.0}),
)


def config(folder: Path, *overrides: str) -> TrainConfig:
    manifest = folder / "train.yaml"
    manifest.write_text("{data: d, batch: {tokens: 8, row_tokens: 8}, optimizer: {lr: 0.1}, steps: 3}")
    return load_manifest(manifest, TrainConfig, [f"out={folder / 'run'}", *overrides])


def tensorboard(folder: Path) -> Iterable[Point]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return [(name, at.step, at.value) for name in found.Tags()["scalars"] for at in found.Scalars(name)]


def wandb(folder: Path) -> Iterable[Point]:
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    points = []
    for data in leveldb_log(file.read_bytes()[7:]):
        record = Record()
        record.ParseFromString(data)
        items = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        points += [(key, items["global_step"], value) for key, value in items.items() if "/" in key]
    return points


def leveldb_log(content: bytes) -> Iterable[bytes]:
    """Records of a log of LevelDB: blocks of 32 KiB, of pieces with checksum, length and type (last piece: 1 or 4)."""
    at, whole = 7, b""  # the first block has the header
    content = b"\0" * 7 + content
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
        _, size, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield whole
            whole = b""


def mlflow(folder: Path) -> Iterable[Point]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(folder / "mlruns").resolve().as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("millrace").experiment_id])
    histories = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    return [(at.key, at.step, at.value) for history in histories for at in history]


def trackio(folder: Path) -> Iterable[Point]:
    # The package decides at its import where its files are, once in a process.
    code = "import json, sys; from trackio.sqlite_storage import SQLiteStorage as S; "
    code += "print(json.dumps(S.get_logs('millrace', sys.argv[1])))"
    environment = os.environ | {"TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run([sys.executable, "-c", code, folder.name], env=environment, check=True, capture_output=True)
    logs = json.loads(done.stdout.splitlines()[-1])
    return [(key, line["step"], value) for line in logs for key, value in line.items() if "/" in key]


READERS = (tensorboard, wandb, mlflow, trackio)


def compared(folder: Path, read: Callable[[Path], Iterable[Point]]) -> int:
    """Compare what a logger has of a run with its metrics.jsonl, value by value; returns the number of values."""
    lines = map(json.loads, (folder / FILE).read_text().splitlines())
    named = metric_name if read is mlflow else "{}/{}".format
    expected = {
        (named(line["kind"], key), line["step"]): value
        for line in lines
        for key, value in line.items()
        if key not in ("kind", "step")
    }
    found = {(key, step): value for key, step, value in read(folder)}
    assert found.keys() == expected.keys()
    tolerance = 1e-6 if read is tensorboard else 0.0  # of float32
    for key, value in expected.items():
        if value is None:  # what is not finite is null in JSON
            assert not math.isfinite(found[key]), key
        else:
            assert math.isclose(found[key], value, rel_tol=tolerance), key
    return len(expected)


@pytest.fixture
def _local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # for the reader; the sink sets it
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "run/trackio"))  # the package reads it when it is imported


@pytest.mark.usefixtures("_local")
@pytest.mark.slow  # trains a model
def test_run_with_all_loggers_has_in_each_what_its_metrics_file_has(tmp_path: Path) -> None:
    installed = [read for read in READERS if find_spec(read.__name__) is not None]
    if not installed:
        pytest.skip("none of tensorboard, wandb, mlflow and trackio is installed")
    manifest = write_manifest(tmp_path, write_dataset(tmp_path / "data"))
    names = ",".join(read.__name__ for read in installed)
    assert run(manifest, f"out={tmp_path}/run", f"log=[{names}]", "eval={every: 4, rows_per_family: 2}") == 0
    for read in installed:
        print(f"{read.__name__}: {compared(tmp_path / 'run', read)} values equal those of {FILE}")


@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("read", READERS, ids=lambda read: str(read.__name__))
def test_logger_records_what_the_metrics_file_has(tmp_path: Path, read: Callable[[Path], Iterable[Point]]) -> None:
    name = read.__name__
    pytest.importorskip(name, reason=f"{name} is not installed")
    settings = config(tmp_path, f"log=[{name}]")
    metrics = _metrics(settings, 3, [])
    metrics.start(0)
    for kind, step, values in RECORDS:
        metrics.write(kind, step, values)
    metrics.close()
    assert compared(settings.out, read) == sum(len(values) for _, _, values in RECORDS)


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_logger_whose_package_is_absent_is_refused_with_the_command_that_installs_it(tmp_path: Path, name: str) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(ConfigError, match=rf"log: {name} is not installed: pip install {name}, or remove it"):
        config(tmp_path, f"log=[{name}]")


def test_unknown_logger_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'tensorboard', 'wandb', 'mlflow' or 'trackio'"):
        config(tmp_path, "log=[weights]")
