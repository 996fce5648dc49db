"""The build command: a mix manifest → a dataset.

    python -m pipeline.build manifests/mix.yaml --out out/mix

Run again, it does nothing when nothing has changed; after a crash it goes on
from the work that was finished.
"""

import argparse
import fcntl
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.config import ConfigError
from corpus.contract import COMMIT, FOLDERS, DatasetInfo
from corpus.discover import SourceFile
from corpus.storage.location import is_url, normalized
from corpus.storage.redact import redact
from pipeline.dataset.publish import publish, read_commit
from pipeline.engine.budget import affordable_workers, default_memory
from pipeline.engine.executor import Executor, LocalExecutor
from pipeline.engine.progress import Display
from pipeline.engine.shortage import disk_warning, shortage
from pipeline.engine.step import BuildError, code_version, digest_of, finished, prune, sweep
from pipeline.ingest.inputs import Input, discover_inputs, hash_inputs, lock_text
from pipeline.manifest import Mix, load, parse_bytes

LOCK = ".lock"
WORK = ".work"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 1 the build failed, 2 the manifest or command line is wrong."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    if options.address is not None and options.executor != "ray":
        parser.error("--address is of a Ray cluster; it needs --executor ray")
    try:
        mix = load(options.manifest, options.overrides)
        base = Path(options.manifest).resolve().parent
        out = mix.out if options.out is None else options.out
        if not out:
            raise ConfigError("--out is empty; expected a folder or URL")
        out = normalized(out)
        if options.dry_run:
            from pipeline.report.preview import preview

            preview(mix, base)
            return 0
        work = options.work or default_work(out)
        begin = time.monotonic()
        built = build(
            mix,
            base,
            out=out,
            workers=_workers(options),
            work=work,
            ray=options.executor == "ray",
            address=options.address,
        )
        if built.faults is None:
            print(f"nothing to do: {out} is this manifest's dataset, and no input has changed")
        else:
            from pipeline.report.summary import show

            show(
                DatasetInfo.model_validate(built.dataset, strict=False),
                built.faults,
                out=out,
                work=work,
                seconds=time.monotonic() - begin,
            )
    except (ConfigError, BuildError, OSError) as error:
        print(f"error: {redact(shortage(error, options.out or 'the dataset') or str(error))}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("\ninterrupted; finished work is kept, and the same command continues", file=sys.stderr)
        return 130
    return 0


def _workers(options: argparse.Namespace) -> int | None:
    """As many as asked for, or one a core, as far as this machine's memory allows; None for all of a cluster's."""
    if options.address is not None:
        return options.workers
    wanted = options.workers or os.cpu_count() or 1
    workers = affordable_workers(wanted, options.memory)
    if workers < wanted:
        enough = f"{options.memory / 1e9:.1f} GB of memory is enough for {workers} of {wanted} workers"
        print(enough, file=sys.stderr)
    return workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build has come to."""

    dataset: dict[str, Any]
    """Content of `dataset.json`."""
    faults: list[dict[str, Any]] | None
    """Lines of ledger/files.parquet about files that were not read to their end; None if there was nothing to do."""


def build(
    mix: Mix,
    base: Path,
    *,
    out: str,
    workers: int | None,
    work: Path,
    display: Display | None = None,
    ray: bool = False,
    address: str | None = None,
) -> Built:
    """Build a dataset, or find that it is there already.

    Parameters
    ----------
    mix
        The manifest.
    base
        Folder that the manifest's relative input paths start from.
    out
        Folder or fsspec URL of the dataset.
    workers
        Number of processes, or of steps at once on a Ray cluster; None for one a core.
    work
        Folder for intermediate results, of this `out` alone; see `default_work`.
    display
        Where progress is shown; standard error by default.
    ray, address
        Whether Ray completes the steps, and the address of its cluster; see `pipeline.engine.ray`.

    Raises
    ------
    corpus.config.ConfigError
        An input that the manifest names cannot be used.
    BuildError
        The build failed; finished work is kept.
    """
    display = display or Display()
    found = discover_inputs(mix, base)
    _refuse_own_files([file for _, _, file in found], out, work)
    tokenizer = _given_tokenizer(mix, base)
    with _Locked(out, work), _executor(work, workers, display, ray=ray, address=address) as executor:
        sweep(work)
        inputs = hash_inputs(found, base, executor)
        build_key = _build_key(mix, inputs, tokenizer)
        present = read_commit(out)
        if present is not None and present.get("build_key") == build_key:
            return Built(dataset=present, faults=None)
        if (warning := disk_warning([file for _, _, file in found], work)) is not None:
            display.line(f"warning: {warning}")
        from pipeline.stages import build as build_stages

        assembled = build_stages(
            mix,
            inputs,
            build_key=build_key,
            lock=lock_text(mix, inputs),
            tokenizer=tokenizer,
            executor=executor,
            warn=lambda text: display.line(f"warning: {text}"),
        )
        with display.stage("publish", 1, 0) as progress:
            publish(work, assembled.stage, assembled.key, out, lambda size: progress.add({"bytes": size}))
            progress.task_done()
        prune(work, executor.used)
    dataset, result = read_commit(out), finished(assembled, work, assembled.key)
    if dataset is None or result is None:
        raise BuildError(f"{out}: files changed while they were being published; run the build again")
    return Built(dataset=dataset, faults=result["faults"])


def _executor(work: Path, workers: int | None, display: Display, *, ray: bool, address: str | None) -> Executor:
    if not ray:
        return LocalExecutor(work, workers or os.cpu_count() or 1, display)
    from pipeline.engine.ray import RayExecutor

    return RayExecutor(work, workers, display, address=address)


def default_work(out: str) -> Path:
    """Where intermediate results lie when `--work` does not say."""
    if not is_url(out):
        return Path(out) / WORK
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "millrace" / hashlib.sha256(out.encode()).hexdigest()[:16]


def _refuse_own_files(files: Sequence[SourceFile], out: str, work: Path) -> None:
    """A mix that read its own dataset would be another at each build."""
    for place in [work] if is_url(out) else [Path(out), work]:
        for folder in {Path(os.path.abspath(place)), place.resolve()}:
            for file in files:
                if file.url.startswith(f"{folder}/"):
                    raise ConfigError(
                        f"source {file.source!r} reads {file.path}, which lies in the folder of this build's own "
                        f"results, {folder}; use an --out outside of the source's path, or `exclude` it"
                    )


def _build_key(mix: Mix, inputs: Sequence[Input], tokenizer: str | None) -> str:
    content = [item.identity for item in inputs]
    return digest_of([code_version(), mix.model_dump(mode="json", exclude={"out"}), content, tokenizer])


def _given_tokenizer(mix: Mix, base: Path) -> str | None:
    if mix.tokenizer.file is None:
        return None
    from pipeline.shards.tokenizer import load_given

    return load_given(base / mix.tokenizer.file)


class _Locked:
    """Keeps a second build away from the same dataset and the same work folder, until this process ends."""

    def __init__(self, out: str, work: Path) -> None:
        self._folders = [work] if is_url(out) else [Path(out), work]
        if not is_url(out):
            own = Path(out).resolve()
            if work.resolve() == own or any(work.resolve().is_relative_to(own / name) for name in FOLDERS):
                raise ConfigError(f"--work {work}: is the dataset's own folder, or one of its files'; choose another")
        self._files: list[Any] = []
        for place in self._folders:
            _refuse_foreign(place)

    def __enter__(self) -> None:
        for place in self._folders:
            place.mkdir(parents=True, exist_ok=True)
            file = (place / LOCK).open("w")
            self._files.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildError(
                    f"{place}: another build is working there; wait for its end, or use another --out"
                ) from None

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()


def _refuse_foreign(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise BuildError(f"{place}: is a file, expected a folder; choose another")
    if place.is_dir() and any(place.iterdir()) and not any((place / name).exists() for name in (COMMIT, LOCK)):
        raise BuildError(
            f"{place}: is not empty and not from a build, which would mix its files with yours; choose another folder"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.build",
        description="Build a dataset from a mix manifest: clean, deduplicate, tokenize, shuffle, shard.",
        epilog="example: python -m pipeline.build manifests/mix.yaml --out out/mix tokenizer.vocab_size=8192",
    )
    parser.add_argument("manifest", help="YAML file that names the sources and rules")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="set a manifest's key, as in seed=1")
    parser.add_argument("--out", help="folder or fsspec URL of the dataset (default: the manifest's `out`)")
    parser.add_argument("--workers", type=_worker_count, help="processes (default: one a core)")
    parser.add_argument(
        "--memory",
        type=_memory,
        default=default_memory(),
        help="most that all processes together may take, as in 8GB; fewer workers run where it is too little "
        "(default: three quarters of the machine's)",
    )
    parser.add_argument(
        "--executor", choices=("local", "ray"), default="local", help="what runs the steps (default: processes here)"
    )
    parser.add_argument(
        "--address",
        help="with --executor ray: an existing cluster, as in auto, HOST:6379 or ray://HOST:10001; --work must then be "
        "a folder that all its nodes share (default: Ray starts in-process)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show files, formats and example records; write nothing")
    parser.add_argument("--work", type=Path, help="folder for intermediate results (default: OUT/.work)")
    return parser


def _worker_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text!r}")
    return int(text)


def _memory(text: str) -> int:
    try:
        return int(parse_bytes(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
