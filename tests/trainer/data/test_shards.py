"""Claims about shards of a remote dataset: how the cache is shared and bounded, and when an error is raised."""

import http.server
import json
import multiprocessing
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xxhash
from streaming import Stream
from streaming.base.world import World

import corpus.storage.retry
from tests.faults import FaultyProxy
from tests.trainer.data.test_dataset import edit, tree, upload
from tests.trainer.fixtures import FIRST, seal, write_dataset
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.fetch import DatasetError
from trainer.data.plan import Plan, PlanInputs
from trainer.data.prefetch import Prefetcher
from trainer.data.shards import OPEN_SHARDS, ShardStore

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "s3fs"])


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.storage.retry, "PAUSE", 0.01)


@pytest.fixture
def web(data: Path) -> Iterator[str]:
    """URL of the dataset on a plain HTTP file server."""
    handler = partial(_QuietFiles, directory=str(data))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def read_all(store: ShardStore) -> list[int]:
    return [int(store.read(i).tokens[0]) - FIRST for i in range(120)]


def shards_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.mds"))


def read_in_a_process(url: str, cache: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    assert read_all(ShardStore(open_dataset(url, cache))) == list(range(120))


def processes(count: int, url: str, cache: Path) -> list[multiprocessing.process.BaseProcess]:
    """Processes that each read all samples through one cache."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    started = [CONTEXT.Process(target=read_in_a_process, args=(url, cache, environment)) for _ in range(count)]
    for process in started:
        process.start()
    return started


@pytest.mark.parametrize("bounds", [(40, 20), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1)])
def test_sample_whose_bounds_are_outside_of_its_shard_is_an_error_that_reads_nothing(
    data: Path, tmp_path: Path, bounds: tuple[int, int]
) -> None:
    shard = data / "shards/shard.00000.mds"
    content = bytearray(shard.read_bytes())
    content[4:12] = struct.pack("<II", *bounds)
    shard.write_bytes(content)
    index = json.loads((data / "shards/index.json").read_text())
    index["shards"][0]["raw_data"]["hashes"]["xxh64"] = xxhash.xxh64(content).hexdigest()
    (data / "shards/index.json").write_text(json.dumps(index))
    counts = json.loads((data / "dataset.json").read_text())
    seal(data, samples=counts["samples"], tokens=counts["tokens"], vocab_size=counts["tokenizer"]["vocab_size"])
    with pytest.raises(DatasetError, match=r"sample 0 cannot be decoded \(it is at bytes"):
        ShardStore(open_dataset(str(data), tmp_path / "cache")).read(0)


def test_dataset_is_read_from_a_plain_web_server(web: str, tmp_path: Path) -> None:
    store = ShardStore(open_dataset(web, tmp_path / "cache"))
    assert read_all(store) == list(range(120))
    assert len(shards_in(tmp_path / "cache")) == store.shards


def test_password_of_a_url_is_in_no_message(web: str, data: Path, tmp_path: Path) -> None:
    (data / "strata.json").unlink()
    with pytest.raises(DatasetError, match=r"strata\.json: download failed") as error:
        open_dataset(web.replace("://", "://reader:secret@"), tmp_path / "cache")
    assert "secret" not in str(error.value)


def test_samples_are_what_streaming_datasets_reader_gives(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "long", samples=60, longest=700, shard_bytes=8192)
    store = ShardStore(open_dataset(str(folder), tmp_path))
    shards = Stream(local=str(folder / "shards")).get_shards(World.detect(), allow_unsafe_types=False)
    expected = [shard.get_item(i) for shard in shards for i in range(shard.samples)]
    assert len(shards) > 3
    assert max(len(row["tokens"]) for row in expected) > 256
    for index, row in enumerate(expected):
        sample = store.read(index)
        assert np.array_equal(sample.tokens, row["tokens"])
        assert sample.prefix_len == row["prefix_len"]


def test_any_number_of_shards_is_read_with_few_descriptors(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "many", samples=600, shard_bytes=400)
    store = ShardStore(open_dataset(str(folder), tmp_path))
    assert store.shards > 2 * OPEN_SHARDS
    before = len(os.listdir("/proc/self/fd"))
    for index in [*range(600), *np.random.default_rng(0).integers(0, 600, 600).tolist()]:
        assert store.read(index).tokens[0] == FIRST + index
        assert len(os.listdir("/proc/self/fd")) <= before + OPEN_SHARDS
    assert len(os.listdir("/proc/self/fd")) > before + OPEN_SHARDS // 2


def test_shard_that_shrinks_while_it_is_read_is_an_error_that_names_it(data: Path, tmp_path: Path) -> None:
    store = ShardStore(open_dataset(str(data), tmp_path))
    shard = data / "shards/shard.00000.mds"
    assert [int(store.read(index).tokens[0]) for index in (0, 1)] == [FIRST, FIRST + 1]
    second = int(np.frombuffer(shard.read_bytes(), np.uint32, 3, 4)[1])
    for size in (second + 5, 8, 0):
        os.truncate(shard, size)
        with pytest.raises(DatasetError, match=r"shard\.00000\.mds: sample 1 cannot be decoded .the file ends before"):
            store.read(1)


def test_shard_that_was_replaced_after_its_verification_is_verified_again(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "many", samples=600, shard_bytes=400)
    store = ShardStore(open_dataset(str(folder), tmp_path))
    read = [store.read(index) for index in range(600)]  # closes the first shards again
    assert np.array_equal(store.read(0).tokens, read[0].tokens)
    shard = folder / "shards/shard.00001.mds"
    changed = bytearray(shard.read_bytes())
    changed[-1] ^= 1
    shard.write_bytes(changed)
    with pytest.raises(DatasetError, match=r"shard\.00001\.mds: .*hash"):
        [store.read(index) for index in range(600)]


@pytest.mark.parametrize("limit", [2100, 4200, 6300])
def test_cache_never_holds_more_than_its_limit(data: Path, tmp_path: Path, bucket: str, limit: int) -> None:
    upload(data, f"{bucket}/mix")
    cache = tmp_path / "cache"
    store = ShardStore(open_dataset(f"{bucket}/mix", cache), cache_bytes=limit)
    for index in np.random.default_rng(0).integers(0, 120, 150).tolist():
        assert store.read(index).tokens[0] == FIRST + index
        assert sum(path.stat().st_size for path in cache.rglob("*.mds")) <= limit


def test_shard_that_is_needed_last_is_deleted_first(data: Path, tmp_path: Path, bucket: str) -> None:
    upload(data, f"{bucket}/mix")
    cache = tmp_path / "cache"
    dataset = open_dataset(f"{bucket}/mix", cache)
    store = ShardStore(dataset, cache_bytes=6300)
    first_of = [int(np.flatnonzero(store.shards_of(np.arange(120, dtype=np.uint32)) == n)[0]) for n in range(4)]
    store.expect({2: 0, 0: 1, 3: 2, 1: 3})
    for number in (0, 1, 2):
        store.read(first_of[number])
    store.read(first_of[3])
    assert [store.is_cached(n) for n in range(4)] == [True, False, True, True]
    # What is needed last is not fetched ahead in place of what is needed sooner.
    assert not store.prefetch(1)
    assert [store.is_cached(n) for n in range(4)] == [True, False, True, True]


def test_local_dataset_is_never_deleted_from(data: Path, tmp_path: Path) -> None:
    before = tree(data)
    assert read_all(ShardStore(open_dataset(str(data), tmp_path), cache_bytes=1)) == list(range(120))
    assert tree(data) == before


def test_limit_below_a_shard_is_refused(data: Path, tmp_path: Path, bucket: str) -> None:
    upload(data, f"{bucket}/mix")
    with pytest.raises(DatasetError, match=r"the largest shard has 2,\d+ bytes, and cache_bytes is 1,000"):
        ShardStore(open_dataset(f"{bucket}/mix", tmp_path), cache_bytes=1000)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cause"), [("stall", "nothing came for"), ("503", "")])
def test_store_that_does_not_answer_is_reported_at_the_timeout(
    data: Path, tmp_path: Path, bucket: str, faults: FaultyProxy, kind: str, cause: str
) -> None:
    upload(data, f"{bucket}/mix")
    store = ShardStore(open_dataset(f"{bucket}/mix", tmp_path / "cache", storage_timeout=3))
    faults.kinds, faults.share = (kind,), 1.0
    began = time.monotonic()
    with pytest.raises(DatasetError, match=rf"s3://millrace/mix/shards/shard\.00000\.mds: download failed .*{cause}"):
        store.read(0)
    assert (
        time.monotonic() - began < 3 + 3 / 4 + 5
    )  # the timeout, an attempt that began just before it, and a slow machine
    assert shards_in(tmp_path / "cache") == []


def test_commit_record_that_comes_damaged_is_read_again(
    data: Path, tmp_path: Path, bucket: str, faults: FaultyProxy
) -> None:
    upload(data, f"{bucket}/mix")
    sound = open_dataset(f"{bucket}/mix", tmp_path / "a")
    for seed in range(8):
        faults.kinds, faults.share, faults.seed = ("corrupt",), 0.3, seed
        found = open_dataset(f"{bucket}/mix", tmp_path / f"cache{seed}")
        assert (found.fingerprint, found.samples, found.special) == (sound.fingerprint, sound.samples, sound.special)
    assert faults.counts["corrupt"] > 5


@pytest.mark.slow
def test_processes_share_the_cache_and_fetch_each_shard_once(
    data: Path, tmp_path: Path, bucket: str, faults: FaultyProxy
) -> None:
    upload(data, f"{bucket}/mix")
    faults.asked.clear()
    for process in processes(3, f"{bucket}/mix", tmp_path / "cache"):
        process.join(60)
        assert process.exitcode == 0
    shards = {request: count for request, count in faults.asked.items() if ".mds" in request}
    assert set(shards.values()) == {1}
    assert len(shards) == len(shards_in(tmp_path / "cache"))


@pytest.mark.slow
def test_process_that_is_killed_in_mid_download_stops_nobody(
    data: Path, tmp_path: Path, bucket: str, faults: FaultyProxy
) -> None:
    upload(data, f"{bucket}/mix")
    cache = tmp_path / "cache"
    open_dataset(f"{bucket}/mix", cache)
    faults.kinds, faults.only, faults.share = ("stall",), ".mds", 1.0
    (killed,) = processes(1, f"{bucket}/mix", cache)
    while not list(cache.rglob("*.part")):
        assert killed.is_alive()
        time.sleep(0.01)
    (waiting,) = processes(1, f"{bucket}/mix", cache)
    os.kill(killed.pid or 0, signal.SIGKILL)
    killed.join()
    faults.share = 0.0
    waiting.join(60)
    assert waiting.exitcode == 0
    assert not list(cache.rglob("*.part"))


def test_prefetcher_brings_what_the_plan_needs_next_and_no_more_than_its_window(
    data: Path, tmp_path: Path, bucket: str
) -> None:
    strata = [{**entry, "task": str(n)} for n, entry in enumerate(_quarters())]
    folder = write_dataset(tmp_path / "quarters", samples=400, strata=strata)
    upload(folder, f"{bucket}/quarters")
    dataset = open_dataset(f"{bucket}/quarters", tmp_path / "cache")
    store = ShardStore(dataset)
    plan = _plan(dataset)
    window = sum(store.size(number) for number in range(store.shards)) // 2
    prefetcher = Prefetcher(store, plan, epochs=1, window=window)
    try:
        prefetcher.at(0, 0, 0)
        needed = list(dict.fromkeys(store.shards_of(np.concatenate(_batches(plan))).tolist()))
        within = [n for i, n in enumerate(needed) if sum(store.size(m) for m in needed[: i + 1]) <= window]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not all(store.is_cached(n) for n in within):
            time.sleep(0.02)
        time.sleep(0.3)
        here = [n for n in range(store.shards) if store.is_cached(n)]
        assert 0 < len(here) < store.shards
        assert sum(store.size(n) for n in here) <= window
    finally:
        prefetcher.close()


def _quarters() -> list[dict[str, object]]:
    sizes = {"source": "s", "max_per_epoch": None, "repeat": 1}
    return [{**sizes, "begin": begin, "end": begin + 100} for begin in range(0, 400, 100)]


def _plan(dataset: Dataset) -> Plan:
    inputs = PlanInputs(fingerprint=dataset.fingerprint, seed=0, batch_tokens=128, row_tokens=32, truncate=False)
    return Plan(inputs, dataset.strata, dataset.lengths)


def _batches(plan: Plan) -> list[np.ndarray]:
    chunk = plan.chunk(0, 0)
    return [np.sort(chunk.batch(batch)) for batch in range(chunk.batches)]


@pytest.mark.parametrize("change", ["other content", "no such shard"])
def test_dataset_that_was_rebuilt_while_it_was_read_is_named_as_the_cause(
    change: str, data: Path, web: str, tmp_path: Path
) -> None:
    store = ShardStore(open_dataset(web, tmp_path / "cache", storage_timeout=60))
    for path in sorted((data / "shards").glob("*.mds"))[1:]:
        path.unlink() if change == "no such shard" else path.write_bytes(path.read_bytes()[::-1])
    edit(data / "dataset.json", fingerprint="another")
    began = time.monotonic()
    with pytest.raises(DatasetError, match=r"was rebuilt while it was in use: .* Start a new run"):
        read_all(store)
    assert time.monotonic() - began < 50
