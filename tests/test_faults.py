"""Claims about storage that fails: first about the proxy that lets it fail, then about all that has to live with it."""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import boto3
import botocore.exceptions
import fsspec
import pytest
from botocore.config import Config

import corpus.storage.retry
import corpus.storage.store
from corpus.storage import StorageError
from corpus.storage.store import Store
from pipeline.dataset.publish import read_commit
from pipeline.engine.step import BuildError
from tests.faults import KINDS, FaultyProxy
from tests.pipeline.conftest import contents, run_build, write_mix
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import finish, log_of, run, start_ranks, steps

CONTENT = bytes(range(256)) * 64


def client_of(faults: FaultyProxy) -> boto3.client:
    """A client that tries once, waits for a second, and checks nothing."""
    unchecked = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
    config = Config(read_timeout=1, retries={"total_max_attempts": 1}, **unchecked)
    return boto3.client("s3", endpoint_url=faults.endpoint, config=config)


def read(faults: FaultyProxy) -> bytes:
    content: bytes = client_of(faults).get_object(Bucket="millrace", Key="object")["Body"].read()
    return content


def test_proxy_without_faults_changes_nothing(faults: FaultyProxy) -> None:
    client = client_of(faults)
    client.put_object(Bucket="millrace", Key="object", Body=CONTENT)
    assert read(faults) == CONTENT
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket="millrace")["Contents"]] == ["object"]
    client.delete_object(Bucket="millrace", Key="object")
    assert "Contents" not in client.list_objects_v2(Bucket="millrace")
    assert set(faults.counts) == {"passed"}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("503", botocore.exceptions.ClientError),
        ("reset", botocore.exceptions.ConnectionClosedError),
        ("truncate", botocore.exceptions.ResponseStreamingError),
        ("stall", botocore.exceptions.ReadTimeoutError),
    ],
)
def test_faults_are_what_they_are_called(faults: FaultyProxy, kind: str, error: type[Exception]) -> None:
    client_of(faults).put_object(Bucket="millrace", Key="object", Body=CONTENT)
    faults.kinds, faults.share = (kind,), 1.0
    with pytest.raises(error):
        read(faults)
    assert faults.counts[kind] == 1


def test_corruption_changes_one_byte_of_what_is_read_or_stored(faults: FaultyProxy) -> None:
    client_of(faults).put_object(Bucket="millrace", Key="object", Body=CONTENT)
    faults.kinds, faults.share = ("corrupt",), 1.0
    assert sum(a != b for a, b in zip(read(faults), CONTENT, strict=True)) == 1
    client_of(faults).put_object(Bucket="millrace", Key="object", Body=CONTENT)
    faults.share = 0.0
    assert sum(a != b for a, b in zip(read(faults), CONTENT, strict=True)) == 1


def test_faults_follow_from_the_seed_and_fall_on_the_stated_share(faults: FaultyProxy) -> None:
    drawn = {}
    for seed in (1, 1, 2):
        with FaultyProxy(faults.endpoint, share=0.05, seed=seed) as proxy:
            kinds = [proxy.draw(f"GET /{number % 500}")[0] for number in range(4000)]
        assert drawn.setdefault(seed, kinds) == kinds
        assert 140 < 4000 - kinds.count("passed") < 260
    assert drawn[1] != drawn[2]


# --- What has to live with it ----------------------------------------------------------------------------------


@pytest.fixture
def _short_patience(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stores are given up after seconds, here and in the processes of a build."""
    impatient = {"config_kwargs": {"read_timeout": 2, "connect_timeout": 2}}
    monkeypatch.setitem(fsspec.config.conf, "s3", impatient)
    monkeypatch.setenv("FSSPEC_S3", json.dumps(impatient))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus.storage.retry, "PAUSE", 0.01)
    monkeypatch.setattr(corpus.storage.store, "SILENCE", 2)
    monkeypatch.setattr(corpus.storage.store, "REQUEST_SECONDS", 10)


def remote(url: str) -> dict[str, bytes]:
    """Every file at a URL; asked for when nothing fails."""
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    return {path[len(root) + 1 :]: filesystem.cat_file(path) for path in filesystem.find(root)}


def upload(folder: Path, url: str) -> None:
    filesystem, root = fsspec.core.url_to_fs(url)
    filesystem.put(str(folder), root, recursive=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.write("file", b"new"),
        lambda store: store.swap("file", b"new", expected=b"old"),
        lambda store: store.swap("other", b"new", expected=None),
        lambda store: store.has_conditions("file"),
        lambda store: store.probe(),
        lambda store: store.put(Path(__file__), "file"),
    ],
    ids=["write", "replace", "create", "has_conditions", "probe", "put"],
)
@pytest.mark.usefixtures("_short_patience")
def test_a_change_that_the_store_never_answers_ends_with_an_error(
    bucket: str, faults: FaultyProxy, change: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus.storage.store, "REQUEST_SECONDS", 1)
    Store(bucket).write("file", b"old")
    faults.kinds, faults.share = ("mute",), 1.0
    with pytest.raises(StorageError, match=r"(nothing came for|Timeout)"):
        change(Store(bucket, attempts=1))
    assert faults.counts["mute"]


@pytest.mark.slow  # some uploads stall, and are given up after seconds
@pytest.mark.usefixtures("_short_patience")
def test_files_arrive_as_they_were_sent_however_the_store_fails(
    bucket: str, faults: FaultyProxy, tmp_path: Path
) -> None:
    faults.kinds, faults.share, faults.seed = (*KINDS, "corrupt", "corrupt"), 0.3, 4
    store = Store(f"{bucket}/files")
    expected = {f"shards/{number}": os.urandom(1 + 1000 * number) for number in range(24)}
    for name, content in expected.items():
        (tmp_path / "file").write_bytes(content)
        store.put(tmp_path / "file", name)
    assert faults.counts["corrupt"] > 2
    faults.share = 0.0
    assert remote(f"{bucket}/files") == expected


@pytest.mark.slow  # three builds
@pytest.mark.usefixtures("_short_patience")
def test_inputs_that_come_damaged_change_no_dataset(
    bucket: str, faults: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a store without checksums of its own, only the read-back check notices.
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    mix = write_mix(tmp_path, rows=60)
    for source in ("first", "second"):
        upload(mix.parent / source, f"{bucket}/{source}/")
    paths = tuple(f"sources.{source}.path={bucket}/{source}" for source in ("first", "second"))
    run_build(mix, tmp_path / "expected", overrides=paths)
    faults.kinds, faults.only, faults.share = ("corrupt",), ".jsonl", 0.25
    for seed in (1, 2):
        faults.seed = seed
        out = tmp_path / f"out{seed}"
        with suppress(BuildError):  # says "run the build again"
            run_build(mix, out, overrides=paths)
        run_build(mix, out, overrides=paths)
        assert contents(out) == contents(tmp_path / "expected")
    assert faults.counts["corrupt"] > 3


@pytest.mark.slow  # two builds and three runs, which wait for stores that stall
@pytest.mark.usefixtures("_short_patience")
def test_build_train_checkpoint_and_resume_end_with_the_same_bytes_and_losses_whatever_fails(
    bucket: str, faults: FaultyProxy, tmp_path: Path
) -> None:
    mix = write_mix(tmp_path)
    upload(mix.parent / "first", f"{bucket}/first/")
    source = f"sources.first.path={bucket}/first"
    built = tmp_path / "local"
    run_build(mix, built, overrides=(source,))
    settings = {"batch": {"tokens": 2048, "row_tokens": 512}, "epochs": None, "steps": 12, "checkpoint": {"every": 4}}
    settings["schedule"] = {"warmup_steps": 4, "k_ramp": 0.0}  # a run of 5 steps begins as one of 12 does
    (tmp_path / "sound").mkdir()
    (tmp_path / "faulty").mkdir()
    sound = write_manifest(tmp_path / "sound", built, **settings)
    assert run(sound) == 0, log_of(sound).read_text()

    faults.kinds, faults.share, faults.seed = (*KINDS, "corrupt", "corrupt"), 0.05, 1  # most requests have no body
    url = f"{bucket}/mix"
    run_build(mix, url, overrides=(source,))
    settings["checkpoint"] = {"every": 4, "path": f"{bucket}/checkpoints"}
    manifest = write_manifest(tmp_path / "faulty", url, **settings, storage_timeout=40)
    for last in (5, 12):
        assert run(manifest, f"steps={last}") == 0, log_of(manifest).read_text()
    assert all(faults.counts[kind] for kind in KINDS if kind != "mute"), f"{faults.counts}: take another seed"
    faults.share = 0.0
    assert remote(url) == contents(built)
    assert read_commit(url) is not None
    assert [line["loss"] for line in steps(tmp_path / "faulty/run")] == [
        line["loss"] for line in steps(tmp_path / "sound/run")
    ]


@pytest.mark.slow  # runs of two ranks
@pytest.mark.parametrize("how", ["missing", "stalled"])
def test_shard_that_cannot_be_had_stops_every_rank_with_an_error_that_names_it(
    bucket: str, faults: FaultyProxy, tmp_path: Path, how: str
) -> None:
    data = write_dataset(tmp_path / "data")
    upload(data, f"{bucket}/data/")
    manifest = write_manifest(tmp_path, f"{bucket}/data", storage_timeout=8)
    if how == "missing":
        fsspec.core.url_to_fs(bucket)[0].rm_file(f"{bucket}/data/shards/shard.00002.mds")
    else:
        faults.kinds, faults.only, faults.share = ("stall",), "shard.00002.mds", 1.0
    cause = {"missing": "FileNotFoundError", "stalled": "nothing came for 2 s"}[how]
    codes = finish(start_ranks(2, manifest), manifest)
    said = log_of(manifest).read_text()
    assert codes == [1, 1], said
    assert len(re.findall("^error: s3://millrace/data/shards/shard.00002.mds: ", said, re.MULTILINE)) == 2, said
    assert cause in said
