"""Build a dataset from a mix manifest, as a command and as a function.

    python -m pipeline.build manifests/mix.yaml --out out/mix
    pipeline.build("manifests/mix.yaml", out="out/mix")

Run again, it does nothing if nothing has changed; after a crash it continues from the finished work.
"""

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from corpus.cli import command, fail, say
from corpus.config import ConfigError
from corpus.storage.location import is_url, local_path, normalized
from corpus.storage.redact import redact, redact_location
from corpus.terminal import counted, printable
from pipeline.callable import make_callable
from pipeline.engine.shortage import shortage
from pipeline.engine.step import BuildError

if TYPE_CHECKING:
    from corpus.contract import DatasetInfo
    from corpus.discover import SourceFile
    from pipeline.engine.executor import Executor
    from pipeline.engine.progress import Display
    from pipeline.ingest.inputs import Input
    from pipeline.manifest import Mix
    from pipeline.records.ledger import ColumnLine, FileLine

LOCK = ".lock"
WORK = ".work"
EPILOG = "example: python -m pipeline.build manifests/mix.yaml --out out/mix tokenizer.vocab_size=8192"
INTERRUPTED = "interrupted; finished work is kept, and the same command continues"

REBUILDS = 3
"""Attempts to publish, each after the damaged steps have run again."""

COMPILATION = 20
"""Seconds that the compilation of all kernels takes; measured on an Intel Xeon."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, repr=False)
class Built:
    """A built dataset."""

    out: str
    """Folder or fsspec URL of the dataset."""
    work: Path
    """Folder of the intermediate results."""
    dataset: "DatasetInfo"
    """Content of `dataset.json`."""
    faults: "tuple[FileLine, ...]"
    """Input files that were not read to their end."""
    columns: "tuple[ColumnLine, ...]"
    """Columns of the sources that are in no pair."""
    is_new: bool
    """False if the dataset was there already, and no input has changed."""
    checked: str = ""
    """How the files of a dataset that was there already were checked."""
    vocab_size: int | None = None
    """Vocabulary that the manifest asks for; None: its tokenizer is a given file, or nothing was built."""

    def __repr__(self) -> str:
        """A line for each source: rows, pairs, kept pairs, tokens."""
        head = ("source", "rows", "pairs", "kept", "tokens")
        lines = [
            (name, *(f"{number:,}" for number in (count.rows, count.pairs, count.kept, count.tokens)))
            for name, count in self.dataset.counts.items()
        ]
        widths = [max(map(len, cells)) for cells in zip(head, *lines, strict=True)]
        table = "\n".join(
            "  ".join([printable(line[0]).ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in (head, *lines)
        )
        return f"{printable(redact_location(self.out))}: {counted(self.dataset.samples, 'sample')}\n{table}"


def build(
    manifest: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    workers: int | None = None,
    memory: int | str | None = None,
    work: str | Path | None = None,
    executor: Literal["local", "ray"] = "local",
    address: str | None = None,
    display: "Display | None" = None,
) -> Built:
    """Build a dataset, unless it is there already.

    Parameters
    ----------
    manifest
        YAML file that names the sources and rules.
    overrides
        `key=value` strings that set keys of the manifest, as in "seed=1".
    out
        Folder or fsspec URL of the dataset; by default the manifest's `out`.
    workers
        Number of processes, or of steps at once on a cluster; by default one per core, or per CPU of the cluster.
    memory
        Memory that all processes together may take, in bytes or as in "8GB"; fewer workers run where it is too little.
        By default three quarters of the machine's memory. Ignored with an `address`.
    work
        Folder for intermediate results, of this `out` alone; see `default_work`.
    executor
        "local" runs steps in processes on this machine, "ray" on a Ray cluster.
    address
        Address of an existing Ray cluster, whose nodes must share `work`; by default Ray starts in-process.
    display
        Where progress is shown; by default on standard error.

    Returns
    -------
    Built

    Raises
    ------
    corpus.config.ConfigError
        The manifest, or an input that it names, cannot be used.
    BuildError
        The build failed; finished work is kept, and the same call continues.
    OSError
        A store cannot be reached.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> import pipeline
    >>> folder = Path(tempfile.mkdtemp())
    >>> rows = [{"instruction": f"Spell {n}.", "response": " ".join(str(n**9))} for n in range(50)]
    >>> _ = (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    >>> mix = "{name: counts, sources: [{name: rows, path: rows.jsonl}], tokenizer: {vocab_size: 300}}"
    >>> _ = (folder / "mix.yaml").write_text(mix)
    >>> built = pipeline.build(folder / "mix.yaml", out=folder / "out", workers=1)
    >>> built.dataset.samples
    50
    """
    from pipeline.engine.progress import Display
    from pipeline.manifest import load

    if address is not None and executor != "ray":
        raise ConfigError('address is that of a Ray cluster; it needs executor="ray"')
    mix = load(manifest, overrides)
    out = str(mix.out if out is None else out)
    if not out:
        raise ConfigError("--out is empty; expected a folder or URL")
    out = normalized(out)
    if address is None:
        workers = _affordable(workers, memory)
    return _build(
        mix,
        Path(manifest).resolve().parent,
        out=out,
        work=default_work(out) if work is None else Path(work),
        workers=workers,
        display=display or Display(),
        executor=executor,
        address=address,
    )


def _affordable(workers: int | None, memory: int | str | None) -> int:
    """Return as many workers as asked for, or one per core, as far as the memory allows."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from pipeline.engine.budget import affordable_workers, default_memory

    try:
        limit = default_memory() if memory is None else TypeAdapter(ByteSize).validate_python(memory)
    except ValidationError:
        raise ConfigError(f"--memory is {memory!r}; expected bytes, as in 8000000000, 8GB or 8GiB") from None
    wanted = workers or os.cpu_count() or 1
    number = affordable_workers(wanted, limit)
    if number < wanted:
        log.info("%.1f GB of memory is enough for %d of %d workers", limit / 1e9, number, wanted)
    return number


def _build(
    mix: "Mix",
    base: Path,
    *,
    out: str,
    work: Path,
    workers: int | None,
    display: "Display",
    executor: str,
    address: str | None,
) -> Built:
    from corpus.storage.lease import acquire
    from corpus.storage.retry import INTERACTIVE_ATTEMPTS
    from corpus.storage.store import Store
    from pipeline.dataset.inventory import take_inventory
    from pipeline.dataset.publish import DamagedError, find_published, publish, read_commit
    from pipeline.engine.step import prune, sweep
    from pipeline.ingest.content import discard_archives
    from pipeline.ingest.inputs import discover_inputs, disk_warning, doubts, hash_inputs, lock_text

    tokenizer = _given_tokenizer(mix, base)
    found = discover_inputs(mix, base)
    files = [file for _, _, file in found]
    _refuse_own_files(files, out, work)
    _check_folders(out, work)
    take_inventory(Store(out, attempts=INTERACTIVE_ATTEMPTS), work, out)
    lease = None
    with contextlib.ExitStack() as resources:
        resources.enter_context(_locked(out, work))
        runner = resources.enter_context(_executor(executor, work, workers, display, address))
        sweep(work)
        inputs = hash_inputs(found, base, runner)
        build_key = _build_key(mix, inputs, tokenizer)
        present = find_published(out, work, build_key)
        if present is not None:
            has = counted(present.unchanged, "file has", "files have")
            parts = (
                (present.unchanged, f"{has} the size and time of change, or version, of the recorded hash"),
                (present.hashed, f"{counted(present.hashed, 'file')} read again, with the recorded hash"),
            )
            checked = "; ".join(part for number, part in parts if number)
            return Built(
                out=out, work=work, dataset=present.dataset, faults=(), columns=(), is_new=False, checked=checked
            )
        if (warning := disk_warning(files, work)) is not None:
            log.warning(warning)
        for doubt in doubts(files):
            log.warning(doubt)
        from pipeline.engine.kernels import are_compiled
        from pipeline.stages import run_stages

        if not are_compiled():
            log.info("compiling kernels, first run only: about %d s on two idle cores", COMPILATION)
            if executor == "local":
                from pipeline.kernels import kernels_of

                runner.map(kernels_of(mix, uuid.uuid4().hex))
        if is_url(out):
            lease = resources.enter_context(acquire(Store(out), f"the build of {mix.name}"))
        lock = lock_text(mix, inputs)
        for attempt in range(1, REBUILDS + 1):
            step = run_stages(mix, inputs, build_key=build_key, lock=lock, tokenizer=tokenizer, executor=runner)
            assembled = step.result(work, step.key)
            if assembled is None:
                raise BuildError(f"{step.folder(work, step.key)}: was deleted during the build; run the build again")
            try:
                with display.stage("publish", 1, 0) as progress:
                    publish(work, assembled.places, out, lambda size: progress.add({"bytes": size}), lease)
                    progress.task_done()
            except DamagedError as error:
                if attempt == REBUILDS:
                    raise BuildError(
                        f"{error}; {attempt} attempts failed: delete {work}, check the disk, and run the build again"
                    ) from None
                log.warning("%s; the steps that wrote it run again", error)
            else:
                break
        prune(work, runner.used)
        discard_archives(work)
        dataset = read_commit(out)
    if dataset is None or assembled is None:
        raise BuildError(f"{redact_location(out)}: files changed while they were being published; run the build again")
    return Built(
        out=out,
        work=work,
        dataset=dataset,
        faults=assembled.faults,
        columns=assembled.columns,
        is_new=True,
        vocab_size=None if mix.tokenizer.file else mix.tokenizer.vocab_size,
    )


def _executor(kind: str, work: Path, workers: int | None, display: "Display", address: str | None) -> "Executor":
    if kind == "ray":
        from pipeline.engine.ray import RayExecutor

        return RayExecutor(work, workers, display, address=address)
    from pipeline.engine.local import LocalExecutor

    return LocalExecutor(work, workers or os.cpu_count() or 1, display)


def default_work(out: str) -> Path:
    """Return the folder for intermediate results that a build uses by default."""
    if not is_url(out):
        return local_path(out) / WORK
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "millrace" / hashlib.sha256(out.encode()).hexdigest()[:16]


def _refuse_own_files(files: "Sequence[SourceFile]", out: str, work: Path) -> None:
    """Raise if a source reads results of this build: its dataset would differ from one build to the next."""
    for place in _folders(out, work):
        for folder in {Path(os.path.abspath(place)), place.resolve()}:
            for file in files:
                if file.url.startswith(f"{folder}/"):
                    raise ConfigError(
                        f"source {file.source!r} reads {file.path} from the folder of this build's own results, "
                        f"{folder}; use an --out outside of the source's path, or `exclude` it"
                    )


def _refusals(mix: "Mix", base: Path, files: "Sequence[SourceFile]", out: str | None, work: Path | None) -> list[str]:
    """Return why a build would refuse to start, apart from its sources; nothing is written."""
    from corpus.storage.retry import INTERACTIVE_ATTEMPTS
    from corpus.storage.store import Store
    from pipeline.dataset.inventory import take_inventory

    place = str(out or mix.out or "")
    try:
        _given_tokenizer(mix, base)
        if place:
            place = normalized(place)
            folder = work or default_work(place)
            _refuse_own_files(files, place, folder)
            _check_folders(place, folder)
            take_inventory(Store(place, attempts=INTERACTIVE_ATTEMPTS), folder, place)
    except (ConfigError, BuildError, OSError) as error:
        return [redact(str(error))]
    return []


def _folders(out: str, work: Path) -> list[Path]:
    """Local folders that a build writes to."""
    return [work] if is_url(out) else [Path(out), work]


def _build_key(mix: "Mix", inputs: "Sequence[Input]", tokenizer: str | None) -> str:
    from pipeline.engine.keys import code_version, digest_of

    content = [item.identity for item in inputs]
    return digest_of([code_version(), mix.model_dump(mode="json", exclude={"out"}), content, tokenizer])


def _given_tokenizer(mix: "Mix", base: Path) -> str | None:
    if mix.tokenizer.file is None:
        return None
    from pipeline.shards.tokenizer import load_given

    return load_given(base / mix.tokenizer.file)


@contextlib.contextmanager
def _locked(out: str, work: Path) -> Iterator[None]:
    """Keep other builds away from this dataset and this work folder, until this process ends."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as locks:
        for folder in _folders(out, work):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                locks.enter_context(FileLock(folder / LOCK, blocking=False))
            except Timeout:
                raise BuildError(
                    f"{folder}: another build is working there; wait until it ends, or use another --out"
                ) from None
        yield


def _check_folders(out: str, work: Path) -> None:
    """Raise if the work folder is the dataset's, or holds files that are not from a build."""
    from corpus.contract import FOLDERS

    if out.startswith("hf://"):
        shown = redact_location(out)
        raise ConfigError(f"--out is {shown}; expected a folder, which --push USER/NAME uploads to the Hub")
    if not is_url(out):
        dataset = Path(out).resolve()
        if work.resolve() == dataset or any(work.resolve().is_relative_to(dataset / name) for name in FOLDERS):
            raise ConfigError(f"--work {work}: is the dataset's own folder or inside of its files; choose another")
    for folder in _folders(out, work):
        if folder.exists() and not folder.is_dir():
            raise BuildError(f"{folder}: is a file, expected a folder; choose another")
    if work.is_dir() and any(work.iterdir()) and not (work / LOCK).exists():
        raise BuildError(
            f"{work}: is not empty and not the work folder of a build, which deletes files in it; choose another --work"
        )


@command("python -m pipeline.build", errors=(BuildError, OSError), epilog=EPILOG, interrupted=INTERRUPTED)
def main(
    manifest: Annotated[Path, typer.Argument(help="YAML file that names the sources and rules")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value]...", help="set a key of the manifest, as in seed=1")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="folder or fsspec URL of the dataset (default: the manifest's `out`)")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one per core)")] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="memory that all processes together may take, as in 8GB; fewer workers run where it is too little "
            "(default: three quarters of the machine's)"
        ),
    ] = None,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="what runs the steps: processes on this machine, or Ray")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="with --executor ray: an existing cluster, as in auto, HOST:6379 or ray://HOST:10001; --work must "
            "then be a folder that all its nodes share (default: Ray starts in-process)"
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="show what would be read and dropped, what it takes, and whether a build would stop (exit code 1); "
            "write nothing",
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="with --dry-run: every source's files, examples, columns, and all rules")
    ] = False,
    source: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="with --dry-run: such details of this source only")
    ] = None,
    work: Annotated[Path | None, typer.Option(help="folder for intermediate results (default: OUT/.work)")] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME",
            help="also upload the dataset to this repository of the Hugging Face Hub, which is private if it is new",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON")] = False,
) -> int:
    """Build a dataset from a mix manifest: clean, deduplicate, tokenize, shuffle, shard."""
    if address is not None and executor != "ray":
        raise typer.BadParameter("--address is that of a Ray cluster; it needs --executor ray")
    if (verbose or source) and not dry_run:
        raise typer.BadParameter("--verbose and --source are for --dry-run")
    if as_json and dry_run:
        raise typer.BadParameter("--json is for a build; a dry run has its exit code")
    if push is not None and dry_run:
        raise typer.BadParameter("--push is for a build; a dry run has nothing to upload")
    from pipeline.manifest import load

    if dry_run:
        from pipeline.report.preview import preview

        mix, base = load(manifest, overrides or ()), manifest.resolve().parent
        problems = preview(
            mix,
            base,
            workers=_affordable(workers, memory),
            verbose=verbose,
            only=source or (),
            refused=lambda files: _refusals(mix, base, files, out, work),
        )
        return 1 if problems else 0
    if push is not None:
        from pipeline.dataset.push import check_repository

        check_repository(push)
        place = out or load(manifest, overrides or ()).out
        if is_url(place):
            raise typer.BadParameter(f"--push needs a dataset in a folder, and --out is {redact_location(place)}")
    begin = time.monotonic()
    try:
        built = build(
            manifest,
            overrides=overrides or (),
            out=out,
            workers=workers,
            memory=memory,
            work=work,
            executor=executor,
            address=address,
        )
    except OSError as error:
        return fail(shortage(error, out or "the dataset") or error)
    seconds = time.monotonic() - begin
    if not as_json:
        _show(built, seconds)
    pushed = None if push is None else _push(built, push)
    if as_json:
        print(json.dumps(_summary(built, seconds) | ({} if push is None else {"pushed": pushed})))
    elif pushed is not None:
        say(f"uploaded: {pushed}")
    return 0


def _show(built: Built, seconds: float) -> None:
    if not built.is_new:
        say(f"nothing to do: {built.out} is this manifest's dataset, and no input has changed ({built.checked})")
        return
    from pipeline.report.summary import show

    show(
        built.dataset,
        [asdict(line) for line in built.faults],
        built.columns,
        out=redact_location(built.out),
        work=built.work,
        seconds=seconds,
        vocab_size=built.vocab_size,
    )


def _push(built: Built, repository: str) -> str:
    from pipeline.dataset.push import push

    log.info("uploading %s files to %s", f"{len(built.dataset.files) + 1:,}", repository)
    return push(local_path(built.out), repository)


def _summary(built: Built, seconds: float) -> dict[str, Any]:
    """Return a build's result for machines: dataset.json without its list of files, and what the summary prints."""
    return {
        "out": redact_location(built.out),
        "work": str(built.work),
        "is_new": built.is_new,
        "seconds": round(seconds, 3),
        "dataset": built.dataset.model_dump(mode="json", exclude={"files"}),
        "faults": [asdict(line) for line in built.faults],
        "unused_columns": [asdict(line) for line in built.columns],
    }


make_callable(__name__, "pipeline.build:build")

if __name__ == "__main__":
    sys.exit(main())
