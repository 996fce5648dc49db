"""A build writes and deletes only files of its own, and continues its own interrupted publications."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import pytest

from corpus.contract import COMMIT, FILES, FOLDERS, PUBLISHING
from corpus.storage.location import is_url
from corpus.storage.store import Store
from pipeline.build import main
from pipeline.dataset.assemble import Assemble, Place
from pipeline.dataset.inventory import TEMPORARIES, take_inventory
from pipeline.dataset.publish import publish, read_commit
from pipeline.engine.step import BuildError
from tests.pipeline.conftest import contents

Finished = tuple[Path, Sequence[Place]]

FOREIGN = (
    "thesis.txt",
    "eval/answers.jsonl",
    "shards/shard.99999.mds",
    "report/2024/notes.txt",
    "photos/1.jpg",
    COMMIT,
)

pytestmark = pytest.mark.slow  # builds datasets


@pytest.fixture(scope="module")
def finished(dataset: Path) -> Finished:
    """The work folder of the small mix, and the files of its dataset. Do not change it."""
    work = dataset / ".work"
    (folder,) = (work / "assemble").iterdir()
    assembled = Assemble.result(work, folder.name)
    assert assembled is not None
    return work, assembled.places


@pytest.fixture(params=["local", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty location for a dataset."""
    return str(tmp_path / "out") if request.param == "local" else f"{request.getfixturevalue('bucket')}/out"


def put(out: str, name: str, content: bytes) -> None:
    filesystem, root = fsspec.core.url_to_fs(out)
    filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(f"{root}/{name}", content)


def everything(out: str) -> dict[str, bytes]:
    filesystem, root = fsspec.core.url_to_fs(out)
    filesystem.invalidate_cache()
    return {path[len(root) + 1 :]: filesystem.cat_file(path) for path in filesystem.find(root)}


def send(finished: Finished, out: str, progress: Callable[[int], None] = lambda _: None) -> None:
    publish(*finished, out, progress)


@pytest.mark.parametrize("is_built", [False, True])
def test_location_with_files_of_somebody_else_is_refused_and_left_as_it_was(
    finished: Finished, mix: Path, out: str, tmp_path: Path, is_built: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_built:
        send(finished, out)
    for name in FOREIGN:
        kept = everything(out) if is_built else {}
        put(out, name, b'{"format": "somebody-else/1", "files": {"eval/answers.jsonl": {"bytes": 4}}}')
        before = everything(out)
        with pytest.raises(BuildError, match="no dataset published there lists") as error:
            send(finished, out)
        assert name.partition("/")[0] in str(error.value)
        assert main([str(mix), "--out", out, "--work", str(tmp_path / "work")]) == 1
        assert "another --out" in capsys.readouterr().err
        assert everything(out) == before
        assert not (tmp_path / "work").exists()
        filesystem, root = fsspec.core.url_to_fs(out)
        filesystem.rm_file(f"{root}/{name}")
        if name in kept:
            put(out, name, kept[name])


def test_dataset_json_that_lists_somebody_elses_paths_is_no_licence_to_delete_them(
    finished: Finished, out: str
) -> None:
    put(out, "photos/1.jpg", b"1234")
    listed = {path: {"bytes": 4, "sha256": ""} for path in ("photos/1.jpg", "../photos/1.jpg", "/etc/hosts")}
    put(out, COMMIT, json.dumps({"format": "millrace-dataset/2", "files": listed}).encode())
    before = everything(out)
    with pytest.raises(BuildError, match="photos/"):
        send(finished, out)
    assert everything(out) == before


def test_listed_file_of_another_size_is_not_deleted(finished: Finished, out: str) -> None:
    put(out, "eval/old.jsonl", b"12345")
    listed = {"eval/old.jsonl": {"bytes": 4, "sha256": ""}}
    put(out, COMMIT, json.dumps({"format": "millrace-dataset/1", "files": listed}).encode())
    with pytest.raises(BuildError, match=r"eval/old\.jsonl \(5 bytes, expected 4\)"):
        send(finished, out)
    put(out, "eval/old.jsonl", b"1234")
    send(finished, out)
    assert "eval/old.jsonl" not in everything(out)


@pytest.mark.parametrize("name", [*FOLDERS, *FILES, "shards/shard.00000.mds", "eval/more"])
def test_links_are_not_followed(finished: Finished, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "index.json").write_text("{}")
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    with pytest.raises(BuildError, match=r"\(a link\)"):
        send(finished, str(tmp_path / "out"))
    assert [path.name for path in precious.iterdir()] == ["index.json"]
    assert link.is_symlink()


def test_root_of_the_file_system_is_no_empty_place(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"/: contains files that no dataset published there lists: .*bin"):
        take_inventory(Store("/"), tmp_path, "/")


def test_names_in_a_message_are_on_one_line(tmp_path: Path) -> None:
    put(str(tmp_path), "eval/a\n\x1b[2J.jsonl", b"x")
    with pytest.raises(BuildError, match=r"'eval/a\\n\\x1b\[2J\.jsonl'") as error:
        take_inventory(Store(str(tmp_path)), tmp_path / "work", str(tmp_path))
    assert "\n" not in str(error.value)


class CrashError(Exception):
    """Simulates the end of the process."""


def test_interrupted_publication_is_continued_and_leaves_nothing_of_the_dataset_before(
    finished: Finished, dataset: Path, out: str
) -> None:
    put(out, "eval/old.jsonl", b"1234")
    put(out, "shards/shard.00000.mds", b"123")
    listed = {"eval/old.jsonl": {"bytes": 4}, "shards/shard.00000.mds": {"bytes": 3}}
    put(out, COMMIT, json.dumps({"format": "millrace-dataset/2", "files": listed}).encode())
    for last in (0, 3, len(finished[1]) - 2, 5):
        placed = 0

        def crash(_: int, last: int = last) -> None:
            nonlocal placed
            placed += 1
            if placed > last:
                raise CrashError

        with pytest.raises(CrashError):
            send(finished, out, crash)
        assert read_commit(out) is None
        assert PUBLISHING in everything(out)
    for name in () if is_url(out) else TEMPORARIES:  # of a process that was killed
        put(out, name, b"half of a file")
    send(finished, out)
    assert everything(out) == contents(dataset)


def test_publication_that_another_program_writes_into_is_not_committed(finished: Finished, out: str) -> None:
    placed = 0

    def intrude(_: int) -> None:
        nonlocal placed
        placed += 1
        if placed == len(finished[1]) - 1:
            put(out, "shards/index.json", b"{}")

    with pytest.raises(BuildError, match=r"shards/index\.json: changed while the dataset was being published"):
        send(finished, out, intrude)
    assert read_commit(out) is None


def test_entries_of_a_bucket_are_those_of_the_folder(out: str) -> None:
    names = ("top.txt", "shards/a", "shards/deep/b", "other/c")
    for name in names:
        put(out, name, b"12")
    found = Store(out).entries(("shards", "eval"))
    assert {path: (entry.kind, entry.size) for path, entry in found.items()} == {
        "top.txt": ("file", 2),
        "shards/a": ("file", 2),
        "shards/deep/b": ("file", 2),
        "other": ("folder", 0),
    }
    assert {path: Store(out).mark(path) for path in names[:3]} == {path: found[path].mark for path in names[:3]}
