"""The readers of foreign bytes, each with the inputs it is given and the ends it may come to."""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import xxhash
from hypothesis import strategies as st

from corpus.config import ConfigError
from corpus.contract import COMMIT, DatasetError
from corpus.discover import discover
from corpus.pairs import read_columns, read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write
from tests.corpus.test_read_columns import expanded
from tests.fuzz.mutations import broken, broken_json

TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "What is 1 plus 1?", 'a "b", c', "x\ty\nz", "é 日本 😀", "{", "[1, 2]", "null", "- a: b", "\\"]
    ),
    st.text(max_size=12),
)
COLUMNS = (
    "instruction",
    "response",
    "prompt",
    "completion",
    "question",
    "answer",
    "system",
    "label",
    "messages",
    "text",
)
ROWS = st.lists(st.dictionaries(st.sampled_from(COLUMNS), TEXTS, min_size=1, max_size=4), min_size=1, max_size=6)
CHAT = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]), "content": TEXTS}), max_size=4
)
DEEP_ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"messages": CHAT}),
        st.fixed_dictionaries({"chosen": CHAT, "rejected": CHAT}),
        st.fixed_dictionaries(
            {"instruction": st.one_of(TEXTS, st.none(), st.integers()), "output": st.lists(TEXTS, max_size=3)}
        ),
    ),
    min_size=1,
    max_size=4,
)
NESTED = frozenset({"jsonl", "json array", "json object", "yaml", "parquet", "arrow file", "arrow stream"})
"""Formats whose rows may have lists and objects in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader of foreign bytes."""

    inputs: Callable[[], st.SearchStrategy[Any]]
    """Makes the strategy of its inputs."""
    check: Callable[[Any], None]
    """Reads one input; raises for every end that is not allowed."""
    examples: int
    """Inputs in CI."""


def _even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the same columns, for writers of tables."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]


def _written(name: str, rows: list[dict[str, Any]]) -> bytes:
    try:
        return write.FORMATS[name][1](rows if name in ("jsonl", "json array") else _even(rows))
    except Exception:  # a table has one type for each column
        return write.FORMATS[name][1](_even([{"instruction": str(row)} for row in rows]))


def _files(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    rows = st.one_of(ROWS, DEEP_ROWS) if name in NESTED else ROWS
    content = broken(rows.map(lambda rows: _written(name, rows)))
    compressed = st.sampled_from(sorted(write.COMPRESSIONS))
    plain = st.builds(
        lambda content, suffix: (f"{write.FORMATS[name][0]}{suffix}", write.COMPRESSIONS[suffix](content)),
        content,
        compressed,
    )
    outside = st.builds(
        lambda rows, suffix: write.COMPRESSIONS[suffix](_written(name, rows)), rows, st.sampled_from([".gz", ".zst"])
    )
    return st.one_of(plain, broken(outside).map(lambda content: (f"{write.FORMATS[name][0]}.gz", content)))


def _archives() -> st.SearchStrategy[tuple[str, bytes]]:
    import io
    import zipfile

    def zipped(members: dict[str, bytes]) -> bytes:
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return sink.getvalue()

    names = st.sampled_from(
        ["a.jsonl", "b/c.csv", "../out.jsonl", "/abs.jsonl", "d.parquet", "e.jsonl.gz", "f.zip", "x" * 90]
    )
    members = st.dictionaries(names, st.one_of(ROWS.map(write.jsonl), st.binary(max_size=30)), min_size=1, max_size=4)
    tarred = members.map(lambda found: write.tar(list(found.items())))
    return st.one_of(
        broken(members.map(zipped)).map(lambda content: ("zip", content)),
        broken(tarred).map(lambda content: ("tar", content)),
        broken(tarred).map(lambda content: ("tar.gz", write.COMPRESSIONS[".gz"](content))),
    )


def read_file(file: tuple[str, bytes]) -> None:
    """Read a file as a source: every row has its place, every text is text, and the file has one end.

    Rows that are read as columns are the same.
    """
    suffix, content = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in" / f"file.{suffix}"
        path.parent.mkdir()
        path.write_bytes(content)
        spec = SourceSpec(name="s", path=str(path.parent))
        for one in discover(spec, Path(folder)):
            items = list(read_pairs(spec, one))
            _check_items(items)
            assert list(expanded(read_columns(spec, one))) == items
        assert sorted(Path(folder).iterdir()) == [path.parent], "something was written outside"


def _check_items(items: list[Pair | Rejected | FileEnd]) -> None:
    *before, end = items
    assert isinstance(end, FileEnd)
    rows = []
    for item in before:
        assert not isinstance(item, FileEnd)
        rows.append(item.row)
        texts = (item.instruction, item.response, item.task) if isinstance(item, Pair) else (item.detail,)
        for text in texts:
            (text or "").encode()
    assert rows == sorted(rows)
    assert set(rows) <= set(range(end.rows))
    end.detail.encode()


# --- Datasets ---------------------------------------------------------------------------------------------------------


@cache
def _dataset() -> dict[str, bytes]:
    """The files of a dataset, by name."""
    from tests.trainer.fixtures import write_dataset

    with tempfile.TemporaryDirectory() as folder:
        data = write_dataset(Path(folder) / "data", samples=12, longest=9, shard_bytes=300)
        return {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}


def _datasets() -> st.SearchStrategy[dict[str, bytes]]:
    """Datasets with one broken file, whose size and hash dataset.json and index.json state as they are."""
    files = _dataset()

    def with_broken(name: str) -> st.SearchStrategy[dict[str, bytes]]:
        content = files[name]
        new = broken_json(content) if name.endswith(".json") else broken(st.just(content))
        return new.map(lambda content: _sealed({**files, name: content}, name))

    return st.one_of([with_broken(name) for name in sorted(files)])


def _sealed(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    if name == COMMIT:
        return files
    if name.endswith(".mds"):
        index = json.loads(files["shards/index.json"])
        for shard in index["shards"]:
            raw = shard["raw_data"]
            content = files[f"shards/{raw['basename']}"]
            raw |= {"bytes": len(content), "hashes": {"xxh64": xxhash.xxh64(content).hexdigest()}}
        files = {**files, "shards/index.json": json.dumps(index).encode()}
    about = json.loads(files[COMMIT])
    for path in about["files"]:
        content = files[path]
        about["files"][path] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return {**files, COMMIT: json.dumps(about).encode()}


def read_dataset(files: Mapping[str, bytes]) -> None:
    """Open a dataset, plan its epochs, read all samples and held-out questions; or get a `DatasetError`."""
    from trainer.data.dataset import open_dataset
    from trainer.data.draw import PlanError
    from trainer.data.plan import Plan, PlanInputs, fit_lengths
    from trainer.data.shards import ShardStore
    from trainer.evaluate import read_questions

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        try:
            dataset = open_dataset(str(place), Path(folder) / "cache")
            store = ShardStore(dataset)
            for index in range(dataset.samples):
                store.read(index)
            lengths = fit_lengths(dataset.lengths, row_tokens=64, truncate=False)
            inputs = PlanInputs(fingerprint=dataset.fingerprint, seed=0, batch_tokens=64, row_tokens=64, truncate=False)
            Plan(inputs, dataset.strata, lengths).chunk(0, 0)
            read_questions(dataset, dataset.tokenizer(), rows_per_family=4)
        except (DatasetError, PlanError):
            pass


# --- Checkpoints ------------------------------------------------------------------------------------------------------


@cache
def _run() -> tuple[Path, Path]:
    """Folder of a checkpoint, and one of its export; both stay until the process ends."""
    import atexit

    from model.export import main as export
    from tests.trainer.fixtures import write_dataset, write_manifest
    from trainer.train import main as train

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    manifest = write_manifest(folder, write_dataset(folder / "data", samples=40), epochs=None, steps=2)
    assert train([str(manifest)]) == 0
    (step,) = (folder / "run/checkpoints").glob("step-*")
    assert export([str(step), str(folder / "hf")]) == 0
    return step, folder / "hf"


def _folders(number: int) -> st.SearchStrategy[tuple[int, str, bytes]]:
    """Broken files of the checkpoint (0) or of the export (1)."""
    folder = _run()[number]

    def of(name: str) -> st.SearchStrategy[tuple[int, str, bytes]]:
        content = (folder / name).read_bytes()
        new = broken_json(content) if name.endswith(".json") else broken(st.just(content))
        return new.map(lambda content: (number, name, content))

    names = [path.name for path in sorted(folder.iterdir()) if path.suffix not in (".md", ".py", ".jinja", ".lock")]
    return st.one_of([of(name) for name in names])


def read_model(changed: tuple[int, str, bytes]) -> None:
    """Load a checkpoint or an export with one broken file, and its tokenizer; or get a `CheckpointError`."""
    import model
    from model.loading import CheckpointError
    from trainer.checkpointing.checkpoint import file_records, open_checkpoint

    number, name, content = changed
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / _run()[number].name
        shutil.copytree(_run()[number], folder)
        (folder / name).write_bytes(content)
        if number == 0 and name != "COMMIT.json":
            commit = json.loads((folder / "COMMIT.json").read_text())
            commit["files"] = file_records([path for path in folder.iterdir() if path.name != "COMMIT.json"])
            (folder / "COMMIT.json").write_text(json.dumps(commit))
        for read in (model.load, *((open_checkpoint,) if number == 0 else ())):
            try:
                found = read(folder)
                if read is model.load:
                    found.tokenizer.encode("What?")
                else:
                    found.restore_random_state()
            except CheckpointError:
                pass


# --- Manifests --------------------------------------------------------------------------------------------------------


def _manifests() -> st.SearchStrategy[bytes]:
    mix = b"name: m\nseed: 1\nsources:\n  - {name: a, path: a.jsonl, map: {instruction: '{x}'}}\nshards: {size: 1MB}\n"
    run = (
        b"data: out/mix\nmodel: {size: tiny}\nbatch: {tokens: 64, row_tokens: 32}\noptimizer: {lr: 1.0e-3}\nsteps: 5\n"
    )
    return broken(st.sampled_from([mix, run]))


def read_manifest(content: bytes) -> None:
    """Read a mix and a training manifest; or get a `ConfigError`."""
    from corpus.config import load_manifest
    from pipeline.manifest import load
    from trainer.config import TrainConfig

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.yaml"
        path.write_bytes(content)
        for read in (load, lambda path: load_manifest(path, TrainConfig)):
            with contextlib.suppress(ConfigError):
                read(path)


READERS: Mapping[str, Reader] = {
    **{
        name.replace(" ", "-"): Reader(inputs=lambda name=name: _files(name), check=read_file, examples=40)
        for name in write.FORMATS
    },
    "archive": Reader(inputs=_archives, check=read_file, examples=60),
    "dataset": Reader(inputs=_datasets, check=read_dataset, examples=150),
    "checkpoint": Reader(inputs=lambda: _folders(0), check=read_model, examples=40),
    "exported": Reader(inputs=lambda: _folders(1), check=read_model, examples=30),
    "manifest": Reader(inputs=_manifests, check=read_manifest, examples=60),
}
"""By name."""
