"""No secret of a URL or variable is written or printed: every command, with secrets in every place they can stand."""

import functools
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
import yaml

import corpus.inspect
import model.export
import pipeline.build
import pipeline.contamination
import pipeline.explain
import pipeline.verify
import trainer.benchmark
import trainer.checkpoints
import trainer.diagnose
import trainer.generate
import trainer.train
from corpus.cli import Main
from tests.captured import run_captured
from tests.pipeline.conftest import texts, write_jsonl
from tests.trainer.fixtures import write_manifest

pytestmark = pytest.mark.slow  # builds a dataset and trains a model

MARK = "QXZ"
"""In every secret, and nowhere else."""
SIGNED = f"X-Amz-Signature={MARK}/sig%2Fn==&X-Amz-Credential={MARK}%40id"
LOGIN = f"{MARK}key:{MARK}%2Fpa%40ss"
RAW_LOGIN = f"{MARK}key:{MARK}pa/{MARK}ss@{MARK}word?{MARK}more#{MARK}last"
STORE = f"memory://{LOGIN}@bucket"


class Quiet(SimpleHTTPRequestHandler):
    """Serves the files of a folder, whatever query follows their names."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of three files of rows."""
    folder = tmp_path_factory.mktemp("web")
    rows = [{"instruction": a, "response": b} for a, b in texts(1, 60)]
    write_jsonl(folder / "a.jsonl", [*rows, rows[0], '{"instruction": "broken', {"instruction": "x"}])
    write_jsonl(folder / "b.jsonl", [{"instruction": a, "response": b} for a, b in texts(2, 60)])
    write_jsonl(folder / "held.jsonl", [{"question": a, "answer": b[:20]} for a, b in texts(3, 6)])
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(b'{"instruction": "One more?", "response": "Yes, one."}\n')[:-9])
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def place(web: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a manifest of a mix, and the folder of all that the commands write."""
    folder = tmp_path_factory.mktemp("secrets")
    sources = [
        {"name": "a", "path": f"http://{LOGIN}@{web}/a.jsonl?{SIGNED}"},
        {"name": "b", "path": [f"simplecache::http://{web}/b.jsonl?{SIGNED}"]},
        {
            "name": "c",
            "path": f"http://{LOGIN}@{web}/c.jsonl.gz?{SIGNED}#{MARK}",
            "guard": {"unreadable": 1, "truncated": 1},
        },
        {"name": "held", "path": f"http://{web}/held.jsonl?token={MARK}", "role": "eval"},
    ]
    mix = {"name": "secret", "sources": sources, "guard": {"allow_empty": ["c"]}, "tokenizer": {"vocab_size": 300}}
    (folder / "mix.yaml").write_text(yaml.safe_dump(mix, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN"):
            patch.setenv(name, f"{MARK}/{name}")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        yield folder


def run(main: Main, *arguments: object, code: int = 0) -> str:
    """Run a command, check what it prints, and return that."""
    found, text = run_captured(main, *arguments)
    assert MARK not in text
    assert found == code, text
    assert "Traceback" not in text
    return text


def files_with_secrets(folder: Path) -> list[str]:
    """The files below a folder, and objects of the store in memory, that contain a secret."""
    contents = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    contents |= {f"memory:{path}": file.getvalue() for path, file in fsspec.filesystem("memory").store.items()}
    contents.pop(str(folder / "mix.yaml"), None)
    contents.pop(str(folder / "train.yaml"), None)
    for name, content in list(contents.items()):
        if name.endswith(".parquet"):
            table = pq.read_table(fsspec.implementations.memory.MemoryFile(None, None, content))
            contents[name] = content + json.dumps(table.to_pylist(), default=str).encode()
        elif content[:2] == b"\x1f\x8b":
            contents[name] = gzip.decompress(content)
    assert len(contents) > 20
    return [name.replace(LOGIN, "…") for name, content in contents.items() if MARK.encode() in content]


def test_nothing_that_is_written_or_printed_has_a_secret(place: Path, web: str) -> None:
    run(pipeline.build.main, "mix.yaml", "--dry-run")
    run(pipeline.build.main, "mix.yaml", "--out", f"{STORE}/mix", "--workers", 1)
    run(pipeline.build.main, "mix.yaml", "--out", f"{STORE}/mix", "--workers", 1)
    fsspec.filesystem("memory").get(f"/{LOGIN}@bucket/mix/", "local/", recursive=True)
    assert files_with_secrets(place) == []

    for out in (f"{STORE}/mix", "local"):
        run(corpus.inspect.main, out)
        run(corpus.inspect.main, out, "--search", "broken", "--dropped")
        run(pipeline.explain.main, out, "--file", "a.jsonl", "--row", 60)
        run(pipeline.verify.main, out)
    (place / "scores.csv").write_text("item,score\n0,1\n1,0\n2,1\n3,0\n")
    held = f"http://{LOGIN}@{web}/held.jsonl?token={MARK}"
    run(pipeline.contamination.main, f"{STORE}/mix", "--eval", held, "--scores", "scores.csv")

    changes = {"steps": 2, "epochs": None, "checkpoint": {"every": 1, "path": f"{STORE}/run"}}
    changes["batch"] = {"tokens": 512, "row_tokens": 512, "truncate": True}
    manifest = write_manifest(place, f"{STORE}/mix", eval={"rows_per_family": 1}, **changes)
    run(trainer.train.main, manifest, "--dry-run")
    run(trainer.train.main, manifest)
    run(trainer.train.main, manifest, "steps=3", "out=again")
    run(trainer.train.main, manifest, "out=second", f"init={STORE}/run", f"checkpoint.path={STORE}/second")
    run(trainer.train.main, manifest, "out=second", f"checkpoint.path={STORE}/other", code=2)
    run(model.export.main, f"{STORE}/run", "hf")
    run(trainer.checkpoints.main, f"{STORE}/run")
    run(trainer.generate.main, f"{STORE}/run", "Say 1.", "--max-new-tokens", 2)
    write_jsonl(place / "questions.jsonl", [{"question": "1", "answer": "1"}])
    (place / "task.yaml").write_text("{name: words, file: questions.jsonl, type: exact, max_new_tokens: 2}")
    run(trainer.benchmark.main, f"{STORE}/run", "--task-file", "task.yaml", "--out", "scores", "--dataset", "local")
    run(trainer.diagnose.main, f"{STORE}/run", f"{STORE}/mix", "--rows-per-family", 1)
    assert files_with_secrets(place) == []


LOCATIONS = [
    f"{scheme}://{login}@bucket.invalid/place?{SIGNED}#{MARK}end"
    for scheme, login in (("s3", RAW_LOGIN), ("https", LOGIN), ("simplecache::https", RAW_LOGIN), ("foo", LOGIN))
]
LOCATIONS += [f"hf://{RAW_LOGIN}@bucket/a b", f"gs://{LOGIN}@bucket/a"]


@pytest.mark.parametrize("location", LOCATIONS)
def test_no_message_about_a_place_that_cannot_be_used_has_a_secret(
    place: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("corpus.storage.retry.PAUSE", 0.001)
    local = write_manifest(place, "local", batch={"tokens": 512, "row_tokens": 512, "truncate": True})
    commands: list[tuple[Main, list[object]]] = [
        (pipeline.build.main, ["mix.yaml", "--dry-run", f"sources.a.path={json.dumps(location)}"]),
        (pipeline.build.main, ["mix.yaml", "--out", location]),
        (pipeline.build.main, [location]),
        (pipeline.build.main, ["mix.yaml", "--dry-run", f"tokenizer.file={json.dumps(location)}"]),
        (pipeline.build.main, ["mix.yaml", "--dry-run", f"root={json.dumps(location)}", "sources.a.path=x.jsonl"]),
        (corpus.inspect.main, [location]),
        (pipeline.explain.main, [location, "12"]),
        (pipeline.verify.main, [location]),
        (pipeline.contamination.main, [location, "--eval", location, "--scores", location]),
        (pipeline.contamination.main, ["local", "--eval", location, "--scores", location]),
        (trainer.train.main, [local, f"data={json.dumps(location)}"]),
        (trainer.train.main, [local, f"checkpoint.path={json.dumps(location)}", "storage_timeout=0.1"]),
        (trainer.train.main, [local, f"init={json.dumps(location)}", "out=initial"]),
        (trainer.train.main, [local, f"out={json.dumps(location)}"]),
        (trainer.train.main, [location]),
        (trainer.checkpoints.main, [location]),
        (trainer.generate.main, [location, "x"]),
        (trainer.diagnose.main, [location, "local"]),
        (trainer.benchmark.main, [location, "--task-file", location]),
        (model.export.main, [location, "exported"]),
    ]
    leaks = []
    for main, arguments in commands:
        code, text = run_captured(main, *arguments)
        if MARK in text or code == 0 or "Traceback" in text:
            leaks.append((main.__module__, [str(a)[:30] for a in arguments], code, text[-600:]))
    assert leaks == []


@pytest.mark.parametrize(
    "value",
    [[f"s3://{RAW_LOGIN}@bucket"], {"url": f"s3://{RAW_LOGIN}@bucket"}, {"password": MARK}, {f"s3://{LOGIN}@b": 1}],
)
def test_values_of_the_wrong_type_are_not_quoted_with_their_secrets(place: Path, value: object) -> None:
    mix = yaml.safe_load((place / "mix.yaml").read_text())
    for key in ("name", "license", "out", "root", "seed", "tokenizer", "samples", "sources", "password"):
        (place / "wrong.yaml").write_text(yaml.safe_dump(mix | {key: value}))
        code, text = run_captured(pipeline.build.main, "wrong.yaml", "--dry-run")
        assert code != 0
        assert MARK not in text
    manifest = json.loads(write_manifest(place, "local").read_text())
    for key in ("data", "out", "init", "model", "batch", "optimizer", "checkpoint", "eval", "steps", "device"):
        (place / "wrong.yaml").write_text(yaml.safe_dump(manifest | {key: value}))
        code, text = run_captured(trainer.train.main, "wrong.yaml", "--dry-run")
        assert code != 0
        assert MARK not in text
