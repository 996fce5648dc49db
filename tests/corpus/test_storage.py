"""Claims about the storage layer: what messages hide, what is retried, what is verified."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus.storage.retry
import corpus.storage.watch
from corpus.storage import MismatchError, StorageError
from corpus.storage.connect import open_file
from corpus.storage.location import check_scheme, is_url, local_path, normalized
from corpus.storage.redact import redact, redact_location
from corpus.storage.retry import FINAL_AFTER, retry
from corpus.storage.store import Store
from corpus.storage.watch import watched
from tests.faults import FaultyProxy


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.storage.retry, "PAUSE", 0.001)


# --- Redaction --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:p@ss@host/a/b.jsonl?X-Amz-Signature=1#frag", "https://host/a/b.jsonl"),
        ("https://key:wJal/K7@x:y/z@host/a", "https://host/a"),
        ("https://token@host/a", "https://host/a"),
        ("s3://bucket/a@b/c.jsonl", "s3://bucket/a@b/c.jsonl"),
        ("s3://bucket:9000/a/b", "s3://bucket:9000/a/b"),
        ("404 at http://u:p@host/x?token=1, url=https://host/y?key=2", "404 at http://host/x url=https://host/y"),
        ("simplecache::https://u:p@host/x?sig=1", "simplecache::https://host/x"),
        ("zip://inner.csv::https://u:p@host/x.zip?sig=1", "zip://inner.csv::https://host/x.zip"),
        ("https://host/x?GoogleAccessId=a@b.com&Signature=1", "https://host/x"),
        ("https://u:p@host/x?to=a@b.com", "https://..."),
        ("https://host/x?next=https://u:p@other/y", "https://host/x"),
        ("s3://bucket/run: listing failed", "s3://bucket/run: listing failed"),
        ("generator://sums?seed=1&rows=2", "generator://sums?seed=1&rows=2"),
        ("/local/what?.jsonl", "/local/what?.jsonl"),
        ("me@example.com, 3:1", "me@example.com, 3:1"),
    ],
)
def test_urls_are_shown_without_user_password_query_and_fragment(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(f"OSError('{text} failed')") == f"OSError('{shown} failed')"


MARKS = "QXZ"
"""Letters that only secrets contain, so that no part of a secret is found by chance."""
SECRETS = st.text(f"{MARKS}{MARKS}019/@:?#&=%+.-_~[]'\",;", min_size=1, max_size=20).map(lambda text: f"Q{text}X")
NAMES = SECRETS.map(lambda text: text.replace("/", ""))
SCHEMES = st.sampled_from(["https", "s3", "gs", "simplecache::https", "zip://inner.csv::https", "url=https", "('ftp"])
QUERIES = SECRETS.map(lambda text: f"?X-Amz-Signature={text}")
FRAGMENTS = SECRETS.map(lambda text: f"#{text}")
CREDENTIALS = st.one_of(
    NAMES.map(lambda name: f"{name}@"),
    st.tuples(NAMES, SECRETS).map(lambda pair: f"{pair[0]}:{pair[1]}@"),
    SECRETS.map(lambda secret: f":{secret}@"),
)


@given(
    SCHEMES,
    st.one_of(st.just(""), CREDENTIALS),
    st.sampled_from(["host", "host:9000", "host/a/b.json", "host:9000/a@b/c"]),
    st.one_of(st.just(""), QUERIES),
    st.one_of(st.just(""), FRAGMENTS),
    st.sampled_from(["", "404 at ", "s3://bucket/a ", "mail me@host, "]),
    st.sampled_from(["", ": failed", "') failed", " and s3://bucket/b"]),
)
def test_no_part_of_a_secret_survives_in_any_position(
    scheme: str, credentials: str, place: str, query: str, fragment: str, before: str, after: str
) -> None:
    shown = redact(f"{before}{scheme}://{credentials}{place}{query}{fragment}{after}")
    assert not set(shown) & set(MARKS)
    assert shown.startswith(f"{before}{scheme}://")
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("s3://bucket/h#1/q?x=1&y.jsonl", "s3://bucket/h#1/q?x=1&y.jsonl"),
        ("s3://bucket/a:b@c.jsonl", "s3://bucket/a:b@c.jsonl"),
        ("gs://bucket", "gs://bucket"),
        ("s3://key:sec/ret@bucket/a#1", "s3://bucket/a"),
        ("s3://token@bucket/a", "s3://bucket/a"),
        ("s3://bucket/a?X-Amz-Signature=1", "s3://bucket/a"),
        ("https://host/a?sig=1#2", "https://host/a"),
        ("/local/what?#1.jsonl", "/local/what?#1.jsonl"),
    ],
)
def test_location_keeps_its_whole_key_but_no_credentials(location: str, shown: str) -> None:
    assert redact_location(location) == shown


@given(st.text(st.characters(exclude_characters=":")))
def test_text_without_urls_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


# --- Locations --------------------------------------------------------------------------------------------------------


def test_file_urls_are_local_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "name").write_text("content")
    url = f"file://{tmp_path}"
    assert not is_url(url)
    assert (local_path(url), normalized(url)) == (tmp_path, str(tmp_path))
    with open_file(f"{url}/name") as file:
        assert file.read() == b"content"
    store = Store(url)
    assert not store.remote
    assert (store.list(), store.read("name")) == ({"name": 7}, b"content")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/x") == local_path("file://~/x") == tmp_path / "x"
    assert is_url("s3://bucket/x")
    assert is_url("simplecache::https://host/x")


def test_unknown_scheme_is_refused_without_the_password() -> None:
    with pytest.raises(ValueError, match=r"foo://host/run: no file system is known for foo://"):
        check_scheme("foo://me:secret@host/run")
    with pytest.raises(StorageError, match=r"foo://host/run: no file system is known for foo://") as error:
        Store("foo://me:secret@host/run")
    assert "secret" not in str(error.value)


def test_redaction_and_locations_import_no_library() -> None:
    code = "import sys, corpus.storage.redact, corpus.storage.location as l; l.check_scheme('/x'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fsspec", "tenacity", "asyncio", "numpy"} & set(loaded)


def test_storage_layer_imports_without_arrow_polars_and_torch() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(('pyarrow', 'polars', 'torch', 'boto3')); import corpus.storage.store"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- Retries ----------------------------------------------------------------------------------------------------------


class Failing:
    """An action that raises these errors, one a call, and then returns."""

    def __init__(self, *errors: Exception):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_failures_are_retried_and_answers_are_not() -> None:
    assert retry(Failing(OSError(), TimeoutError(), StorageError())) == "done"
    for answer in (FileNotFoundError(), PermissionError(), MismatchError(), ValueError()):
        action = Failing(answer)
        with pytest.raises(type(answer)):
            retry(action)
        assert action.calls == 1


def test_attempts_end_with_the_last_error() -> None:
    action = Failing(*(OSError(number) for number in range(9)))
    with pytest.raises(OSError, match="2"):
        retry(action, attempts=3)
    assert action.calls == 3


def test_deadline_is_kept_however_many_attempts_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.storage.retry, "LONGEST_PAUSE", 0.01)
    action = Failing(*(OSError() for _ in range(1000)))
    began = time.monotonic()
    with pytest.raises(OSError):
        retry(action, attempts=None, timeout=0.3)
    assert time.monotonic() - began < 0.5
    assert action.calls > 10


def test_answer_is_believed_after_enough_of_them() -> None:
    action = Failing(*(FileNotFoundError() for _ in range(9)))
    with pytest.raises(FileNotFoundError):
        retry(action, attempts=None, final_after=FINAL_AFTER)
    assert action.calls == FINAL_AFTER
    assert retry(Failing(MismatchError(), OSError(), FileNotFoundError()), final_after=FINAL_AFTER) == "done"


def test_stalled_action_is_abandoned_and_a_slow_one_is_not() -> None:
    moved: list[int] = []

    def slow() -> int:
        for number in range(8):
            time.sleep(0.1)
            moved.append(number)
        return len(moved)

    assert watched(slow, stall=0.4, progress=lambda: len(moved)) == 8
    released = threading.Event()
    with pytest.raises(StorageError, match="nothing came for"):
        watched(released.wait, stall=0.2)
    released.set()
    with pytest.raises(KeyError):
        watched(lambda: {}["x"], stall=1)


# --- Stores -----------------------------------------------------------------------------------------------------------


def test_store_that_has_served_is_waited_for_and_another_one_is_not(
    tmp_path: Path, bucket: str, faults: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)  # the clients' own ones, which take their time
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    file = tmp_path / "file"
    file.write_text("content")
    faults.kinds, faults.share = ("503",), 1.0
    with pytest.raises(StorageError, match="listing failed"):
        Store(f"{bucket}/run", attempts=1, timeout=60).list()
    faults.share = 0.0
    store = Store(f"{bucket}/run", attempts=1, timeout=60)
    assert store.list() == {}
    faults.share, before = 1.0, faults.counts["503"]
    upload = threading.Thread(target=store.put, args=(file, "object"))
    upload.start()
    while upload.is_alive() and faults.counts["503"] < before + 12:
        upload.join(0.01)
    faults.share = 0.0
    upload.join(60)
    store.get("object", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"
    assert store.list() == {"object": 7}


def test_folder_that_cannot_be_read_is_an_error_and_one_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "absent")).list() == {}
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "file").write_text("content")
    assert Store(f"file://{tmp_path}").list() == {"step/file": 7}
    with pytest.raises(StorageError, match="File name too long"):
        Store(str(tmp_path / ("x" * 300))).list()


def test_bucket_that_is_not_there_is_reported_before_anything_is_saved(bucket: str) -> None:
    with pytest.raises(StorageError, match="s3://no-such-bucket/run: nothing can be stored here"):
        Store("s3://no-such-bucket/run").probe()
    store = Store(f"{bucket}/run")
    store.probe()
    assert store.list() == {}


@pytest.mark.parametrize("remote", [False, True])
def test_folders_and_buckets_behave_alike(tmp_path: Path, bucket: str, remote: bool) -> None:
    store = Store(f"{bucket}/files" if remote else str(tmp_path / "files"))
    local = tmp_path / "local"
    for name in ("top", "a/one", "a/deep/two", "b/three"):
        local.write_text(name)
        store.put(local, name)
    assert store.list() == {"top": 3, "a/one": 5, "a/deep/two": 10, "b/three": 7}
    assert store.list(["a"]) == {"top": 3, "a/one": 5, "a/deep/two": 10}
    assert store.read("a/one") == store.read_confirmed("a/one") == b"a/one"
    with store.open("a/deep/two") as file:
        assert (file.seek(2), file.read(4), file.readline(), file.tell()) == (2, b"deep", b"/two", 10)
    store.delete("a/one")
    store.delete("a/one")
    assert "a/one" not in store.list()
    for action in (store.read, store.open, lambda name: store.get(name, tmp_path / "copy")):
        with pytest.raises(FileNotFoundError, match="none"):
            action("none")


def test_copy_that_fails_its_check_is_fetched_again_and_never_gets_its_name(tmp_path: Path, bucket: str) -> None:
    (tmp_path / "sent").write_text("content")
    store = Store(f"{bucket}/files")
    store.put(tmp_path / "sent", "object")
    faults = ["has 5 bytes; expected 7", "has another hash"]
    store.get("object", tmp_path / "copy", check=lambda _: faults.pop() if faults else None)
    assert (tmp_path / "copy").read_text() == "content"
    (tmp_path / "copy").unlink()
    with pytest.raises(MismatchError, match=rf"files/object: download failed after {FINAL_AFTER} attempts .*has 5 by"):
        store.get("object", tmp_path / "copy", check=lambda _: "has 5 bytes; expected 7")
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]


def test_stored_bytes_that_differ_from_those_sent_are_sent_again(
    tmp_path: Path, bucket: str, faults: FaultyProxy
) -> None:
    store = Store(f"{bucket}/files")
    faults.kinds, faults.share, faults.seed = ("corrupt",), 0.5, 1
    for number in range(6):
        (tmp_path / "sent").write_bytes(bytes(1000 * number + 1))
        store.put(tmp_path / "sent", f"{number}")
    assert faults.counts["corrupt"] > 1
    faults.share = 0.0
    assert [store.read(f"{number}") for number in range(6)] == [bytes(1000 * number + 1) for number in range(6)]


def test_listing_that_never_ends_fails_in_bounded_time_and_waiting_is_logged(
    bucket: str, faults: FaultyProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, seconds in {"REQUEST_SECONDS": 0.5, "QUIET_SECONDS": 0.0}.items():
        monkeypatch.setattr(f"corpus.storage.store.{name}", seconds)
    store = Store(f"{bucket}/run", attempts=3)
    store.write("file", b"content")
    faults.kinds, faults.share = ("stall",), 1.0
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"listing failed after 3 attempts .*nothing came for"):
        store.list()
    assert time.monotonic() - began < 30  # s3fs alone waits for minutes
    assert "listing is tried again, for" in caplog.text


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(StorageError, match=r"dataset\.json: reading failed: it is a pipe, expected a file"):
        Store(str(tmp_path)).read("dataset.json")


def test_root_of_the_file_system_is_listed_like_any_folder() -> None:
    found = Store("/").entries(())
    assert found["proc"].kind == "folder"
    assert {path.partition("/")[0] for path in found} == set(os.listdir("/"))
    assert set(Store("/").list(())) <= set(os.listdir("/"))
