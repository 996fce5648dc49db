"""Attacks on the input files of a source."""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import sqlite3
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import zstandard

from corpus.config import ConfigError
from corpus.discover import discover
from corpus.outcome import FileOutcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair
from corpus.source import SourceSpec
from tests.attacks.attack import DEEP, Attack
from tests.corpus import write as w

GOOD = w.pairs(3)
LINES = w.jsonl(GOOD)
FOUND = frozenset(
    {"200,000 columns of one name", "of 4,000 columns", "of times before all", "headers without end"}
    | {"headers without end, compressed"}
)
"""Attacks that once ended badly."""
FIRST, *REST = LINES.splitlines(keepends=True)


class RefusedError(Exception):
    """A file, or a row of it, was not read, for a reason that the build reports."""


class Source:
    """A folder of input files with three rows, read as a build does."""

    errors = (RefusedError, ConfigError)

    def __init__(self, folder: Path) -> None:
        self.sound = folder / "sound"
        (self.sound / "in").mkdir(parents=True)
        (self.sound / "in/rows.jsonl").write_bytes(LINES)

    def read(self, folder: Path) -> object:
        """Instructions and responses; `RefusedError` where a row or file has another outcome."""
        spec = SourceSpec(name="s", path="in")
        found: list[tuple[str, str]] = []
        refused: list[str] = []
        for file in discover(spec, folder):
            for item in read_pairs(spec, file):
                if isinstance(item, Pair):
                    found.append((item.instruction, item.response))
                elif isinstance(item, FileEnd):
                    if item.outcome != FileOutcome.READ:
                        refused.append(f"{file.path}: {item.outcome}: {item.detail}")
                else:
                    refused.append(f"{item.position}: {item.reason}: {item.detail}")
        if {path.name for path in folder.iterdir()} - {"in", "elsewhere"}:
            raise AssertionError("reading wrote a file")
        if refused:
            raise RefusedError(refused[0])
        return found


def _put(name: str, content: bytes, folder: Path) -> None:
    (folder / "in/rows.jsonl").unlink()
    (folder / "in" / name).write_bytes(content)


def _file(kind: str, what: str, name: str, content: bytes | Callable[[], bytes]) -> Attack:
    def damage(folder: Path) -> None:
        _put(name, content() if callable(content) else content, folder)

    return Attack(kind=kind, name=what, damage=damage)


def _place(kind: str, what: str, change: Callable[[Path], Any]) -> Attack:
    """`change` gets the folder of the files, with the sound one in it."""
    return Attack(kind=kind, name=what, damage=lambda folder: change(folder / "in") and None)


def _value(value: str) -> bytes:
    return FIRST + b'{"instruction": "What?", "response": ' + value.encode() + b"}\n" + REST[-1]


# --- JSON -------------------------------------------------------------------------------------------------------------


def _json() -> Iterator[Attack]:
    line = partial(_file, "JSON", name="rows.jsonl")
    values = {
        "nested deep": "[" * DEEP + "]" * DEEP,
        "objects nested deep": '{"a":' * DEEP + "1" + "}" * DEEP,
        "not closed": "[" * DEEP,
        "an integer of 10^6 digits": "9" * 1_000_000,
        "a float beyond all": "1e999999",
        "NaN": "NaN",
        "Infinity": "-Infinity",
        "nan": "nan",
        "a lone surrogate": r'"\ud800"',
        "surrogates in the wrong order": r'"\udc00\ud800"',
        "half an escape": r'"\u12"',
        "an unknown escape": r'"\x41"',
        "a raw control character": '"\x01"',
        "a raw line separator in a name": '"x", "\u2028": 1, "\u2028": 2',
        "single quotes": "'x'",
        "an object for text": '{"$ref": "#/0"}',
        "a hexadecimal number": "0x10",
        "a number with a leading zero": "007",
        "a plus sign": "+1",
        "a comment": '"x" /* y */',
        "a comma behind": '"x",',
        "the key twice": '"x", "response": "y"',
        "the key twice, once escaped": r'"x", "r\u0065sponse": "y"',
        "undefined": "undefined",
        "an empty list": "[]",
    }
    for what, value in values.items():
        yield line(what, content=_value(value))
    yield line("cut in a character", content=LINES + '{"instruction": "é'.encode()[:-1])
    yield line("an overlong sequence", content=FIRST + b'{"instruction": "\xc0\xaf", "response": "x"}\n')
    yield line("a surrogate in UTF-8", content=FIRST + b'{"instruction": "\xed\xa0\x80", "response": "x"}\n')
    yield line("above U+10FFFF", content=FIRST + b'{"instruction": "\xf4\x90\x80\x80", "response": "x"}\n')
    yield line("a line of zeros", content=FIRST + b"\0" * 100_000 + b"\n" + b"".join(REST))
    yield line("a file of zeros", content=b"\0" * 100_000)
    yield line("two rows in a line", content=FIRST.strip() + b" " + b"".join(REST))
    yield line("a comma between lines", content=b",\n".join(LINES.splitlines()))
    yield line("no line end at the end", content=LINES.rstrip())
    yield line("CRLF", content=LINES.replace(b"\n", b"\r\n"))
    yield line("CR", content=LINES.replace(b"\n", b"\r"))
    yield line("blank lines", content=LINES.replace(b"\n", b"\n\n \t\n"))
    yield line("a record separator (RFC 7464)", content=b"".join(b"\x1e" + one for one in LINES.splitlines(True)))
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-7"):
        yield line(f"in {encoding}", content=LINES.decode().encode(encoding))
    yield line("a mark of UTF-16 before UTF-8", content=b"\xff\xfe" + LINES)
    yield line("the mark twice", content=b"\xef\xbb\xbf" * 2 + LINES)
    yield line("a mark in the middle", content=FIRST + b"\xef\xbb\xbf" + b"".join(REST))
    yield line("two encodings", content=FIRST + b"".join(REST).decode().encode("utf-16"))
    array = partial(_file, "JSON", name="rows.json")
    sound = w.json_array(GOOD)
    for what, content in {
        "an array without its end": sound.rstrip()[:-1],
        "an array in an array": b"[" + sound + b"]",
        "an array with a comma at its end": sound.rstrip()[:-1] + b",]",
        "an array nested deep": b"[" * DEEP + sound + b"]" * DEEP,
        "an object nested deep": b'{"a":' * DEEP + sound + b"}" * DEEP,
        "an array of numbers": b"[1, 2, 3]",
        "lists of rows under two names": b'{"train": ' + sound + b', "test": ' + sound + b"}",
        "a key of a million characters": b'{"' + b"k" * 1_000_000 + b'": ' + sound + b"}",
        "a string": b'"' + b"x" * 100 + b'"',
        "columns": json.dumps({name: [row[name] for row in GOOD] for name in GOOD[0]}).encode(),
    }.items():
        yield array(what, content=content)


# --- Tables as text ---------------------------------------------------------------------------------------------------


def _delimited() -> Iterator[Attack]:
    line = partial(_file, "CSV", name="rows.csv")
    sound = w.delimited(GOOD, ",")
    head, *rows = sound.splitlines(keepends=True)
    for what, content in {
        "a quote that is not closed": head + rows[0] + b'"x,' + b"y" * 1000 + b"\r\n" + rows[1],
        "text behind a quote": head + b'"a"b,c\r\n' + rows[1],
        "a line end in quotes": head + b'"a\nb","c\r\nd"\r\n"a\nb\r\n' + rows[1],
        "too many cells": head + b"a,b,c\r\n" + rows[1],
        "too few cells": head + b"a\r\n" + rows[1],
        "a name twice": b"instruction,response,response\r\n" + b"a,b,c\r\n",
        "no header": b"".join(rows),
        "200,000 columns of one name": b",".join([b"c"] * 200_000) + b"\r\n",
        "a cell of 70 MB": head + b"a," + b"x" * 70_000_000 + b"\r\n" + rows[1],
        "a zero byte": head + b"a\0,b\r\n" + rows[1],
        "Latin-1": head + "é,ü\r\n".encode("latin-1") + rows[1],
        "sep=": b"sep=,\r\n" + sound,
        "semicolons": sound.replace(b",", b";"),
        "tabs": sound.replace(b",", b"\t"),
        "bars": sound.replace(b",", b"|"),
        "UTF-16": sound.decode().encode("utf-16"),
        "a mark": b"\xef\xbb\xbf" + sound,
        "CR": sound.replace(b"\r\n", b"\r"),
        "spaces around names": sound.replace(b"instruction,response", b" instruction , response "),
        "capitals in names": sound.replace(b"instruction,response", b"Instruction,RESPONSE"),
        "a comment at the top": b"# rows\r\n" + sound,
        "a footer": sound + b"3 rows\r\n",
    }.items():
        yield line(what, content=content)


def _yaml() -> Iterator[Attack]:
    line = partial(_file, "YAML", name="rows.yaml")
    sound = w.yaml_list(GOOD)
    bomb = "\n".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(20))
    for what, text in {
        "aliases": f"- instruction: a\n{bomb}\n  response: b\n",
        "an alias for text": "- instruction: &a x\n  response: *a\n",
        "an alias of another row": "- &a {instruction: x, response: y}\n- *a\n",
        "a merge key": "- instruction: x\n  <<: {response: y}\n",
        "merge keys": "- instruction: x\n  <<: [{response: y}, {response: z}]\n",
        "itself": "- instruction: &a [*a]\n  response: b\n",
        "a tag of Python": "- instruction: !!python/object/apply:os.system ['true']\n  response: x\n",
        "a tag of Python for a name": "- !!python/name:os.system \n  instruction: x\n",
        "an unknown tag": "- instruction: !x a\n  response: b\n",
        "binary": "- instruction: !!binary aGVsbG8=\n  response: b\n",
        "a set": "- instruction: !!set {a, b}\n  response: b\n",
        "the key twice": "- instruction: a\n  response: b\n  response: c\n",
        "a tab": "-\tinstruction: a\n\tresponse: b\n",
        "a list for a key": "- ? [a]\n  : b\n",
        "an include": "- !include /etc/passwd\n",
        "NaN": "- instruction: .nan\n  response: .inf\n",
        "a directive": "%YAML 9.9\n---\n" + sound.decode(),
        "nested deep": "- instruction: " + "[" * DEEP + "\n",
        "mappings nested deep": "- " + "{a: " * 20_000 + "\n",
        "a long scalar": "- instruction: a\n  response: |\n" + "    x\n" * 500_000 + "- [\n",
    }.items():
        yield line(what, content=text.encode())
    yield line("UTF-16", content=sound.decode().encode("utf-16"))
    yield line("a zero byte", content=sound + b"- instruction: \0\n  response: a\n")


# --- Parquet and Arrow ------------------------------------------------------------------------------------------------


def _texts(kind: pa.DataType) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in GOOD], kind) for name in GOOD[0]})


def _parquet_of(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _arrow_of(table: pa.Table, new: Callable[..., Any] = pa.ipc.new_stream, **options: Any) -> bytes:
    sink = io.BytesIO()
    with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _offsets(offsets: Sequence[int], data: bytes, kind: pa.DataType) -> bytes:
    form = "q" if kind == pa.large_string() else "i"
    sound = struct.pack(f"<{len(offsets)}{form}", *(0, 4, 6)[: len(offsets)])
    texts = pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(sound), pa.py_buffer(data)])
    content = _arrow_of(pa.table({"instruction": pa.array(["a"] * len(texts)), "response": texts}))
    assert content.count(sound) == 1
    return content.replace(sound, struct.pack(f"<{len(offsets)}{form}", *offsets))


def _tables() -> Iterator[Attack]:
    kinds: dict[str, pa.Table] = {
        "large": _texts(pa.large_string()),
        "view": _texts(pa.string_view()),
        "binary": _texts(pa.binary()),
        "dictionary": pa.table({name: _texts(pa.string())[name].dictionary_encode() for name in GOOD[0]}),
        "null": pa.table({"instruction": ["a"], "response": pa.nulls(1)}),
        "numbers": pa.table({"instruction": [1, 2], "response": [1.5, float("nan")]}),
        "times before all": pa.table({"instruction": ["a"], "response": pa.array([-(2**62)], pa.timestamp("us"))}),
        "decimals": pa.table({"instruction": ["a"], "response": pa.array([None], pa.decimal256(76, 70))}),
        "maps": pa.table({"instruction": ["a"], "response": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))}),
        "lists": pa.table({"instruction": ["a"], "response": pa.array([[["x"]]])}),
        "no columns": pa.table({}),
        "no rows": _texts(pa.string()).slice(0, 0),
        "a name twice": pa.Table.from_arrays([pa.array(["a"])] * 3, ["instruction", "response", "response"]),
        "an empty name": pa.Table.from_arrays([pa.array(["a"])] * 2, ["", "response"]),
        "4,000 columns": pa.table({f"c{n}": ["x"] for n in range(4000)}),
        "metadata": _texts(pa.string()).replace_schema_metadata({"pandas": "{" * 1000, "ARROW:schema": "x", "\0": "y"}),
        "metadata of Hugging Face": _texts(pa.string()).replace_schema_metadata({"huggingface": "[" * 1000}),
    }
    for what, table in kinds.items():
        yield _file("Parquet", f"of {what}", "rows.parquet", partial(_parquet_of, table))
        yield _file("Arrow", f"of {what}", "rows.arrow", partial(_arrow_of, table))
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array(["x"])])
    view = pa.array([["x"]], pa.list_view(pa.string()))
    for what, array in {"a union": union, "a list view": view}.items():
        batch = pa.table({"response": array})
        yield _file("Arrow", f"of {what}", "rows.arrow", partial(_arrow_of, batch))
    for what, offsets in {
        "offsets beyond the end": (0, 2**31 - 1),
        "offsets below zero": (-5, 3),
        "offsets that decrease": (3, 0, 2),
    }.items():
        yield _file("Arrow", what, "rows.arrow", partial(_offsets, offsets, b"abcdef", pa.string()))
        yield _file("Arrow", f"large {what}", "rows.arrow", partial(_offsets, offsets, b"abcdef", pa.large_string()))
    for compression in ("lz4", "zstd"):
        packed = _arrow_of(pa.table({"instruction": ["a" * 4096] * 9, "response": ["b"] * 9}), compression=compression)
        at = packed.index(struct.pack("<q", 9 * 4096))
        for size in (-1, 2**40, 2**62):
            content = packed[:at] + struct.pack("<q", size) + packed[at + 8 :]
            yield _file("Arrow", f"{compression} that claims {size}", "rows.arrow", content)
    sound = w.parquet(GOOD)
    footer = int.from_bytes(sound[-8:-4], "little")
    for what, content in {
        "a footer of 4 GB": sound[:-8] + b"\xff\xff\xff\xff" + sound[-4:],
        "a footer of 0 bytes": sound[:-8] + bytes(4) + sound[-4:],
        "an encrypted footer": sound[:-4] + b"PARE",
        "a footer of noise": sound[: -8 - footer] + b"\xff" * footer + sound[-8:],
        "a footer of zeros": sound[: -8 - footer] + b"\0" * footer + sound[-8:],
        "a footer of lists": sound[: -8 - footer] + b"\x19\xff\xff\xff\xff\x0f" * (footer // 6) + sound[-8:],
        "without its begin": b"XXXX" + sound[4:],
        "only marks": b"PAR1" + bytes(4) + b"PAR1",
        "pages of zeros": sound[:4] + bytes(len(sound) - footer - 12) + sound[-8 - footer :],
    }.items():
        yield _file("Parquet", what, "rows.parquet", content)


# --- Compression and archives -----------------------------------------------------------------------------------------


def _zip_of(members: Sequence[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name twice
        for name, content in members:
            archive.writestr(name, content)
    return sink.getvalue()


def _zip_info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def _tar_of(*members: tuple[str, bytes, bytes, str], size: int | None = None) -> bytes:
    """Members of name, type, content, target of a link."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content, target in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(content) if size is None else size
            sink.write(info.tobuf(tarfile.GNU_FORMAT))
            sink.write(content + bytes(-len(content) % 512))
            archive.offset = sink.tell()
    return sink.getvalue()


def _compressed() -> Iterator[Attack]:
    packed = gzip.compress(LINES, mtime=0)
    squeezed = zstandard.ZstdCompressor().compress(LINES)
    zeros = 300 << 20
    for what, name, content in (
        ("gzip cut", "rows.jsonl.gz", packed[:-9]),
        ("gzip with a flipped bit", "rows.jsonl.gz", packed[:40] + bytes([packed[40] ^ 8]) + packed[41:]),
        ("gzip with noise behind", "rows.jsonl.gz", packed + b"noise"),
        ("gzip with zeros behind", "rows.jsonl.gz", packed + bytes(1000)),
        ("gzip with a path in it", "rows.jsonl.gz", packed[:3] + b"\x08" + packed[4:10] + b"../../x\0" + packed[10:]),
        ("gzip in gzip in gzip", "rows.jsonl.gz", gzip.compress(gzip.compress(packed))),
        ("gzip in gzip, named", "rows.jsonl.gz.gz", gzip.compress(packed)),
        ("gzip with another suffix", "rows.jsonl", packed),
        ("zlib", "rows.jsonl.gz", zlib.compress(LINES)),
        ("zstd cut", "rows.jsonl.zst", squeezed[:-3]),
        ("zstd of a window of 3.75 TB", "rows.jsonl.zst", b"\x28\xb5\x2f\xfd\x00\xff" + bytes(50)),
        ("zstd of a window of 2 GB", "rows.jsonl.zst", b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(50)),
        ("zstd with a dictionary", "rows.jsonl.zst", b"\x28\xb5\x2f\xfd\x03\x58\1\2\3\4" + bytes(50)),
        ("zstd that skips 4 GB", "rows.jsonl.zst", b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + squeezed),
        ("zstd that skips nothing a thousand times", "rows.jsonl.zst", b"\x50\x2a\x4d\x18\0\0\0\0" * 1000 + squeezed),
        ("xz", "rows.jsonl.xz", lzma.compress(LINES)),
        ("bzip2", "rows.jsonl.bz2", bz2.compress(LINES)),
        ("lz4", "rows.jsonl.lz4", b"\x04\x22\x4d\x18" + LINES),
        ("brotli", "rows.jsonl.br", b"\x0b\x02\x80abc\x03"),
        ("snappy", "rows.jsonl.snappy", b"\xff\x06\x00\x00sNaPpY" + LINES),
        ("Unix compress", "rows.jsonl.Z", b"\x1f\x9d\x90" + LINES),
        ("7z", "rows.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50)),
        ("rar", "rows.rar", b"Rar!\x1a\x07\x01\x00" + bytes(50)),
    ):
        yield _file("compression", what, name, content)
    yield _file("bomb", "gzip of 300 MB of zeros", "rows.jsonl.gz", lambda: gzip.compress(bytes(zeros), 1))
    yield _file(
        "bomb", "zstd of 300 MB of zeros", "rows.jsonl.zst", lambda: zstandard.ZstdCompressor().compress(bytes(zeros))
    )
    yield _file("bomb", "zip of 300 MB of zeros", "a.zip", lambda: _zip_of([("rows.jsonl", bytes(zeros))]))
    yield _file(
        "bomb", "gzip in gzip of zeros", "rows.jsonl.gz", lambda: gzip.compress(gzip.compress(bytes(zeros), 9), 9)
    )
    yield _file(
        "bomb",
        "Parquet of one text 300,000 times",
        "rows.parquet",
        lambda: _parquet_of(
            pa.table({"response": pa.DictionaryArray.from_arrays(pa.array(bytes(300_000), pa.int8()), ["x" * 1000])})
        ),
    )


def _zips() -> Iterator[Attack]:
    inside = ("rows.jsonl", LINES)
    sound = _zip_of([inside])
    forged = sound.replace(struct.pack("<I", len(LINES)), struct.pack("<I", 2**31))
    crc = struct.pack("<I", zlib.crc32(LINES))
    for what, content in {
        "a path upwards": _zip_of([("../../rows.jsonl", LINES)]),
        "an absolute path": _zip_of([("/etc/rows.jsonl", LINES)]),
        "a path with backslashes": _zip_of([("..\\..\\rows.jsonl", LINES)]),
        "a drive": _zip_of([("C:\\rows.jsonl", LINES)]),
        "a name of control characters": _zip_of([("\x1b[2J\n.jsonl", LINES)]),
        "a name of 60,000 characters": _zip_of([("x" * 60_000 + ".jsonl", LINES)]),
        "an empty name": _zip_of([("x", LINES)]).replace(b"x", b""),
        "a name twice": _zip_of([inside, inside]),
        "a link": _zip_of([(_zip_info("rows.jsonl", 0o120777), b"/etc/passwd")]),
        "a device": _zip_of([(_zip_info("rows.jsonl", 0o020666), LINES)]),
        "a zip in it": _zip_of([("inner.zip", sound)]),
        "a tar in it": _zip_of([("inner.tar", w.tar([inside]))]),
        "a wrong checksum": sound.replace(crc, b"\1\2\3\4"),
        "a forged size": forged,
        "an unknown method": sound.replace(b"\x08\x00", b"\x63\x00"),
        "a flag for encryption": sound.replace(b"PK\1\2\x14\x03\x14\x00\x00", b"PK\1\2\x14\x03\x14\x00\x01"),
        "no directory": sound[: sound.index(b"PK\1\2")],
        "a directory beyond the end": sound[:-6] + b"\xff\xff\xff\x7f\0\0",
        "noise before it": b"noise" * 99 + sound,
        "1,001 files": _zip_of([(f"{n}.jsonl", b"") for n in range(1001)]),
        "no file": _zip_of([]),
        "bzip2 in it": _zip_of([inside], zipfile.ZIP_BZIP2),
        "lzma in it": _zip_of([inside], zipfile.ZIP_LZMA),
        "gzip in it": _zip_of([("rows.jsonl.gz", gzip.compress(LINES))]),
    }.items():
        yield _file("zip", what, "rows.zip", content)


def _tars() -> Iterator[Attack]:
    plain, texts = tarfile.REGTYPE, w.tar_of_texts(GOOD)
    pax = b"30 path=../../../etc/rows.jsonl\n"
    end = bytes(1024)
    for what, content in {
        "a path upwards": w.tar([("../../rows.jsonl", LINES)]),
        "an absolute path": w.tar([("/etc/rows.jsonl", LINES)]),
        "a symbolic link": _tar_of(("rows.jsonl", tarfile.SYMTYPE, b"", "/etc/passwd")) + end,
        "a hard link": _tar_of(("rows.jsonl", tarfile.LNKTYPE, b"", "/etc/passwd")) + end,
        "a link to itself": _tar_of(("rows.jsonl", tarfile.LNKTYPE, b"", "rows.jsonl")) + end,
        "a link and a file": _tar_of(("d", tarfile.SYMTYPE, b"", "/tmp"), ("d/rows.jsonl", plain, LINES, "")) + end,
        "a link as a sample": _tar_of(
            ("0.instruction.txt", plain, b"a", ""), ("0.response.txt", tarfile.SYMTYPE, b"", "/etc/passwd")
        )
        + end,
        "a device": _tar_of(("0.json", tarfile.CHRTYPE, b"", "")) + end,
        "a pipe": _tar_of(("0.json", tarfile.FIFOTYPE, b"", "")) + end,
        "a sparse file": _tar_of(("rows.jsonl", tarfile.GNUTYPE_SPARSE, LINES, "")) + end,
        "an unknown type": _tar_of(("0.json", b"Q", FIRST, "")) + end,
        "a file of 2^60 bytes": _tar_of(("rows.jsonl", plain, LINES, ""), size=2**60) + end,
        "a file of -1 bytes": _tar_of(("rows.jsonl", plain, LINES, ""), size=-1) + end,
        "a sample of 2^60 bytes": _tar_of(("0.json", plain, LINES, ""), size=2**60) + end,
        "a sample of -512 bytes": _tar_of(("0.json", plain, FIRST, ""), size=-512) + end,
        "a header of PAX": _tar_of(("h", tarfile.XHDTYPE, pax, ""), ("rows.jsonl", plain, LINES, "")) + end,
        "a header of PAX of noise": _tar_of(("h", tarfile.XHDTYPE, b"\xff" * 99, ""), ("a.jsonl", plain, LINES, ""))
        + end,
        "a header of PAX with a size": _tar_of(
            ("h", tarfile.XHDTYPE, b"30 size=99999999999999999999\n", ""), ("0.json", plain, FIRST, "")
        )
        + end,
        "headers without end": _tar_of(*[("l", tarfile.GNUTYPE_LONGNAME, b"x" * 600, "")] * 2000) + end,
        "a long name of 100 MB": _tar_of(("l", tarfile.GNUTYPE_LONGNAME, b"x" * 600, ""), size=100 << 20) + end,
        "a wrong checksum": texts[:148] + b"0000000\0" + texts[156:],
        "noise behind": texts + b"noise" * 999,
        "two joined": w.tar_of_texts(GOOD[:1]) + w.tar_of_texts(GOOD[1:]),
        "a tar in it": w.tar([("inner.tar", texts)]),
        "a pickle": w.tar([("0.instruction.txt", b"a"), ("0.response.pyd", b"cos\nsystem\n(S'true'\ntR.")]),
        "a name of control characters": w.tar([("\x1b[2J.jsonl", LINES)]),
        "a name that is not UTF-8": _tar_of(("0.json", plain, FIRST, "")).replace(b"0.json", b"\xff.json") + end,
        "1,001 files": w.tar([(f"{n}.jsonl", FIRST) for n in range(1001)]),
    }.items():
        yield _file("tar", what, "rows.tar", content)
        if what in ("a path upwards", "a symbolic link", "a file of 2^60 bytes", "headers without end"):
            yield _file("tar", f"{what}, compressed", "rows.tar.gz", gzip.compress(content))


# --- Other formats and places -----------------------------------------------------------------------------------------


def _database() -> bytes:
    with sqlite3.connect(":memory:") as base:
        base.execute("create table rows (instruction, response)")
        return base.serialize()


def _others() -> Iterator[Attack]:
    sheet = _zip_of([("[Content_Types].xml", b"<x/>"), ("xl/workbook.xml", b"<x/>"), ("xl/s.xml", b"<x/>")])
    for name, content in {
        "rows.xlsx": sheet,
        "rows.docx": _zip_of([("[Content_Types].xml", b"<x/>"), ("word/document.xml", b"<x/>")]),
        "rows.npz": _zip_of([("a.npy", b"\x93NUMPY\1\0")]),
        "rows.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(500),
        "rows.html": b"<!doctype html><script>alert(1)</script>",
        "rows.xml": b'<!DOCTYPE x [<!ENTITY a "aaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        "rows.pkl": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "rows.npy": b"\x93NUMPY\1\0v\0{'descr': '|O'}",
        "rows.h5": b"\x89HDF\r\n\x1a\n" + bytes(500),
        "rows.db": _database(),
        "rows.avro": b"Obj\x01" + bytes(500),
        "rows.orc": b"ORC" + bytes(500) + b"ORC",
        "rows.elf": b"\x7fELF" + bytes(500),
        "rows.feather": b"FEA1" + bytes(500) + b"FEA1",
        "rows.safetensors": struct.pack("<Q", 2) + b"{}",
        "rows.tfrecord": struct.pack("<QI", 5, 1) + b"hello" + bytes(4),
        "rows.mds": bytes(500),
        "rows.toml": b'[[rows]]\ninstruction = "a"\nresponse = "b"\n',
        "rows.py": b"rows = [1]\n",
        "rows.ipynb": b'{"cells": [], "nbformat": 4}',
        "rows": b"\x00\x01",
        ".jsonl": LINES,
    }.items():
        yield _file("other format", name, name, content)
    for name in (
        "rows.parquet",
        "rows.arrow",
        "rows.csv",
        "rows.tar",
        "rows.zip",
        "rows.yaml",
        "rows.json",
        "rows.zst",
    ):
        yield _file("other format", f"JSON lines as {name}", name, LINES)
        yield _file("other format", f"nothing as {name}", name, b"")


def _names() -> Iterator[Attack]:
    for what, name in {
        "a line end": "ro\nws.jsonl",
        "control sequences": "\x1b]0;x\x07\x1b[2J.jsonl",
        "markup": "<script>alert(1)<script>.jsonl",
        "markup of rich": "[red]rows[bold].jsonl",
        "a quote": "'\";$(true)`true`.jsonl",
        "a wildcard": "*?[a]{b,c}**.jsonl",
        "255 bytes": "x" * 249 + ".jsonl",
        "right to left": "\u202ejsonl.exe.jsonl",
        "not UTF-8": os.fsdecode(b"\xff\xfe.jsonl"),
        "a hyphen": "--help.jsonl",
        "a blank": " .jsonl",
        "a colon": "s3:x::y.jsonl",
        "a fragment": "rows#1?x=y&z.jsonl",
        "percent": "%2e%2e%2frows.jsonl",
        "an environment variable": "$HOME~.jsonl",
        "decomposed": "cafe\u0301.jsonl",
        "the other case": "ROWS.JSONL",
    }.items():
        yield _file("name", what, name, LINES)


def _socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s.jsonl")
    finally:
        os.chdir(here)


def _places() -> Iterator[Attack]:
    def link(target: str, name: str = "link.jsonl") -> Callable[[Path], None]:
        return lambda folder: (folder / name).symlink_to(target)

    def loop(folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "a/b").symlink_to(folder)

    def deep(folder: Path) -> None:
        path = folder.joinpath(*["d" * 200] * 15)
        path.mkdir(parents=True)
        (folder / "rows.jsonl").rename(path / "rows.jsonl")

    for what, change in {
        "a pipe": lambda folder: os.mkfifo(folder / "p.jsonl"),
        "a socket": _socket,
        "a link to nowhere": link("nowhere"),
        "a link to itself": link("link.jsonl"),
        "a link to a device without end": link("/dev/zero"),
        "a link to an empty device": link("/dev/null"),
        "a link to a terminal": link("/dev/tty"),
        "a link to the memory of the process": link("/proc/self/mem"),
        "a link to a file of the system": link("/proc/self/environ"),
        "a link to the folder": link(".", "again"),
        "a folder that contains itself": loop,
        "a link to a folder of the system": link("/sys/kernel", "more"),
        "folders of 3,000 characters": deep,
        "a folder with the name of a file": lambda folder: (folder / "x.jsonl").mkdir(),
    }.items():
        yield _place("place", what, change)


def attacks() -> list[Attack]:
    """All attacks."""
    parts = (_json, _delimited, _yaml, _tables, _compressed, _zips, _tars, _others, _names, _places)
    return [attack for part in parts for attack in part()]
