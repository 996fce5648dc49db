"""A source's entries become a sorted list of files, each with format and adapter, or the reason why it is not data."""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from corpus.config import ConfigError
from corpus.discover import SourceFile, discover
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair
from corpus.source import SourceSpec, stratum_of
from tests.corpus import write as w

LINES = w.jsonl(w.pairs(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/two.jsonl", "b/one.jsonl", "a/x.json", "a/deep/er/y.csv", "top.jsonl"):
        content = {"json": w.json_array, "csv": lambda rows: w.delimited(rows, ",")}.get(name[-4:].lstrip("."), w.jsonl)
        w.write(tmp_path / name, content(w.pairs(2)))
    return tmp_path


def found(base: Path, path: Any, **spec: Any) -> list[str]:
    return [file.path for file in discover(SourceSpec(name="s", path=path, **spec), base)]


def test_folder_is_read_recursively_and_sorted(folder: Path) -> None:
    assert found(folder, ".") == ["a/deep/er/y.csv", "a/x.json", "b/one.jsonl", "b/two.jsonl", "top.jsonl"]
    assert (
        found(folder, "b") == found(folder, "b/") == found(Path("/"), str(folder / "b")) == ["one.jsonl", "two.jsonl"]
    )


def test_glob_paths_are_relative_to_its_fixed_part(folder: Path) -> None:
    assert found(folder, "b/*.jsonl") == ["one.jsonl", "two.jsonl"]
    assert found(folder, "*/*.jsonl") == ["b/one.jsonl", "b/two.jsonl"]
    assert found(folder, "**/*.csv") == ["a/deep/er/y.csv"]
    assert found(folder, "**") == found(folder, ".")
    assert found(folder, "b/t?o.jsonl") == ["two.jsonl"]


def test_list_paths_are_relative_to_the_shared_folder(folder: Path) -> None:
    assert found(folder, ["b/one.jsonl", "a"]) == ["a/deep/er/y.csv", "a/x.json", "b/one.jsonl"]
    assert found(folder, ["b/one.jsonl", "b/*.jsonl"]) == ["one.jsonl", "two.jsonl"]


def test_base_folder_with_glob_characters_is_taken_literally(tmp_path: Path) -> None:
    w.write(tmp_path / "v[1]" / "rows.jsonl", LINES)
    assert found(tmp_path / "v[1]", "*.jsonl") == ["rows.jsonl"]
    assert found(tmp_path, "v[1]/rows.jsonl") == ["rows.jsonl"]


def test_paths_never_leave_the_source(folder: Path) -> None:
    assert found(folder / "a", "../b/*.jsonl") == ["one.jsonl", "two.jsonl"]
    assert found(folder / "a", "../b") == ["one.jsonl", "two.jsonl"]


def test_name_that_is_not_utf_8_can_be_read_and_written_to_a_ledger(tmp_path: Path) -> None:
    w.write(tmp_path / os.fsdecode(b"caf\xe9.jsonl"), LINES)
    (file,) = discover(SourceSpec(name="s", path="."), tmp_path)
    assert file.path == r"caf\xe9.jsonl"
    assert file.shown_url.encode().endswith(rb"/caf\xe9.jsonl")
    assert len(list(read_pairs(SourceSpec(name="s", path="."), file))) == 3


def test_exclude_removes_files(folder: Path) -> None:
    assert found(folder, ".", exclude=["a/*", "top*"]) == ["b/one.jsonl", "b/two.jsonl"]
    with pytest.raises(ConfigError, match="exclude leaves none of 5 files"):
        found(folder, ".", exclude=["*"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.jsonl", r"source 's': there is no no\.jsonl \(relative to .*\); correct the path"),
        ("*.parquet", r"source 's': the glob matches no file: \*\.parquet"),
    ],
)
def test_missing_files_are_errors_that_name_the_place(path: str, message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        found(folder, path)


def test_files_that_are_not_data_are_listed_with_a_reason(tmp_path: Path) -> None:
    names = [
        "LICENSE",
        "LICENSE-APACHE.txt",
        "README.md",
        "notes.txt",
        "classes.txt",
        "dataset_infos.json",
        "run.py",
        "_SUCCESS",
    ]
    for name in names:
        w.write(tmp_path / name, b'{"question": "a", "answer": "b"}' if name.endswith("json") else b"some words\n")
    w.write(tmp_path / "readme_tasks.jsonl", LINES)
    w.write(tmp_path / ".git" / "object.jsonl", LINES)
    files = discover(SourceSpec(name="s", path="."), tmp_path)
    assert {file.path for file in files if file.skipped} == {*names, ".git"}
    assert [file.path for file in files if not file.skipped] == ["readme_tasks.jsonl"]
    for path, reason in {"LICENSE": "documentation, code or a picture by its name", ".git": "a folder hidden"}.items():
        (end,) = read_pairs(SourceSpec(name="s", path="."), next(file for file in files if file.path == path))
        assert isinstance(end, FileEnd)
        assert (end.outcome, end.rows) == (FileOutcome.SKIPPED_NOT_DATA, 0)
        assert end.detail.startswith(reason)


def test_stated_format_and_adapter_are_used(tmp_path: Path) -> None:
    w.write(tmp_path / "README.md", LINES)
    (file,) = discover(SourceSpec(name="s", path=".", format="jsonl", adapter="choices"), tmp_path)
    assert (file.format, file.adapter, file.skipped) == ("jsonl", "choices", None)


def test_format_is_detected_without_reading_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    w.write(path, LINES)
    with path.open("ab") as file:
        file.truncate(1 << 40)  # a sparse tebibyte
    (found_file,) = discover(SourceSpec(name="s", path="rows"), tmp_path)
    assert (found_file.format, found_file.adapter, found_file.bytes) == ("jsonl", "pairs", 1 << 40)


def test_file_that_cannot_be_opened_is_listed_with_its_problem(tmp_path: Path) -> None:
    w.write(tmp_path / "rows.jsonl", LINES)
    (file,) = discover(SourceSpec(name="s", path="."), tmp_path)
    os.remove(tmp_path / "rows.jsonl")
    (end,) = read_pairs(SourceSpec(name="s", path="."), file)
    assert isinstance(end, FileEnd)
    assert (end.outcome, end.detail) == (FileOutcome.UNREADABLE, "the file cannot be read: No such file or directory")


@pytest.mark.parametrize(
    "name",
    [
        "_SUCCESS",
        "_committed_1234",
        "._rows.jsonl",
        ".rows.jsonl.crc",
        "_temporary/0/rows.jsonl",
        "_delta_log/00000000000000000000.json",
        ".ipynb_checkpoints/rows.jsonl",
        "__MACOSX/rows.jsonl",
        "rows.jsonl.part",
        "rows.jsonl.crdownload",
        "rows.parquet.INCOMPLETE",
        "rows.jsonl.tmp",
        "rows.jsonl.bak",
        "rows.jsonl.gz._COPYING_",
        "rows.jsonl~",
        "#rows.jsonl#",
        "~$rows.csv",
    ],
)
@pytest.mark.parametrize("format", [None, "jsonl"])
def test_hidden_and_partial_files_are_skipped_and_named(tmp_path: Path, name: str, format: str | None) -> None:
    w.write(tmp_path / "set" / name, LINES)
    w.write(tmp_path / "set" / "part-00000.jsonl", LINES)
    spec = SourceSpec(name="s", path="set", format=format)
    skipped, data = sorted(discover(spec, tmp_path), key=lambda file: file.skipped is None)
    assert skipped.path in (name, name.partition("/")[0])
    assert "by its" in str(skipped.skipped)
    assert (data.path, data.skipped) == ("part-00000.jsonl", None)
    (end,) = read_pairs(spec, skipped)
    assert isinstance(end, FileEnd)
    assert (end.outcome, end.detail) == (FileOutcome.SKIPPED_NOT_DATA, skipped.skipped)


@pytest.mark.parametrize(
    "path", ["_set/rows.jsonl.part", "_set/*.part", "_set/.rows.jsonl", "_set/.*", "_*/_rows.jsonl"]
)
def test_hidden_and_partial_files_that_an_entry_names_are_read(tmp_path: Path, path: str) -> None:
    for name in ("rows.jsonl.part", ".rows.jsonl", "_rows.jsonl"):
        w.write(tmp_path / "_set" / name, LINES)
    (file,) = discover(SourceSpec(name="s", path=path), tmp_path)
    assert (file.format, file.skipped) == ("jsonl", None)


# Columns of folders


@pytest.fixture
def partitioned(tmp_path: Path) -> Path:
    for folder in ("lang=de/year=2024", "lang=en/year=2024", "lang=a%2Fb/year=__HIVE_DEFAULT_PARTITION__"):
        w.write(tmp_path / "set" / folder / "part-0.parquet", w.parquet(w.pairs(2)))
    return tmp_path


def columns(base: Path, path: Any) -> list[dict[str, str | None]]:
    return [dict(file.columns) for file in discover(SourceSpec(name="s", path=path), base)]


def test_folders_of_a_partitioned_set_are_columns(partitioned: Path) -> None:
    expected = [
        {"lang": "a/b", "year": None},
        {"lang": "de", "year": "2024"},
        {"lang": "en", "year": "2024"},
    ]
    for path in ("set", "set/", "set/**/*.parquet", "set/lang=*", str(partitioned / "set"), "."):
        assert columns(partitioned, path) == expected, path
    for path in ("set/lang=de", "set/lang=de/*/*.parquet", "set/lang=de/year=2024/part-0.parquet"):
        assert columns(partitioned, path) == [{"lang": "de", "year": "2024"}], path


@pytest.mark.parametrize(
    ("keys", "task", "meta"),
    [
        ({"task": "column:lang"}, "de", '{"lang": "de", "year": "2024"}'),
        (
            {"map": {"instruction": "{lang}: {instruction}", "response": "{response}", "task": "{year}"}},
            "2024",
            '{"year": "2024"}',
        ),
        ({}, "lang=de/year=2024/part-0", '{"lang": "de", "year": "2024"}'),
    ],
)
def test_columns_of_folders_are_used_as_the_rows_own(partitioned: Path, keys: Any, task: str, meta: str | None) -> None:
    spec = SourceSpec(name="s", path="set", exclude=["lang=[ae]*"], **keys)
    (file,) = discover(spec, partitioned)
    pair = next(read_pairs(spec, file))
    assert isinstance(pair, Pair)
    assert (pair.task, pair.meta) == (task, meta)
    assert pair.instruction.startswith("de: ") == ("map" in keys)


def test_column_of_the_row_takes_precedence_over_that_of_the_folder(tmp_path: Path) -> None:
    w.write(tmp_path / "set" / "lang=de" / "rows.jsonl", w.jsonl([{"instruction": "a", "response": "b", "lang": "fr"}]))
    spec = SourceSpec(name="s", path="set", task="column:lang")
    pair = next(read_pairs(spec, discover(spec, tmp_path)[0]))
    assert isinstance(pair, Pair)
    assert pair.task == "fr"


# Strata


@pytest.mark.parametrize(
    ("path", "stratum"),
    [
        ("a/task.json", "a/task"),
        ("set-0.6-v1.jsonl.gz", "set-0.6-v1"),
        ("v1.5", "v1.5"),
        ("x.tar.zst", "x"),
        (".jsonl", ".jsonl"),
    ],
)
def test_stratum_is_the_path_without_suffixes(path: str, stratum: str) -> None:
    assert stratum_of(SourceSpec(name="s", path="."), path) == stratum


# Generators


def test_generator_is_split_into_virtual_files_of_one_stratum() -> None:
    spec = SourceSpec(name="g", generator="comparisons", rows=50_010, seed=3)
    files = discover(spec, Path("/nowhere"))
    assert [file.path for file in files] == ["comparisons-00000.jsonl", "comparisons-00001.jsonl"]
    rows = list(read_pairs(spec, files[1]))
    assert isinstance(rows[-1], FileEnd)
    assert rows[-1].rows == 10
    assert {row.task for row in rows if isinstance(row, Pair)} == {"comparisons"}


def test_unknown_generator_is_a_manifest_error_with_the_closest_name() -> None:
    with pytest.raises(ConfigError, match="comparisons"):
        discover(SourceSpec(name="g", generator="comparison", rows=5), Path("/"))


# URLs


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def test_web_file_is_read_and_its_credentials_are_never_shown(server: str, folder: Path) -> None:
    url = f"http://{server}/top.jsonl?token=hunter2"
    (file,) = discover(SourceSpec(name="s", path=url), folder)
    assert (file.path, file.format, file.adapter) == ("top.jsonl", "jsonl", "pairs")
    assert file.shown_url == f"http://{server}/top.jsonl"
    assert "hunter2" not in repr(file)
    assert len(list(read_pairs(SourceSpec(name="s", path=url), file))) == 3


def test_missing_web_file_is_an_error_without_credentials(server: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing at") as caught:
        discover(SourceSpec(name="s", path=f"http://user:hunter2@{server}/no.jsonl?token=hunter2"), folder)
    assert "hunter2" not in str(caught.value)


def test_unreachable_store_raises_and_is_not_a_bad_file(folder: Path) -> None:
    file = SourceFile(source="s", path="x.jsonl", url="http://u:hunter2@127.0.0.1:9/x.jsonl", bytes=1, format="jsonl")
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/x\.jsonl cannot be read") as caught:
        list(read_pairs(SourceSpec(name="s", path="x"), file))
    assert "hunter2" not in str(caught.value)
    file = SourceFile(source="s", path="x", url="http://127.0.0.1:9/x.parquet", bytes=1, format="parquet")
    with pytest.raises(OSError, match=r"cannot be read"):
        list(read_pairs(SourceSpec(name="s", path="x"), file))


def test_unknown_protocol_is_a_manifest_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch://bucket/x cannot be opened"):
        found(tmp_path, "nosuch://bucket/x")


def test_folder_glob_and_file_on_s3_are_read(bucket: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="data")
    for name, content in {
        "set/a/one.jsonl": LINES,
        "set/a/two.parquet": w.parquet(w.pairs(2)),
        "set/b/three.json.gz": w.COMPRESSIONS[".gz"](w.json_array(w.pairs(2))),
        "set/README.md": b"# A set",
    }.items():
        client.put_object(Bucket="data", Key=name, Body=content)
    spec = SourceSpec(name="s", path="s3://data/set")
    files = discover(spec, tmp_path)
    assert [file.path for file in files] == ["README.md", "a/one.jsonl", "a/two.parquet", "b/three.json.gz"]
    assert [file.format for file in files] == [None, "jsonl", "parquet", "json"]
    assert files[1].bytes == len(LINES)
    for file in files[1:]:
        *pairs, end = read_pairs(spec, file)
        assert len(pairs) == 2
        assert isinstance(end, FileEnd)
        assert end.outcome == FileOutcome.READ
    assert found(tmp_path, "s3://data/set/a/*.jsonl") == ["one.jsonl"]
    assert found(tmp_path, "s3://data/set/*/*.jsonl") == ["a/one.jsonl"]
    assert found(tmp_path, "s3://data/set/a/one.jsonl") == ["one.jsonl"]
    assert found(tmp_path, ["s3://data/set/a", "s3://data/set/b"]) == [
        "a/one.jsonl",
        "a/two.parquet",
        "b/three.json.gz",
    ]
    for path in ("s3://data/none", "s3://data/set/*.csv", "s3://nothing/x.jsonl"):
        with pytest.raises(ConfigError):
            found(tmp_path, path)


ODD_NAMES = [
    "a b.jsonl",
    "h#1.jsonl",
    "q?x=1.jsonl",
    "q?x=2.jsonl",
    "100%.jsonl",
    "%20.jsonl",
    "part-[0].jsonl",
    "plus+&=;.jsonl",
    "star*.jsonl",
    "ünï.jsonl",
    "{a,b}.jsonl",
    "a:b@c.jsonl",
    "double//slash.jsonl",
    "v[1]/x.jsonl",
]


def test_keys_on_s3_may_have_any_character(bucket: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="odd")
    for name in ODD_NAMES:
        client.put_object(Bucket="odd", Key=f"in/{name}", Body=w.jsonl([{"instruction": name, "response": "yes"}]))
    for marker in ("in/", "in/sub/", "empty/"):
        client.put_object(Bucket="odd", Key=marker, Body=b"")
    for key in ("both/data.jsonl", "both/data.jsonl/part.jsonl"):
        client.put_object(Bucket="odd", Key=key, Body=w.jsonl([{"instruction": key, "response": "yes"}]))

    def read(path: Any) -> dict[str, str]:
        spec = SourceSpec(name="s", path=path)
        return {file.shown_url: next(read_pairs(spec, file)).instruction for file in discover(spec, tmp_path)}  # type: ignore[union-attr]

    for name in ODD_NAMES:
        assert read(f"s3://odd/in/{name}") == {f"s3://odd/in/{name}": name}
    assert read("s3://odd/in/") == {f"s3://odd/in/{name}": name for name in ODD_NAMES}
    assert read("s3://odd/in/v[1]/") == {"s3://odd/in/v[1]/x.jsonl": "v[1]/x.jsonl"}
    assert found(tmp_path, "s3://odd/in/q?x=1.jsonl") == ["q?x=1.jsonl"]
    assert found(tmp_path, ["s3://odd/in/h#1.jsonl", "s3://odd/in/a:b@c.jsonl"]) == ["a:b@c.jsonl", "h#1.jsonl"]
    assert len(read("s3://odd/in/q?x=?.jsonl")) == 2
    assert read("s3://odd/both/data.jsonl") == {"s3://odd/both/data.jsonl": "both/data.jsonl"}
    assert list(read("s3://odd/both/data.jsonl/")) == ["s3://odd/both/data.jsonl/part.jsonl"]
    assert list(read("s3://odd/in/v*")) == ["s3://odd/in/v[1]/x.jsonl"]
    with pytest.raises(ConfigError, match="the folder holds no file: s3://odd/empty/"):
        found(tmp_path, "s3://odd/empty/")
    with pytest.raises(ConfigError, match=r"no file: s3://odd/in/v\[1\]/\*; in a glob, \[\[\] stands for"):
        found(tmp_path, "s3://odd/in/v[1]/*")


def test_hidden_and_partial_keys_on_s3_are_skipped_and_folders_are_columns(bucket: str, tmp_path: Path) -> None:
    client = boto3.client("s3")
    keys = ["_delta_log/0.json", "lang=de/_SUCCESS", "lang=de/part-0.jsonl", "lang=de/part-1.jsonl.tmp"]
    for key in keys:
        client.put_object(Bucket="millrace", Key=f"set/{key}", Body=LINES)
    files = discover(SourceSpec(name="s", path=f"{bucket}/set"), tmp_path)
    assert [file.path for file in files] == keys
    assert [file.skipped is None for file in files] == [False, False, True, False]
    assert files[2].columns == (("lang", "de"),)
    for path in (f"{bucket}/set/lang=de/part-0.jsonl", f"{bucket}/set/*/part-0.jsonl"):
        assert columns(tmp_path, path) == [{"lang": "de"}]


def test_folders_that_are_not_searched_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "linked").symlink_to(folder / "a")
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = SourceSpec(name="s", path=".")
    problems = {file.path: file.problem for file in discover(source, folder) if file.problem}
    assert problems["a/deep"] == "the folder cannot be read: Permission denied"
    assert "link to a folder" in str(problems["linked"])
    ends = [list(read_pairs(source, file)) for file in discover(source, folder) if file.problem]
    assert [[end.outcome for end in items if isinstance(end, FileEnd)] for items in ends] == [
        [FileOutcome.UNREADABLE],
        [FileOutcome.UNREADABLE],
    ]


@pytest.mark.parametrize("name", ["authors-qa.jsonl", "notice-board.v2.jsonl", "license-questions.jsonl"])
def test_data_whose_name_begins_like_a_licence_is_read(tmp_path: Path, name: str) -> None:
    w.write(tmp_path / name, LINES)
    (file,) = discover(SourceSpec(name="s", path=name), tmp_path)
    assert (file.format, file.skipped) == ("jsonl", None)


@pytest.mark.parametrize("name", ["LICENSE-APACHE-2.0", "LICENSE-CC-BY-4.0.txt", "README.md", "NOTICE"])
def test_licences_are_skipped_by_name(tmp_path: Path, name: str) -> None:
    w.write(tmp_path / name, b"a, b\n1, 2\n")
    (file,) = discover(SourceSpec(name="s", path=name), tmp_path)
    assert file.skipped is not None


@pytest.mark.parametrize(
    ("golds", "others", "adapter", "is_uncertain"),
    [
        ([1, 2, 3] * 20, {}, "choices", True),
        ([1, 2, 3] * 20 + [0], {}, "choices", False),
        ([1, 2, 3] * 20 + [4], {}, "choices_from_1", False),
        (["1", "2", "3"] * 20, {}, "choices", True),
        (["1", "2", "3"] * 20 + ["0"], {}, "choices_from_0", False),
        (["1", "2", "3"] * 20 + ["4"], {}, "choices", False),
        ([1, 1, 1], {"answer_text": "w"}, "choices", True),
        ([1, 1, 1], {"correct_answer": "w"}, "choices_from_1", False),
        ([1, 1, 1], {"correct_answer": "x"}, "choices", False),
        (["B", "C"], {}, "choices", False),
    ],
)
def test_numbers_of_options_count_as_the_whole_head_of_a_file_shows(
    golds: list[Any], others: dict[str, str], adapter: str, is_uncertain: bool, tmp_path: Path
) -> None:
    rows = [{"question": "q", "options": ["w", "x", "y", "z"], "answer": gold, **others} for gold in golds]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (file,) = discover(SourceSpec(name="s", path="set.jsonl"), tmp_path)
    assert (file.adapter, file.doubt is not None) == (adapter, is_uncertain)
    if file.doubt is not None:
        other = "1" if isinstance(golds[0], int) else "0"
        assert "'answer'" in file.doubt
        assert f"`adapter: choices_from_{other}`" in file.doubt


def test_files_of_a_source_that_show_what_numbers_count_from_settle_the_others(tmp_path: Path) -> None:
    def write(name: str, *golds: int) -> None:
        rows = [{"question": "q", "options": ["w", "x", "y"], "answer": gold} for gold in golds]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def found() -> list[tuple[str | None, bool]]:
        return [(file.adapter, file.doubt is None) for file in discover(SourceSpec(name="s", path="*.jsonl"), tmp_path)]

    write("a.jsonl", 1, 2)
    write("b.jsonl", 1, 3)
    assert found() == [("choices_from_1", True), ("choices_from_1", True)]
    write("c.jsonl", 0, 1)
    assert found() == [("choices", False), ("choices_from_1", True), ("choices", True)]
