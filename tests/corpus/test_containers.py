"""Tars, zip archives and compressed files as tools write them yield their rows, or one message with the cause."""

import gzip
import io
import json
import re
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.discover import SourceFile, discover
from corpus.formats import archive, stream
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w

ROWS = w.pairs(3)
LINES = w.jsonl(ROWS)


def read(base: Path, path: str = ".", **keys: Any) -> dict[str, tuple[SourceFile, list[Any], FileEnd]]:
    """Everything that a source yields, by file."""
    spec = SourceSpec(name="s", path=path, **keys)
    found = {}
    for file in discover(spec, base):
        *items, end = read_pairs(spec, file)
        assert isinstance(end, FileEnd)
        found[file.path] = (file, items, end)
    return found


def pairs_of(base: Path, path: str = ".", **keys: Any) -> dict[str, int]:
    """Number of pairs of each file; nothing else may be in it."""
    found = read(base, path, **keys)
    assert all(isinstance(item, Pair) for _, items, _ in found.values() for item in items)
    return {name: len(items) for name, (_, items, _) in found.items()}


def messages(base: Path, path: str = ".") -> set[str]:
    """Messages about rows and files."""
    found = set()
    for file, items, end in read(base, path).values():
        found |= {item.detail for item in items if isinstance(item, Rejected)}
        found |= {text for text in (file.problem, end.detail) if text}
    return found


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archived:
        for name, content in members.items():
            archived.writestr(name, content)
    return sink.getvalue()


# Tars of samples


def samples(names: Sequence[str]) -> bytes:
    return w.tar([(f"{name}.{field}.txt", field.encode()) for name in names for field in ("instruction", "response")])


def test_hidden_members_of_a_tar_are_no_samples_and_are_counted(tmp_path: Path) -> None:
    members = []
    for number in range(3):
        for field in ("instruction", "response"):
            members.append((f"./set/._{number}.{field}.txt", b"\0\5\x16\7Mac OS X"))
            members.append((f"./set/{number}.{field}.txt", field.encode()))
    members += [("__MACOSX/set/0.json", b"\0"), ("set/.DS_Store", b"\0"), ("set/COUNT", b"3")]
    w.write(tmp_path / "apple.tar", w.tar(members))
    ((_, items, end),) = read(tmp_path).values()
    assert [item.instruction for item in items] == ["instruction"] * 3
    assert end.detail.startswith("8 hidden members skipped, such as './set/._0.instruction.txt'; 1 members without a")
    assert end.bytes_lost == {"skipped": 6 * 12 + 3}


@pytest.mark.parametrize(
    ("names", "suggested"),
    [
        (["llm-1.5b.sample-000", "llm-1.5b.sample-001"], "'llm-1-5b-sample-000.instruction.txt'"),
        (["v1.000", "v1.001"], "'v1-000.instruction.txt'"),
        (["2024.05.a", "2024.05.b", "2024.05.c"], "'2024-05-a.instruction.txt'"),
    ],
)
def test_rule_of_the_first_dot_is_explained_where_it_merges_samples(
    tmp_path: Path, names: list[str], suggested: str
) -> None:
    w.write(tmp_path / "dots.tar", samples(names))
    (message,) = messages(tmp_path)
    assert "WebDataset's key ends at the first dot" in message
    assert message.endswith(suggested)


def test_rule_of_the_first_dot_is_explained_for_json_members(tmp_path: Path) -> None:
    w.write(
        tmp_path / "dots.tar", w.tar([(f"v2.{n:03d}.json", json.dumps(row).encode()) for n, row in enumerate(ROWS)])
    )
    (message,) = messages(tmp_path)
    assert message.endswith("as in 'v2-000.json'")


def test_several_fields_of_a_sample_are_not_taken_for_samples(tmp_path: Path) -> None:
    fields = ("turn0.txt", "turn1.txt", "left.json", "right.json", "meta.v1.json", "meta.v2.json")
    members = [(f"{number}.{field}", b'{"text": "x"}') for number in range(2) for field in fields]
    w.write(tmp_path / "rows.tar", w.tar(members))
    keys: Any = {"map": {"instruction": "{turn0}", "response": "{turn1}"}}
    assert pairs_of(tmp_path, **keys) == {"rows.tar": 2}


@pytest.mark.parametrize("compression", ["", ".gz"])
def test_samples_whose_members_are_apart_say_so(tmp_path: Path, compression: str) -> None:
    members = [(f"{n}.{field}.txt", b"text") for field in ("instruction", "response") for n in range(2)]
    w.write(tmp_path / f"apart.tar{compression}", w.COMPRESSIONS[compression](w.tar(members)))
    ((_, items, _),) = read(tmp_path).values()
    apart = [item for item in items if isinstance(item, Rejected) and "not side by side" in item.detail]
    assert len(apart) == (2 if compression else 4)


# Archives of data files

DATA = {
    "export/README.md": b"# Data",
    "export/train.jsonl": LINES,
    "export/more/test.csv": w.delimited(ROWS, ","),
    "export/lang=de/part-0.parquet": w.parquet(ROWS),
    "export/packed.jsonl.gz": gzip.compress(LINES),
    "export/._train.jsonl": b"\0\5\x16\7",
    "export/_SUCCESS": b"",
    "__MACOSX/export/train.jsonl": LINES,
}
ARCHIVES = {
    "set.tar": w.tar(list(DATA.items())),
    "set.tar.gz": gzip.compress(w.tar(list(DATA.items()))),
    "set.tgz": gzip.compress(w.tar(list(DATA.items()))),
    "set.tar.zst": zstandard.compress(w.tar(list(DATA.items()))),
    "set.zip": zipped(DATA),
    "stored.zip": zipped(DATA, zipfile.ZIP_STORED),
    "bz2.zip": zipped(DATA, zipfile.ZIP_BZIP2),
    "lzma.zip": zipped(DATA, zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_files_of_an_archive_are_read_as_files(tmp_path: Path, name: str) -> None:
    w.write(tmp_path / name, ARCHIVES[name])
    found = read(tmp_path)
    data = {path: items for path, (_, items, end) in found.items() if end.outcome == FileOutcome.READ}
    names = ("export/lang=de/part-0.parquet", "export/more/test.csv", "export/packed.jsonl.gz", "export/train.jsonl")
    assert list(data) == [f"{name}/{inside}" for inside in names]
    for items in data.values():
        assert [(item.instruction, item.response) for item in items] == [
            (row["instruction"], row["response"]) for row in ROWS
        ]
    others = {path: file.skipped for path, (file, _, _) in found.items() if path not in data}
    assert len(others) == 4
    assert all(others.values())
    assert found[f"{name}/{names[0]}"][0].columns == (("lang", "de"),)
    assert found[f"{name}/{names[3]}"][1][0].task == f"{name}/export/train"
    excluded = read(tmp_path, exclude=["*.csv", "*.parquet", "*.jsonl.gz", "*/export/_*", "*.md", "*/__MACOSX/*"])
    assert list(excluded) == [f"{name}/export/._train.jsonl", f"{name}/{names[3]}"]
    assert [p.name for p in tmp_path.iterdir()] == [name], "reading wrote a file"


@pytest.mark.parametrize("content", [w.json_array(ROWS), w.json_object(ROWS), LINES], ids=["array", "object", "lines"])
def test_json_files_of_many_rows_in_a_tar_are_data_files(tmp_path: Path, content: bytes) -> None:
    w.write(tmp_path / "set.tar.gz", gzip.compress(w.tar([("a/train.json", content), ("a/test.json", content)])))
    assert pairs_of(tmp_path) == {"set.tar.gz/a/test.json": 3, "set.tar.gz/a/train.json": 3}


SAMPLES = w.tar_of_texts(ROWS)


def accounted(file_and_rows: tuple[SourceFile, list[Any], FileEnd]) -> FileEnd:
    """The end of a file, each of whose bytes is in a row, a named loss or its structure."""
    _, _, end = file_and_rows
    assert end.bytes_read is not None
    assert end.bytes_rows is not None
    assert end.bytes_structure is not None
    assert end.bytes_lost is not None
    assert end.bytes_read == end.bytes_rows + end.bytes_structure + sum(end.bytes_lost.values())
    return end


def test_joined_tars_are_read_to_the_last(tmp_path: Path) -> None:
    w.write(tmp_path / "samples.tar", SAMPLES + w.tar_of_json(w.pairs(5)[3:]))
    w.write(tmp_path / "files.tar", w.tar([("a.jsonl", LINES)]) + w.tar([("b.jsonl", LINES)]))
    found = read(tmp_path)
    assert {name: len(items) for name, (_, items, _) in found.items()} == {
        "files.tar/a.jsonl": 3,
        "files.tar/b.jsonl": 3,
        "samples.tar": 5,
    }
    end = accounted(found["samples.tar"])
    assert end.bytes_read == (tmp_path / "samples.tar").stat().st_size
    assert not end.bytes_lost


def test_bytes_of_a_tar_of_samples_are_accounted_for(tmp_path: Path) -> None:
    members = [
        ("0.json", b"{}"),
        ("._0.json", b"x" * 700),
        ("1.json", b"[1]"),
        ("2.a.txt", b"\xff"),
        ("N", b"3"),
    ]
    w.write(tmp_path / "samples.tar", w.tar(members))
    end = accounted(read(tmp_path)["samples.tar"])
    assert end.bytes_rows == 2
    assert end.bytes_lost == {"skipped": 701, "not_a_record": 3, "invalid_unicode": 1}
    w.write(tmp_path / "samples.tar", SAMPLES + b"noise" * 200)
    end = accounted(read(tmp_path)["samples.tar"])
    assert (end.outcome, set(end.bytes_lost or ())) == (FileOutcome.TRUNCATED, {"unread"})
    assert sum((end.bytes_lost or {}).values()) >= 1000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_byte_of_a_damaged_or_joined_tar_is_in_a_row_or_a_named_loss(data: st.DataObject, tmp_path: Path) -> None:
    whole = [SAMPLES, w.tar_of_json(ROWS), samples(["a.0", "a.1"]), w.tar([("._x", b"y" * 600), ("2.json", b"{}")])]
    parts = [bytearray(data.draw(st.sampled_from(whole))) for _ in range(data.draw(st.integers(1, 3)))]
    for part in parts:
        if data.draw(st.booleans(), "cut"):
            del part[data.draw(st.integers(0, len(part)), "at") :]
        if part and data.draw(st.booleans(), "damage"):
            at = data.draw(st.integers(0, len(part) - 1), "at")
            part[at : at + data.draw(st.integers(0, 600))] = data.draw(st.binary(max_size=9), "noise")
    content = b"".join(parts)
    (tmp_path / "rows.tar").write_bytes(content)
    source = SourceSpec(name="s", path="rows.tar", format="webdataset")
    (file,) = discover(source, tmp_path)
    *items, end = read_pairs(source, file)
    assert isinstance(end, FileEnd)
    if content and file.format == "webdataset" and file.compression is None:
        accounted((file, items, end))
        assert end.bytes_read == len(content)


def test_json_members_of_one_row_stay_samples(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    w.write(tmp_path / "chats.tar", w.tar([(f"{n}.json", json.dumps(chat).encode()) for n in range(4)]))
    w.write(tmp_path / "rows.tar", w.tar_of_json(ROWS))
    assert pairs_of(tmp_path) == {"chats.tar": 4, "rows.tar": 3}


def test_last_of_several_members_of_one_name_is_read(tmp_path: Path) -> None:
    w.write(tmp_path / "set.tar", w.tar([("a.jsonl", b"old"), ("a.jsonl", LINES)]))
    assert pairs_of(tmp_path) == {"set.tar/a.jsonl": 3}


def test_archive_on_s3_is_read(bucket: str, tmp_path: Path) -> None:
    for name in ("set.tar", "set.tar.gz", "set.zip"):
        boto3.client("s3").put_object(Bucket="millrace", Key=f"in/{name}", Body=ARCHIVES[name])
    found = read(tmp_path, f"{bucket}/in")
    assert sum(len(items) for _, items, _ in found.values()) == 3 * 4 * len(ROWS)


def test_names_that_lead_out_of_an_archive_are_refused(tmp_path: Path) -> None:
    bad = dict.fromkeys(("../up.jsonl", "/root.jsonl", "a/../../b.jsonl", "..\\c.jsonl", "C:\\d.jsonl"), LINES)
    w.write(tmp_path / "set" / "bad.zip", zipped({**bad, "dir\\good.jsonl": LINES}))
    w.write(tmp_path / "set" / "bad.tar", w.tar([*bad.items(), *((f"{n}.jsonl", LINES) for n in range(9))]))
    found = read(tmp_path, "set")
    refused = [file for file, _, _ in found.values() if file.problem]
    assert len(refused) == 10
    assert all("leads out of the archive" in str(file.problem) for file in refused)
    assert len(found["bad.zip/dir/good.jsonl"][1]) == 3
    assert {path.name for path in tmp_path.rglob("*")} == {"set", "bad.zip", "bad.tar"}


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    sink = io.BytesIO(w.tar([("a.jsonl", LINES)]))
    with tarfile.open(fileobj=sink, mode="a") as tar:
        link = tarfile.TarInfo("b.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    w.write(tmp_path / "set.tar", sink.getvalue())
    found = read(tmp_path)
    assert "link" in str(found["set.tar/b.jsonl"][0].problem)
    assert len(found["set.tar/a.jsonl"][1]) == 3


def test_encrypted_zip_member_is_refused_with_the_remedy(tmp_path: Path) -> None:
    content = bytearray(zipped({"a.jsonl": LINES}))
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset] |= 1
    w.write(tmp_path / "set.zip", bytes(content))
    assert messages(tmp_path) == {"encrypted; unpack it and name the folder (with its password)"}


def test_file_that_unpacks_to_too_much_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "_ALWAYS_ALLOWED_BYTES", 1 << 20)
    row = b'{"instruction": "a", "response": "' + b"0" * (4 << 20) + b'"}\n'
    w.write(tmp_path / "bomb.zip", zipped({"a.jsonl": row}))
    w.write(tmp_path / "bomb.tar.gz", gzip.compress(w.tar([("a.jsonl", row)])))
    w.write(tmp_path / "bomb.jsonl.gz", gzip.compress(row))
    w.write(tmp_path / "bomb.jsonl.zst", zstandard.compress(row))
    found = messages(tmp_path)
    assert len(found) >= 3
    for message in found:
        assert re.match(r"((the archive|compressed byte [\d,]+): )?unpacks to \d,", message)
        assert re.search("at most 200 times as many are read: (unpack|decompress) it", message)


def test_archive_of_too_many_files_is_refused_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    w.write(tmp_path / "many.zip", zipped({f"{n}.jsonl": LINES for n in range(6)}))
    assert messages(tmp_path) == {"the archive: holds 6 files; at most 5 are read: unpack it and name the folder"}


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (
            {"a.npy": b"\x93NUMPY\1\0" + bytes(99), "b.npy": b"\x93NUMPY\1\0" + bytes(99)},
            "2 files (.npy), none of which",
        ),
        ({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<workbook/>"}, "an Office document"),
        ({}, "a zip archive with no file"),
        ({"inner.zip": zipped({"a.jsonl": LINES})}, "an archive inside of another file"),
        ({"inner.tar.gz": gzip.compress(w.tar([("a.jsonl", LINES)]))}, "an archive inside of another file"),
    ],
)
def test_archive_without_data_says_what_it_holds(tmp_path: Path, members: dict[str, bytes], says: str) -> None:
    w.write(tmp_path / "set.zip", zipped(members))
    (message,) = messages(tmp_path)
    assert says in message


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tar.zst", "set.zip", "lzma.zip", "bz2.zip"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_archive_is_accounted_for(name: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(ARCHIVES[name])
    for _ in range(data.draw(st.integers(1, 3), "damages")):
        at = data.draw(st.integers(0, len(content)), "at")
        noise = data.draw(st.binary(max_size=8), "noise")
        content[at : at + data.draw(st.sampled_from([0, len(noise), 1 << 20]), "replaces")] = noise
    (tmp_path / name).write_bytes(bytes(content))
    for file, _, end in read(tmp_path).values():
        assert end.outcome in (FileOutcome.READ, FileOutcome.EMPTY, FileOutcome.SKIPPED_NOT_DATA) or end.detail, file


# Compression


def frame(content: bytes, window_log: int = 20) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(content) + compressor.flush()


def skippable(content: bytes, number: int = 0) -> bytes:
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + struct.pack("<I", len(content)) + content


@pytest.mark.parametrize(
    ("name", "content", "pairs"),
    [
        ("skippable-first.jsonl.zst", skippable(b"x" * 5000) + frame(LINES), 3),
        ("skippable-empty.jsonl.zst", skippable(b"") + skippable(b"a", 15) + frame(LINES), 3),
        ("skippable-between.jsonl.zst", frame(LINES) + skippable(b"abc", 7) + frame(LINES), 6),
        ("skippable-last.jsonl.zst", frame(LINES) + skippable(b"abc"), 3),
        ("long-28.jsonl.zst", frame(LINES, 28), 3),
        ("long-31.jsonl.zst", frame(LINES, 31), 3),
        ("frames.jsonl.zst", frame(LINES[:100]) + frame(b"") + frame(LINES[100:]), 3),
        ("members.jsonl.gz", gzip.compress(LINES[:100]) + gzip.compress(b"") + gzip.compress(LINES[100:]), 3),
        ("part-00000", frame(LINES), 3),
        ("part-00001", gzip.compress(LINES), 3),
        ("misleading.jsonl.gz", frame(LINES), 3),
        ("plain.jsonl.zst", LINES, 3),
        ("twice.jsonl.gz.gz", gzip.compress(gzip.compress(LINES)), 3),
        ("both.parquet.gz.zst", frame(gzip.compress(w.parquet(ROWS))), 3),
        ("long-name.csv.ZSTD", frame(w.delimited(ROWS, ",")), 3),
    ],
)
def test_compressed_file_is_read_whole(tmp_path: Path, name: str, content: bytes, pairs: int) -> None:
    w.write(tmp_path / name, content)
    assert pairs_of(tmp_path) == {name: pairs}


def test_compressed_bytes_are_read_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    w.write(tmp_path / "rows.jsonl.zst", skippable(b"x" * 20) + frame(LINES) + skippable(b"") + frame(LINES))
    for size in range(1, 40):
        monkeypatch.setattr(stream, "_ZSTD_INPUT_BYTES", size)
        assert pairs_of(tmp_path) == {"rows.jsonl.zst": 6}


def _window_of(exponent: int) -> bytes:
    content = bytearray(frame(LINES))
    content[4], content[5] = content[4] & ~0x20, (exponent - 10) << 3
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_window_of(36), "a window of 68,719,476,736 bytes; at most 2,147,483,648 are held in memory"),
        (frame(LINES)[:-5], "the zstd stream ends early: the file is cut off"),
        (skippable(b"x" * 50)[:-5], "the zstd stream ends early: the file is cut off"),
        (frame(LINES) + b"noise", "the zstd stream is damaged: found b'noise' behind a frame"),
        (frame(LINES) + frame(LINES)[:3], "the zstd stream ends early: the file is cut off"),
    ],
)
def test_zstd_stream_that_cannot_be_read_names_its_cause(tmp_path: Path, content: bytes, says: str) -> None:
    w.write(tmp_path / "rows.jsonl.zst", content)
    (message,) = messages(tmp_path)
    assert says in message


def test_zstd_dictionary_is_named(tmp_path: Path) -> None:
    parts = [json.dumps({"instruction": f"Question {n}", "response": f"{n * n}"}).encode() for n in range(3000)]
    trained = zstandard.train_dictionary(4096, [*parts])
    w.write(tmp_path / "rows.jsonl.zst", zstandard.ZstdCompressor(dict_data=trained).compress(LINES))
    (message,) = messages(tmp_path)
    assert message.startswith("compressed with a zstd dictionary")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer"),
        ("a.jsonl", b"<!DOCTYPE html>\n<html><body>404</body></html>", "a web page in place of the data"),
        ("a.jsonl.bz2", b"BZh91AY&SY", "compressed with bzip2"),
        ("a.jsonl.xz.gz", gzip.compress(b"\xfd7zXZ\0" + bytes(50)), "compressed with xz"),
    ],
)
def test_file_in_place_of_the_data_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    w.write(tmp_path / name, content)
    (message,) = messages(tmp_path)
    assert message.startswith(says)
