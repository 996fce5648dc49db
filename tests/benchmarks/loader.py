"""How fast batches come from an object store, and how long a GPU would wait for them.

    python -m tests.benchmarks.loader --rclone PATH

Writes a dataset of random tokens, serves it over HTTP as S3 (by `rclone serve s3`, or moto's server where there is no
rclone), and reads an epoch of it, each time in a process of its own:

    cold, warm    from the store through an empty cache, and again through the cache that this has left
    folder        from a local folder
    memory        the same plan and packing, from arrays in memory: what the loader costs without any storage

`trainer.data.loader.Loader` yields packed batches; one thread makes them, and others fetch shards. It has no worker
processes: more of them would be more ranks, each of which has a loader on the cache that they share.
`StreamingDataset` under torch's `DataLoader` with 0, 1 and 2 workers yields samples, shuffled, not packed, and without
a check of what is read.

"waits" is the share of time after the first batch for which a consumer of --rate tokens a second has no batch.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

from tests.trainer.fixtures import seal, stratum, write_tokenizer
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.loader import Loader
from trainer.data.plan import Plan, PlanInputs
from trainer.data.shards import Sample, ShardStore

BATCH_TOKENS, ROW_TOKENS, STRATA, VOCABULARY = 196_608, 4096, 20, 65_536
MEAN, SPREAD = 237, 1.0
SHARD_BYTES = 4 << 20
WATCHED_BATCHES = 16
"""Batches after the first that the consumer takes at its rate."""
BUCKET = "millrace"
ACCESS = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark", "AWS_DEFAULT_REGION": "us-east-1"}


def write(folder: Path, tokens: int) -> None:
    """A dataset of about so many random tokens."""
    rng = np.random.default_rng(0)
    total = np.exp(np.log(MEAN) - SPREAD**2 / 2 + SPREAD * rng.standard_normal(tokens // MEAN)).clip(8, ROW_TOKENS)
    lengths = np.stack([total // 3, total - total // 3], axis=1).astype(np.uint16)
    columns = {"tokens": "ndarray:uint16", "prefix_len": "uint16", "row_id": "bytes"}
    with MDSWriter(
        out=str(folder / "shards"), columns=columns, hashes=["xxh64"], size_limit=SHARD_BYTES, progress_bar=False
    ) as writer:
        for number, (prefix, response) in enumerate(lengths):
            content = rng.integers(0, VOCABULARY, int(prefix) + int(response), np.uint16)
            writer.write({"tokens": content, "prefix_len": prefix, "row_id": number.to_bytes(16, "big")})
    np.save(folder / "lengths.npy", lengths)
    ends = np.linspace(0, len(lengths), STRATA + 1).astype(int).tolist()
    strata = [stratum(begin, end) for begin, end in pairwise(ends)]
    (folder / "strata.json").write_text(json.dumps({"strata": strata}))
    write_tokenizer(folder, VOCABULARY)
    (folder / "eval").mkdir()
    (folder / "eval/heldout.jsonl").write_text("")
    seal(folder, samples=len(lengths), tokens=int(lengths.sum(dtype=np.int64)), vocab_size=VOCABULARY)


# --- What is measured ------------------------------------------------------------------------------------------


class Memory(ShardStore):
    """A store whose samples are arrays in memory."""

    def __init__(self, dataset: Dataset):
        super().__init__(dataset)
        self._samples = [super(Memory, self).read(index) for index in range(dataset.samples)]

    def require(self, samples: NDArray[np.uint32]) -> None:
        """They are all here."""

    def read(self, index: int) -> Sample:
        """One of them."""
        return self._samples[index]


def packed(url: str, cache: Path, in_memory: bool) -> Iterator[Iterator[int]]:
    """Tokens of each packed batch of an epoch; what comes before the first is set-up that a run does once."""
    dataset = open_dataset(url, cache)
    store = Memory(dataset) if in_memory else None
    yield iter(())
    inputs = PlanInputs(
        fingerprint=dataset.fingerprint, seed=1, batch_tokens=BATCH_TOKENS, row_tokens=ROW_TOKENS, truncate=False
    )
    plan = Plan(inputs, dataset.strata, dataset.lengths)
    with Loader(
        plan,
        store or ShardStore(dataset),
        dataset.lengths,
        epochs=1,
        epoch=0,
        chunk=0,
        next_batch=0,
        rank=0,
        world_size=1,
        prefetch_batches=4,
        prefetch_bytes=1 << 30,
        device=torch.device("cpu"),
    ) as loader:
        yield (step.tokens for step in loader)


def streamed(url: str, cache: Path, *, workers: int) -> Iterator[Iterator[int]]:
    """Tokens of each batch of 64 samples of a shuffled `StreamingDataset`."""
    yield iter(())
    dataset = StreamingDataset(remote=f"{url}/shards", local=str(cache), shuffle=True, batch_size=64)
    loader = DataLoader(dataset, batch_size=64, num_workers=workers, collate_fn=together)
    yield (len(batch) for batch in loader)


def together(rows: list[dict[str, Any]]) -> torch.Tensor:
    """Tokens of some samples, one after the other."""
    return torch.from_numpy(np.concatenate([row["tokens"] for row in rows]).astype(np.int64))


def drain(source: Iterator[Iterator[int]], rate: float | None) -> dict[str, float]:
    """Take batches as fast as they come, or at a rate for a while; seconds and tokens."""
    next(source)
    began = mark = time.perf_counter()
    first = waited = 0.0
    tokens = last = 0
    for batch in next(source):
        now = time.perf_counter()
        if not last:
            first = now - began
        else:
            waited += now - mark
            tokens += batch
        last = batch
        if rate:
            time.sleep(batch / rate)
            if tokens > WATCHED_BATCHES * BATCH_TOKENS:
                break
        mark = time.perf_counter()
    seconds = time.perf_counter() - began - first
    source.close()  # type: ignore[attr-defined]
    return {"first": first, "seconds": seconds, "tokens": tokens, "waits": waited / seconds}


def measure(how: str, url: str, cache: Path, rate: float) -> dict[str, dict[str, float]]:
    """One way of reading, in this process: as fast as it comes, then from another cache at a rate, if that is not 0."""
    found = {}
    for name, limit in (("fast", None), ("slow", rate)) if rate else (("fast", None),):
        place = cache / name
        source = streamed(url, place, workers=int(how)) if how.isdecimal() else packed(url, place, how == "memory")
        found[name] = drain(source, limit)
    return found


def in_a_process(how: str, url: str, cache: str, rate: float) -> dict[str, dict[str, float]]:
    """`measure` in a fresh interpreter."""
    command = [sys.executable, "-m", "tests.benchmarks.loader", "--measure", how, url, cache, str(rate)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- The store -------------------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, rclone: str | None) -> Iterator[str]:
    """Name of an S3 server that holds the folder's subfolders as buckets, for this process and those it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    os.environ.update(ACCESS, AWS_ENDPOINT_URL=endpoint, S3_ENDPOINT_URL=endpoint)
    keys = f"{ACCESS['AWS_ACCESS_KEY_ID']},{ACCESS['AWS_SECRET_ACCESS_KEY']}"
    if rclone is not None:
        name = "rclone serve s3"
        command = [rclone, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", keys]
    else:
        name = "moto's server"
        command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not _answers(endpoint):
                time.sleep(0.1)
            if rclone is None:
                _upload(folder)
            yield name
        finally:
            process.terminate()


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _upload(folder: Path) -> None:
    import fsspec

    filesystem = fsspec.filesystem("s3")
    for path in sorted(folder.iterdir()):
        filesystem.mkdir(path.name)
        filesystem.put(f"{path}/", path.name, recursive=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.loader",
        description="Measure loaders over HTTP.",
        epilog="example: python -m tests.benchmarks.loader --tokens 20000000 --rclone ~/.local/bin/rclone",
    )
    parser.add_argument("--tokens", type=int, default=40_000_000, help="size of the dataset (default: 40,000,000)")
    parser.add_argument("--rate", type=float, default=400_000, help="tokens a second of the consumer (default: 400000)")
    parser.add_argument("--rclone", default=shutil.which("rclone"), help="rclone's program (default: the one in PATH)")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        how, url, cache, rate = options.measure
        print(json.dumps(measure(how, url, Path(cache), float(rate))))
        return
    screen = Console(width=110, highlight=False)
    table = Table(title="Loader", title_justify="left")
    for heading in ("", "source", "first batch", "M tokens/s after it", f"waits at {options.rate:,.0f}/s"):
        table.add_column(heading, justify="right" if heading not in ("", "source") else "left")
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "store" / BUCKET / "data"
        data.mkdir(parents=True)
        write(data, options.tokens)
        with served(Path(place) / "store", options.rclone) as server:
            url = f"s3://{BUCKET}/data"
            size = sum(path.stat().st_size for path in data.rglob("*.mds"))
            screen.print(
                f"{options.tokens:,} tokens, mean {MEAN}, {size / 2**20:,.0f} MiB in shards of "
                f"{SHARD_BYTES >> 20} MiB, {server}; {platform.machine()}, {os.cpu_count()} cores\n"
            )

            def add(what: str, source: str, how: str, place: str, cache: str, *, watch: bool = True) -> None:
                found = in_a_process(how, place, cache, options.rate if watch else 0)
                fast = found["fast"]
                waits = f"{found['slow']['waits']:.2%}" if watch else ""
                row = (what, source, f"{fast['first']:.2f} s", f"{fast['tokens'] / fast['seconds'] / 1e6:.2f}", waits)
                table.add_row(*row)
                print(*row, sep="  ", file=sys.stderr)

            for source in ("S3, cold cache", "S3, warm cache"):
                add("Loader", source, "store", url, f"{place}/ours")
            add("Loader", "folder", "store", str(data), f"{place}/none")
            add("Loader", "memory", "memory", str(data), f"{place}/none")
            table.add_section()
            for source in ("S3, cold cache", "S3, warm cache"):
                for workers in (0, 1, 2):
                    what = f"StreamingDataset, {workers} workers"
                    add(what, source, str(workers), url, f"{place}/theirs-{workers}", watch=workers == 1)
    screen.print(table)


if __name__ == "__main__":
    main()
