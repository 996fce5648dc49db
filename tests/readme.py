"""Run every block of the README: `python -m tests.readme [--list] [--full] [NAME ...]`.

Each block of code in README.md is one `Block` here, found by a line of its text; a block without one, and one without a
block, is an error. Blocks run in the order of the README in one fresh clone of this repository's last commit, with a
real S3 server and a one-node Ray cluster where a block needs them. Installations are left out (`.ci/run` makes them),
and training runs are cut short unless `--full` is given: `shorten` lists what is replaced, and it is printed.
"""

import argparse
import contextlib
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("sh", "console", "python", "yaml")
"""Blocks in these languages run; `text` is output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How one block of the README runs."""

    name: str
    """For the command line and messages."""
    line: str
    """Text that only this block contains."""
    replace: tuple[tuple[str, str], ...] = ()
    """What a machine without the named service, place or patience has to replace, and by what."""
    shorten: tuple[tuple[str, str], ...] = ()
    """What is replaced unless `--full` is given."""
    prepare: Callable[[Path], None] = lambda clone: None
    """Makes what the block needs in the clone."""
    services: Callable[[], contextlib.AbstractContextManager[dict[str, str]]] = contextlib.nullcontext
    """Starts what must be running beside it; yields more to replace."""


def _own_data(clone: Path) -> None:
    """The files that mix.yaml of the README names, in the clone and in the bucket."""
    import boto3
    import polars as pl
    import zstandard

    def lines(first: int, count: int) -> str:
        rows = (
            f'{{"instruction": "How much is {number} plus {number * 7}?", "response": "It is {number * 8}."}}\n'
            for number in range(first, first + count)
        )
        return "".join(rows)

    (clone / "maths").mkdir()
    (clone / "maths/a.jsonl.zst").write_bytes(zstandard.compress(lines(0, 400).encode()))
    (clone / "test.jsonl").write_text(lines(5000, 20))
    answers = [{"answer": f"On shelf {number % 40}."} for number in range(300)]
    posts = [{"title": f"Post {n}", "body": f"Where is item {n}?", "best": best} for n, best in enumerate(answers)]
    pl.DataFrame(posts).write_parquet(clone / "forum.parquet")
    boto3.client("s3").upload_file(str(clone / "forum.parquet"), "bucket", "forum.parquet")


@contextlib.contextmanager
def _ray() -> Iterator[dict[str, str]]:
    """A cluster of one node."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["RAY_AUTH_MODE"] = "token"
    start = ["ray", "start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    subprocess.run([*start, "--include-dashboard=false", "--disable-usage-stats"], check=True, capture_output=True)
    try:
        yield {"HOST:6379": f"127.0.0.1:{port}"}
    finally:
        subprocess.run(["ray", "stop"], check=True, capture_output=True)


_FIRST_ROW = """$(python -c 'import corpus; print(corpus.scan("out/my-mix").ledger.collect()["row_id"][0])')"""
_STEPS = "steps=20 schedule.warmup_steps=5 checkpoint.every=10"
_INSTALL = r"^(?:.*&& )?(?:uv )?pip install [^&\n]*(?:&& |$)"

BLOCKS = (
    Block(name="install-and-build", line="python3 -m venv .venv"),
    Block(
        name="test",
        line="python -m pytest",
        shorten=(("pytest -n auto --dist loadfile", "pytest --collect-only -q"),),
    ),
    Block(
        name="train",
        line="python -m trainer.train manifests/train.yaml\n",
        shorten=(("manifests/train.yaml", f"manifests/train.yaml {_STEPS}"),),
    ),
    Block(name="generate", line='python -m trainer.generate out/train "Reverse'),
    Block(name="export", line="python -m model.export"),
    Block(name="mix", line="name: my-mix", prepare=_own_data),
    Block(
        name="own-data",
        line="python -m pipeline.build mix.yaml --dry-run",
        replace=(("4616f2298ee0", _FIRST_ROW),),
    ),
    Block(
        name="ray",
        line="--executor ray",
        replace=(("/mnt/shared/work", "shared-work"),),
        services=_ray,
    ),
    Block(name="inspect", line="python -m corpus.inspect"),
    Block(name="scan", line="corpus.scan("),
    Block(
        name="s3",
        line="--out s3://bucket/mix",
        replace=(("/scratch/cache", "cache"),),
        shorten=(("manifests/train.yaml", f"manifests/train.yaml {_STEPS}"),),
    ),
    Block(name="slurm", line="#SBATCH"),
    Block(
        name="claims",
        line="model.architecture=transformer",
        shorten=(("manifests/train.yaml", f"manifests/train.yaml {_STEPS}"),),
    ),
)


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Language and text of each block that runs, in order."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)
    return [(language, content) for language, content in found if language in LANGUAGES]


def matched(text: str) -> list[tuple[Block, str, str]]:
    """Each `Block` with its language and text.

    Raises
    ------
    ValueError
        A block of the README has no entry in `BLOCKS` or several, or an entry has no block.
    """
    pairs: list[tuple[Block, str, str]] = []
    for language, content in blocks_of(text):
        entries = [block for block in BLOCKS if block.line in content]
        if len(entries) != 1:
            names = ", ".join(block.name for block in entries) or "none"
            raise ValueError(f"README.md: the block that begins {content[:60]!r} has these entries in BLOCKS: {names}")
        pairs.append((entries[0], language, content))
    if [block for block, _, _ in pairs] != list(BLOCKS):
        raise ValueError("README.md: its blocks are not those of BLOCKS, in that order")
    return pairs


def run(block: Block, language: str, content: str, clone: Path, *, full: bool) -> str:
    """Run a block in the clone; returns its output.

    Raises
    ------
    subprocess.CalledProcessError
        A command of it failed.
    """
    block.prepare(clone)
    replace = [*block.replace, *(() if full else block.shorten)]
    with block.services() as more:
        for old, new in [*replace, *(more or {}).items()]:
            if old not in content:
                raise ValueError(f"block {block.name}: has no {old!r} to replace")
            content = content.replace(old, new)
            print(f"    {old} -> {new}")
        if language == "yaml":
            (clone / "mix.yaml").write_text(content)
            return ""
        if language == "python":
            command = [sys.executable, "-c", content]
        elif block.name == "slurm":  # needs a cluster: its syntax is all that is checked
            command = ["bash", "-n", "-c", content]
        else:
            if language == "console":
                content = "\n".join(line[2:] for line in content.splitlines() if line.startswith("$ "))
            content = re.sub(_INSTALL, "", content, flags=re.M)
            command = ["bash", "-euo", "pipefail", "-c", content]
        environment = os.environ | {"PYTHONPATH": str(clone)}
        done = subprocess.run(command, cwd=clone, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    return done.stdout


@contextlib.contextmanager
def storage() -> Iterator[None]:
    """An S3 server with the bucket of the README, named by the usual AWS variables."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    boto3.client("s3").create_bucket(Bucket="bucket")
    try:
        yield
    finally:
        server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.readme", description="Run the blocks of README.md.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these blocks, and what they need before them")
    parser.add_argument("--list", action="store_true", help="print the blocks and exit")
    parser.add_argument("--full", action="store_true", help="replace nothing to save time")
    options = parser.parse_args(arguments)
    pairs = matched((ROOT / "README.md").read_text())
    if options.list:
        print("\n".join(f"{block.name:20} {language}" for block, language, _ in pairs))
        return 0
    if unknown := set(options.names) - {block.name for block in BLOCKS}:
        parser.error(f"unknown blocks {', '.join(sorted(unknown))}; --list prints them")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="readme-") as folder, storage():
        clone = Path(folder) / "millrace"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        for block, language, content in pairs:
            if options.names and block.name not in options.names:
                continue
            print(f"{block.name} ({language})", flush=True)
            began = time.monotonic()
            try:
                run(block, language, content, clone, full=options.full)
            except (subprocess.CalledProcessError, ValueError) as error:
                failed += 1
                output = getattr(error, "output", "") or ""
                print(f"    FAILED: {error}"[:300], *output.splitlines()[-20:], sep="\n        ")
            else:
                print(f"    ran, {time.monotonic() - began:.0f} s", flush=True)
        shutil.rmtree(clone, ignore_errors=True)
    print(f"{len(options.names or pairs) - failed} ran, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
