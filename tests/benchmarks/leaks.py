"""Memory and descriptors of a training run whose data and checkpoints are on S3, over many small steps.

    python -m tests.benchmarks.leaks --steps 5000

The cache holds a part of the shards only, so each epoch fetches and deletes some. A checkpoint is written every 50
steps.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import psutil

from tests.s3 import serve_bucket
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import finish, log_of, start, wait_for_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a process holds after a step."""

    step: int
    memory: int
    """Resident bytes."""
    descriptors: int
    threads: int


def samples(folder: Path, bucket: str, *, steps: int, every: int) -> Iterator[Sample]:
    """Train from and to a bucket; yield what the process holds every `every` steps.

    Parameters
    ----------
    folder
        Where the run writes.
    bucket
        URL of an empty bucket.
    steps, every
        Steps of the run, and between two samples.
    """
    filesystem, root = fsspec.core.url_to_fs(bucket)
    filesystem.put(str(write_dataset(folder / "data")), f"{root}/data", recursive=True)
    manifest = write_manifest(
        folder,
        f"{bucket}/data",
        steps=steps,
        epochs=None,
        cache_bytes=5000,
        checkpoint={"every": 50, "path": f"{bucket}/run"},
    )
    run = start(manifest)
    try:
        process = psutil.Process(run.pid)
        for step in range(every, steps, every):
            wait_for_step(run, folder / "run", step)
            if not run.is_alive():
                raise AssertionError(log_of(manifest).read_text())
            with process.oneshot():
                yield Sample(
                    step=step,
                    memory=process.memory_info().rss,
                    descriptors=process.num_fds(),
                    threads=process.num_threads(),
                )
    finally:
        if sys.exc_info()[0] is not None:
            run.kill()
        codes = finish([run], manifest)
    if codes != [0]:
        raise AssertionError(log_of(manifest).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--every", type=int, default=500)
    options = parser.parse_args()
    print("  step  memory, MB  descriptors  threads")
    with tempfile.TemporaryDirectory() as folder, serve_bucket() as bucket:
        for found in samples(Path(folder), bucket, steps=options.steps, every=options.every):
            print(f"{found.step:6,}  {found.memory / 1e6:10.1f}  {found.descriptors:11}  {found.threads:7}", flush=True)


if __name__ == "__main__":
    main()
