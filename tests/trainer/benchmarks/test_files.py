"""Claims about where the files of questions may be: folders, S3, the Hugging Face Hub, other URLs."""

import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub import serve_hub, use_hub
from tests.trainer.benchmarks.fixtures import write_rows
from trainer.benchmarks.catalog import find
from trainer.benchmarks.contamination import read_findings
from trainer.benchmarks.files import Folder, TaskDataError, TaskFiles
from trainer.benchmarks.run import prepare


def upload(folder: Path, url: str) -> None:
    from corpus.storage.store import Store

    store = Store(url)
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(folder).as_posix(), path.read_bytes())


@pytest.fixture(scope="module")
def eval_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GSM8K as JSON lines, MMLU as CSV files of two subjects, ARC as Parquet."""
    folder = tmp_path_factory.mktemp("eval_sets")
    write_rows(folder / "gsm8k/test.jsonl", [{"question": f"Q{i}?", "answer": f"#### {i}"} for i in range(3)])
    for split, count in (("dev", 5), ("test", 2)):
        for subject in ("anatomy", "botany"):
            path = folder / f"mmlu/{split}/{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{subject} {i}?,a,b,c,d,B\n" for i in range(count)))
    row = {"question": "Why?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}
    for split in ("test", "validation"):
        path = folder / f"ARC-Challenge/{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row] * 25), path)
    return folder


TASKS = ("gsm8k", "mmlu", "arc_c")


@pytest.fixture
def hub(eval_sets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Location of the files on a stand-in of the Hub."""
    hub = pytest.importorskip("huggingface_hub")
    files = {p.relative_to(eval_sets).as_posix(): p.read_bytes() for p in eval_sets.rglob("*") if p.is_file()}
    with serve_hub(**{"me/sets": files}) as served:
        use_hub(served, monkeypatch)
        hub.HfFileSystem.clear_instance_cache()
        yield "hf://datasets/me/sets"
        hub.HfFileSystem.clear_instance_cache()


def check_same(eval_sets: Path, location: str) -> None:
    """Questions and hashes at a location are those of the folder."""
    for name in TASKS:
        here, there = (prepare(find(name), folder=folder) for folder in (eval_sets, location))
        assert here.settings() == there.settings()
        assert [q.prompt for q in here.questions] == [q.prompt for q in there.questions]


def test_questions_on_the_hub_are_those_of_the_folder(eval_sets: Path, hub: str) -> None:
    check_same(eval_sets, hub)
    check_same(eval_sets, f"{hub}@main")


def test_questions_on_s3_are_those_of_the_folder(eval_sets: Path, bucket: str) -> None:
    upload(eval_sets, f"{bucket}/sets")
    check_same(eval_sets, f"{bucket}/sets")
    named = {"test": f"{bucket}/sets/gsm8k/test.jsonl"}
    assert prepare(find("gsm8k"), folder=None, named=named).available == 3


@pytest.mark.parametrize("name", ["gsm8k/test.jsonl", "gsm8k", "gsm8k/te*.jsonl", "*/test.jsonl"])
def test_a_split_is_named_by_a_file_a_folder_or_a_glob_here_or_at_a_url(eval_sets: Path, hub: str, name: str) -> None:
    for place in (eval_sets, hub):
        files = TaskFiles(task="gsm8k", folder=None, named={"test": f"{place}/{name}"})
        assert [q.text for q in find("gsm8k").task.read(files, 0)] == ["Q0?", "Q1?", "Q2?"]


def test_questions_are_read_over_https(eval_sets: Path) -> None:
    pytest.importorskip("aiohttp")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(eval_sets)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/gsm8k/test.jsonl"
    for location in (url, f"{url}?X-Amz-Signature=s3cret/x"):
        prepared = prepare(find("gsm8k"), folder=None, named={"test": location})
        assert prepared.available == 3
        assert list(prepared.data) == ["test.jsonl"]
    with pytest.raises(TaskDataError, match=r"none\.jsonl: cannot be read") as failed:
        prepare(find("gsm8k"), folder=None, named={"test": url.replace("test", "none") + "?X-Amz-Signature=s3cret"})
    assert "s3cret" not in str(failed.value)
    server.shutdown()
    server.server_close()


def test_what_is_missing_is_named_without_credentials(eval_sets: Path, hub: str, tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match=r"found no file of the split 'test' below hf://datasets/me/sets"):
        prepare(find("svamp"), folder=hub)
    with pytest.raises(TaskDataError, match=r"hf://datasets/me/sets/gsm8k/none\.jsonl: cannot be read"):
        prepare(find("gsm8k"), folder=None, named={"test": f"{hub}/gsm8k/none.jsonl"})
    with pytest.raises(TaskDataError) as failed:
        prepare(find("gsm8k"), folder="http://me:secret@127.0.0.1:9/sets")
    assert "secret" not in str(failed.value)
    with pytest.raises(TaskDataError, match="no file system is known for nope://"):
        prepare(find("gsm8k"), folder="nope://sets")


def test_patterns_find_the_same_names_here_and_at_a_url(eval_sets: Path, bucket: str) -> None:
    upload(eval_sets, f"{bucket}/sets")
    here, there = Folder(location=str(eval_sets)), Folder(location=f"{bucket}/sets")
    for pattern in (
        "**/*",
        "*",
        "gsm8k/*",
        "**/test.jsonl",
        "**/*_test.csv",
        "mmlu/*/*.csv",
        "*/*-*.parquet",
        "mmlu/**/*",
    ):
        assert here.find(pattern) == there.find(pattern), pattern


def test_findings_of_a_build_are_read_from_s3(tmp_path: Path, bucket: str) -> None:
    (tmp_path / "report").mkdir()
    counts = {"eval_source": "e", "items": 4, "looked_for": 3, "found": 2, "train_records": 1}
    pq.write_table(pa.Table.from_pylist([counts]), tmp_path / "report/contamination.parquet")
    (tmp_path / "mix.lock.yaml").write_text(
        json.dumps(
            {"manifest": {"sources": [{"name": "e", "role": "eval"}]}, "inputs": [{"source": "e", "sha256": "0"}]}
        )
    )
    (tmp_path / "dataset.json").write_text(
        json.dumps({"fingerprint": "f", "files": {"report/contamination.parquet": {}}})
    )
    upload(tmp_path, f"{bucket}/mix")
    for place in (tmp_path, f"{bucket}/mix"):
        findings = read_findings(place)
        assert [str(found) for found in findings.of({"x": "0"})] == [
            "2 of 3 found in training data, 1 record dropped (e)"
        ]
